"""Tests of the store: writes in groups, the versions of the database, and what is said where it cannot be used."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from grid.service.migrations import versions
from grid.service.options import OptionError
from grid.service.store.database import HEAD, Database
from grid.service.store.tables import clusters, metadata


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new database."""
    opened = Database(f"sqlite:///{tmp_path / 'grid.sqlite3'}")
    yield opened
    opened.close()


def add(name: str, fail: bool = False):
    """Return statements that insert a cluster, and fail afterwards where they are told to."""

    def statements(connection: Connection) -> str:
        connection.execute(sa.insert(clusters).values(name=name, paused=False))
        if fail:
            raise ArithmeticError(name)
        return name

    return statements


def names(connection: Connection) -> list[str]:
    """Every cluster."""
    return list(connection.scalars(sa.select(clusters.c.name).order_by(clusters.c.name)))


def transactions(connection: Connection) -> int:
    """How often SQLite's file has changed: once a transaction."""
    return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())


class Gate:
    """A write that keeps the writer busy until it is opened, so that what follows waits and becomes one group."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, _: Connection) -> None:
        """Wait."""
        self.entered.set()
        assert self.open.wait(30)


async def as_one_group(database: Database, *writes, cancelled: int | None = None) -> list[object]:
    """Ask for writes while the writer is busy; return what each came to."""
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
    """A write is committed when it comes back, and gives what its statements returned."""

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
        assert isinstance(outcomes[2], sa.exc.IntegrityError)
        assert outcomes[3] == "c"
        assert await database.read(names) == ["a", "c"]

    asyncio.run(play())


def test_who_has_given_up_writes_nothing(database: Database) -> None:
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


def test_a_transaction_that_fails_fails_for_all(database: Database) -> None:
    """Where the commit itself fails everybody in the group hears of it, and the next group is not affected."""

    def broken(connection: Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("disk full"))

    async def play() -> None:
        sa.event.listen(database.engine, "commit", broken)
        outcomes = await asyncio.gather(database.write(add("a")), database.write(add("b")), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [sa.exc.OperationalError] * 2
        sa.event.remove(database.engine, "commit", broken)
        await database.write(add("c"))
        assert await database.read(names) == ["c"]

    asyncio.run(play())


def test_closing_commits_what_waits(tmp_path: Path) -> None:
    """What was asked for before the database is closed is in it when it is opened again, as SQLite writes it safely."""
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


def test_head_is_the_newest_migration() -> None:
    """The version that a service looks for is the newest migration's, and each migration follows the one before."""
    modules = [
        importlib.import_module(f"{versions.__name__}.{each.name}") for each in pkgutil.iter_modules(versions.__path__)
    ]
    found = {module.revision: module.down_revision for module in modules}
    chain = [HEAD]
    while (before := found[chain[-1]]) is not None:
        chain.append(before)
    assert sorted(chain) == sorted(found)
    assert all(re.fullmatch(r"\d{4}", revision) for revision in found)


def test_migrations_make_the_tables(database: Database) -> None:
    """A database that has come through all migrations is the one that the tables describe."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_statuses_that_are_compared_have_an_index(database: Database) -> None:
    """What the queue and a run's status look for does not read every experiment there ever was."""
    plans = []
    with database.engine.connect() as connection:
        for query in (
            "SELECT * FROM experiments WHERE status = 'QUEUED' ORDER BY seq LIMIT 2",
            "SELECT status, count(*) FROM experiments WHERE run_seq = 1 GROUP BY status",
        ):
            plans += [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    assert all("INDEX" in plan for plan in plans), plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans


def test_database_of_a_newer_version(tmp_path: Path) -> None:
    """A database that a newer service has changed is refused in words, and left as it is."""
    url = f"sqlite:///{tmp_path / 'grid.sqlite3'}"
    Database(url).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(OptionError, match=f"knows versions up to {HEAD}.*9999"):
        Database(url)


@pytest.mark.parametrize(
    "url",
    ["sqlite:////no/such/folder/grid.sqlite3", "no-such-database://", "not a url", "postgresql+nothing://host/name"],
)
def test_database_that_is_not_there(url: str) -> None:
    """What is no database is refused in words."""
    with pytest.raises(OptionError, match="the database cannot be used"):
        Database(url)


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """A file that is something else is refused in words, and left as it is."""
    file = tmp_path / "grid.sqlite3"
    file.write_text("my notes" * 1_000)
    with pytest.raises(OptionError, match="file is not a database"):
        Database(f"sqlite:///{file}")
    assert file.read_text() == "my notes" * 1_000
