"""Tests of the store: writes in groups, faults of the disk, and the messages when the database cannot be used.

Upgrades of older versions are tested in `test_upgrade.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store import sqlite
from grid.service.store.database import Database
from grid.service.store.faults import DatabaseUnavailable, StatementFailed, fault_of
from grid.service.store.tables import clusters
from grid.service.system import failpoints
from grid.service.system.settings import OptionError, TryLater
from tests.support.disks import read_only, read_only_file


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new database."""
    opened = Database(f"sqlite:///{tmp_path / 'grid.sqlite3'}")
    yield opened
    opened.close()


def add(name: str, fail: bool = False):
    """Return statements that insert a cluster, and fail afterwards if they are told to."""

    def statements(connection: Connection) -> str:
        connection.execute(sa.insert(clusters).values(name=name, paused=False))
        if fail:
            raise ArithmeticError(name)
        return name

    return statements


def names(connection: Connection) -> list[str]:
    """The names of all clusters."""
    return list(connection.scalars(sa.select(clusters.c.name).order_by(clusters.c.name)))


def transactions(connection: Connection) -> int:
    """How often SQLite's file has changed: once for each transaction."""
    return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())


class Gate:
    """A write that keeps the writer busy until the gate is opened, so that what follows waits and becomes one group."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, _: Connection) -> None:
        """Wait."""
        self.entered.set()
        assert self.open.wait(60)


async def as_one_group(database: Database, *writes, cancelled: int | None = None) -> list[object]:
    """Request writes while the writer is busy; return the result of each."""
    gate = Gate()
    first = asyncio.create_task(database.write(gate))
    await asyncio.to_thread(gate.entered.wait, 30)
    tasks = [asyncio.create_task(database.write(write)) for write in writes]
    await asyncio.sleep(0)  # so that each has asked
    if cancelled is not None:
        tasks[cancelled].cancel()
        await asyncio.sleep(0)
    gate.open.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_is_written_can_be_read(database: Database) -> None:
    """A write is committed when it returns, and returns what its statements returned."""

    async def play() -> None:
        assert await database.write(add("a")) == "a"
        assert await database.read(names) == ["a"]

    asyncio.run(play())


def test_one_that_fails_undoes_itself_alone(database: Database) -> None:
    """Of a group of writes the one that fails is undone and raises; the others are committed."""

    async def play() -> None:
        outcomes = await as_one_group(database, add("a"), add("b", fail=True), add("a"), add("c"))
        assert outcomes[0] == "a"
        assert isinstance(outcomes[1], ArithmeticError)
        assert isinstance(outcomes[2], StatementFailed)
        assert isinstance(outcomes[2].__cause__, sa.exc.IntegrityError)
        assert outcomes[3] == "c"
        assert await database.read(names) == ["a", "c"]

    asyncio.run(play())


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_statement_that_is_wrong(database: Database, way: str) -> None:
    """What the database says about a statement is raised as our own error, even to a write alone in its transaction."""
    with pytest.raises(StatementFailed, match="no such table"):
        asyncio.run(getattr(database, way)(lambda connection: connection.execute(sa.text("SELECT * FROM missing"))))


def test_cancelled_caller_writes_nothing(database: Database) -> None:
    """A write whose caller was cancelled before its turn is left out, and the others are not."""

    async def play() -> None:
        outcomes = await as_one_group(database, add("a"), add("b"), add("c"), cancelled=1)
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert await database.read(names) == ["a", "c"]

    asyncio.run(play())


def test_a_group_is_one_transaction(database: Database) -> None:
    """Writes that wait are committed together, in the order in which they were asked for."""
    order: list[str] = []

    def noting(name: str):
        def statements(connection: Connection) -> None:
            order.append(name)
            add(name)(connection)

        return statements

    async def play() -> None:
        commits: list[object] = []
        sa.event.listen(database.engine, "commit", commits.append)
        await as_one_group(database, *(noting(f"{number:03}") for number in range(100)))
        assert order == [f"{number:03}" for number in range(100)]
        assert len(commits) == 2  # the gate's, and theirs
        assert await database.read(names) == order

    asyncio.run(play())


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Arm failpoints in this process; they are disarmed afterwards."""
    monkeypatch.setenv("GRID_FAILPOINTS_LOG", str(tmp_path / "failpoints"))
    monkeypatch.setenv("GRID_FAILPOINTS_SERVICE", "0")

    def arm(rules: str) -> None:
        monkeypatch.setenv("GRID_FAILPOINTS", rules)
        failpoints.arm()

    yield arm
    monkeypatch.delenv("GRID_FAILPOINTS", raising=False)
    failpoints.arm()


def test_a_commit_that_fails_fails_for_all(database: Database, failing: Callable[[str], None]) -> None:
    """If the commit fails every write of the group fails and nothing is written; the next group is not affected."""

    async def play() -> None:
        failing("database.commit.before:2:raise")  # the first is the gate's
        outcomes = await as_one_group(database, add("a"), add("b"))
        assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
        assert outcomes[0] is not outcomes[1]
        await database.write(add("c"))
        assert await database.read(names) == ["c"]

    asyncio.run(play())


def test_a_commit_that_succeeds_and_cannot_say_so(database: Database, failing: Callable[[str], None]) -> None:
    """If the report of a commit is lost, what was written is there, and readers find it."""

    async def play() -> None:
        failing("database.committed:1:raise")
        with pytest.raises(DatabaseUnavailable):
            await database.write(add("a"))
        assert await database.read(names) == ["a"]
        await database.write(add("b"))
        assert await database.read(names) == ["a", "b"]

    asyncio.run(play())


def test_doubt_is_told(database: Database, failing: Callable[[str], None]) -> None:
    """The callback for doubtful writes is called when a commit is in doubt, and not for a fault of the statements."""
    calls: list[str] = []

    async def play() -> None:
        database.call_in_doubt(lambda: calls.append("look"))
        with pytest.raises(ArithmeticError):
            await database.write(add("a", fail=True))
        for number, point in enumerate(("database.committed", "database.commit.before"), 1):
            failing(f"{point}:1+:raise")
            with pytest.raises(DatabaseUnavailable):
                await database.write(add(point))
            assert len(calls) == number

    asyncio.run(play())


def filling(connection: Connection) -> None:
    """Write more than the file may hold, as on a disk that is full."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    connection.execute(sa.insert(clusters).values(name="x" * 100_000, paused=False))


def test_a_full_disk_undoes_the_whole_group(database: Database) -> None:
    """SQLite undoes everything when it finds no space: no write of the group is reported as written."""

    async def play() -> None:
        outcomes = await as_one_group(database, add("a"), filling, add("b"))
        assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 3
        assert await database.read(names) == []
        large = [f"{number}" * 100_000 for number in range(9)]
        for name in large:  # not by a connection that still has the limit
            await database.write(add(name))
        assert await database.read(names) == large

    asyncio.run(play())


def test_trouble_is_told_once(database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the file and the trouble when it begins, and says when it is over; clients see no path."""
    caplog.set_level(logging.INFO)

    async def play() -> None:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable) as caught:
                await database.write(filling)
            assert "its disk is full" in str(caught.value)
            assert str(tmp_path) not in str(caught.value)
        assert await database.read(names) == []
        await database.write(add("a"))

    asyncio.run(play())
    begun, over = (record.getMessage() for record in caplog.records)
    assert str(tmp_path / "grid.sqlite3") in begun
    assert "is full" in begun
    assert "can be written again" in over


def test_a_lock_passes(tmp_path: Path) -> None:
    """While another program locks the database writes fail after the time-out; afterwards they work by themselves."""
    file = tmp_path / "grid.sqlite3"
    database = Database(f"sqlite:///{file}?timeout=0.1")

    async def play() -> None:
        other = sqlite3.connect(file, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseUnavailable, match="locked by another program"):
                await database.write(add("a"))
            assert await database.read(names) == []
            other.execute("ROLLBACK")
        finally:
            other.close()
        await database.write(add("b"))
        assert await database.read(names) == ["b"]

    try:
        asyncio.run(play())
    finally:
        database.close()


def test_a_file_that_was_moved_away(database: Database, tmp_path: Path) -> None:
    """Nothing is written to a file that has been moved away; put back, it is used again."""
    file, elsewhere = tmp_path / "grid.sqlite3", tmp_path / "elsewhere"

    async def play() -> None:
        file.rename(elsewhere)
        with pytest.raises(DatabaseUnavailable, match="removed or replaced"):
            await database.write(add("a"))
        shutil.copy(elsewhere, file)
        with pytest.raises(DatabaseUnavailable, match="removed or replaced"):
            await database.write(add("b"))
        elsewhere.replace(file)
        await database.write(add("c"))
        assert await database.read(names) == ["c"]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY, "locked by another program"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "locked by another program"),
        (sqlite3.SQLITE_LOCKED, "locked by another program"),
        (sqlite3.SQLITE_FULL, "disk is full"),
        (sqlite3.SQLITE_IOERR_WRITE, "reports an error"),
        (sqlite3.SQLITE_READONLY, "read-only"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened"),
        (sqlite3.SQLITE_CORRUPT, "damaged"),
        (sqlite3.SQLITE_NOTADB, "damaged"),
        (sqlite3.SQLITE_ERROR, None),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, None),
        (None, None),
    ],
)
def test_faults_of_sqlite(code: int | None, expected: str | None) -> None:
    """A fault is recognised by SQLite's code; an error of a statement, or of the driver, is not a fault."""
    error = sqlite3.OperationalError("whatever it says")
    if code is not None:
        error.sqlite_errorcode = code
    fault = fault_of(sa.exc.OperationalError("SELECT 1", {}, error))
    assert fault == fault_of(error)
    assert (fault is None) if expected is None else (fault is not None and expected in fault.words)


def test_closing_commits_what_waits(tmp_path: Path) -> None:
    """What was requested before the database is closed is in it after a reopening, with SQLite's safe settings."""
    url = f"sqlite:///{tmp_path / 'grid.sqlite3'}"
    first = Database(url)

    async def play() -> None:
        task = asyncio.create_task(first.write(add("a")))
        await asyncio.sleep(0)
        first.close()
        await task

    asyncio.run(play())
    second = Database(url)
    try:
        assert asyncio.run(second.read(names)) == ["a"]
        with second.engine.connect() as connection:
            pragmas = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous")
            ]
        assert pragmas == ["wal", 1, 2]
    finally:
        second.close()


def test_statuses_that_are_compared_have_an_index(database: Database) -> None:
    """The queries of the queue and of a run's status do not read every experiment there ever was."""
    plans = []
    with database.engine.connect() as connection:
        for query in (
            "SELECT * FROM experiments WHERE status = 'QUEUED' ORDER BY seq LIMIT 2",
            "SELECT status, count(*) FROM experiments WHERE run_seq = 1 GROUP BY status",
        ):
            plans += [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    assert all("INDEX" in plan for plan in plans), plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans


@pytest.mark.parametrize("url", ["no-such-database://", "not a url", "postgresql+nothing://host/name", "sqlite://"])
def test_database_that_is_not_one(url: str) -> None:
    """What does not name a database is refused with a message."""
    with pytest.raises(OptionError, match=r"the database .*(cannot be used|give it as)"):
        Database(url)


def test_password_is_not_shown() -> None:
    """The address of a server that cannot be used is named without its password."""
    with pytest.raises(OptionError, match="host/name") as caught:
        Database("postgresql+nothing://ada:secret@host/name")
    assert "secret" not in str(caught.value)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """A file in a folder that does not exist is refused with the name of both."""
    with pytest.raises(OptionError, match=rf"{tmp_path}/no/grid.sqlite3 .* {tmp_path}/no does not exist"):
        Database(f"sqlite:///{tmp_path / 'no' / 'grid.sqlite3'}")


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is named as a whole."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=rf"the folder {tmp_path}/no does not exist"):
        Database("sqlite:///no/grid.sqlite3")


def test_only_its_user_can_read_it(database: Database, tmp_path: Path) -> None:
    """Only their user can read the file and what SQLite puts beside it."""
    asyncio.run(database.write(add("a")))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["grid.sqlite3", "grid.sqlite3-wal", "grid.sqlite3-shm"], 0o600)


def test_file_that_is_not_a_database(tmp_path: Path) -> None:
    """A file that is something else is refused with its name, and left as it is."""
    file = tmp_path / "grid.sqlite3"
    file.write_text("my notes" * 1_000)
    with pytest.raises(OptionError, match=rf"{file} .*file is not a database"):
        Database(f"sqlite:///{file}")
    assert file.read_text() == "my notes" * 1_000


def test_database_of_another_program(tmp_path: Path) -> None:
    """A database with tables that are not Grid's is refused with its name, and left as it is."""
    file = tmp_path / "grid.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(OptionError, match=rf"{file} belongs to another program"):
        Database(f"sqlite:///{file}")
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
    connection.close()


def test_database_that_is_locked(tmp_path: Path) -> None:
    """A database that another program locks for longer than the time-out is refused with the code for trying again."""
    file = tmp_path / "grid.sqlite3"
    Database(f"sqlite:///{file}").close()
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TryLater, match=rf"{file} .*locked by another program"):
            Database(f"sqlite:///{file}?timeout=0.1")
    finally:
        other.close()
    Database(f"sqlite:///{file}").close()


def test_database_that_cannot_be_written(tmp_path: Path) -> None:
    """A database in a folder that is read-only is refused with its name."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "grid.sqlite3"
    with read_only(folder) as protect:
        Database(f"sqlite:///{file}").close()
        protect()
        with pytest.raises(OptionError, match=rf"{file} .*(read-only|cannot be opened)") as caught:
            Database(f"sqlite:///{file}")
        assert not isinstance(caught.value, TryLater)


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A file that is read-only, though readable, is refused with its name at the start."""
    file = tmp_path / "grid.sqlite3"
    Database(f"sqlite:///{file}").close()
    with read_only_file(file), pytest.raises(OptionError, match=rf"{file} .*its file or folder is read-only"):
        Database(f"sqlite:///{file}")
    Database(f"sqlite:///{file}").close()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that is read-only is refused with the name of the file that would be made in it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with read_only(folder) as protect:
        protect()
        with pytest.raises(OptionError, match=rf"{folder}/grid.sqlite3 .*(Read-only|Permission denied)"):
            Database(f"sqlite:///{folder / 'grid.sqlite3'}")


def damaged(file: Path, copy: Path) -> Path:
    """Copy a database that is in use, as a crash would leave it, with pages overwritten."""
    many: list[dict[str, Any]] = [{"name": f"{number:0200}", "paused": False} for number in range(1_000)]
    database = Database(f"sqlite:///{file}")
    try:
        asyncio.run(database.write(lambda connection: connection.execute(sa.insert(clusters), many)))
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        asyncio.run(database.write(add("last")))
        for each in ("", "-wal"):
            shutil.copy(f"{file}{each}", f"{copy}{each}")
    finally:
        database.close()
    with copy.open("r+b") as written:
        written.seek(-4_096 * 20, 2)
        written.write(b"\xff" * 4_096 * 20)
    return copy


def test_database_that_is_damaged(tmp_path: Path) -> None:
    """After an unclean end every page is checked, and damage is refused with the file's name."""
    file = damaged(tmp_path / "grid.sqlite3", tmp_path / "damaged.sqlite3")
    with pytest.raises(OptionError, match=rf"{file} .*is damaged"):
        Database(f"sqlite:///{file}")


@pytest.mark.parametrize("machine_was_started", [False, True])
def test_large_database_after_an_unclean_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_was_started: bool
) -> None:
    """Every page of a large file is checked only if the machine was started since it was written."""
    file = damaged(tmp_path / "grid.sqlite3", tmp_path / "damaged.sqlite3")
    monkeypatch.setattr(sqlite, "_SMALL", 1)
    if machine_was_started:
        os.utime(f"{file}-wal", (1, 1))
        with pytest.raises(OptionError, match="is damaged"):
            Database(f"sqlite:///{file}")
    else:
        Database(f"sqlite:///{file}").close()


def test_damage_that_is_met_later(tmp_path: Path) -> None:
    """Damage that only a query meets is reported with the same message, and what is not affected goes on."""
    file = damaged(tmp_path / "grid.sqlite3", tmp_path / "damaged.sqlite3")
    Path(f"{file}-wal").unlink()  # as if it had been closed properly
    database = Database(f"sqlite:///{file}")

    async def play() -> None:
        with pytest.raises(DatabaseUnavailable, match="is damaged"):
            await database.read(lambda connection: connection.execute(sa.select(clusters)).all())
        assert await database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1

    try:
        asyncio.run(play())
    finally:
        database.close()
