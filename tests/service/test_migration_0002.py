"""Tests of a database of version 0001 that goes through migration 0002: nothing is lost, and it is like a new one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from grid import Run
from grid.service.store.database import Database
from grid.service.store.tables import metadata
from grid.service.store.upgrade import upgrade
from grid.session import session as sessions
from grid.shared.wire import ExperimentStatus
from tests.support.experiments import folder_of, output_of, starter
from tests.support.services import service_process
from tests.support.waiting import wait_for_run

ENDS = [
    ("SUCCEEDED", "EXIT_CODE", 0, None, None),
    ("FAILED", "EXIT_CODE", 3, None, None),
    ("FAILED", "SIGNAL", None, 9, None),
    ("FAILED", "START_FAILED", None, None, "no such file"),
    ("CANCELLED", "CANCELLED_BY_USER", None, 15, None),
]
UNFINISHED = ["QUEUED", "PENDING", "RUNNING"]


def make_first(file: Path) -> None:
    """Make a database of version 0001."""
    engine = sa.create_engine(f"sqlite:///{file}")
    upgrade(engine, str(file), file, head="0001")
    engine.dispose()


def insert(connection: sqlite3.Connection, table: str, **row: Any) -> None:
    """Insert a row."""
    columns = ", ".join(f'"{name}"' for name in row)
    connection.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608
        tuple(row.values()),
    )


def content(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """The rows of a table, in order, by column."""
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1")  # noqa: S608
    names = [name for name, *_ in rows.description]
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.fixture
def first(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database of version 0001 with a run that has an experiment of every kind, and one of an unknown kind."""
    file = tmp_path / "grid.sqlite3"
    make_first(file)
    connection = sqlite3.connect(file, isolation_level=None)
    insert(connection, "users", id="u", name="ada", created_at=1)
    insert(connection, "api_keys", digest="k", user_id="u", created_at=1)
    insert(connection, "clusters", name="local", paused=1)
    insert(connection, "snapshots", digest="d", size_bytes=5, created_at=1)
    for seq in (3, 7):
        run = dict.fromkeys(("project", "commit_sha", "script", "script_command"), "x")
        run |= {"seq": seq, "id": f"r{seq}", "user_id": "u", "name": f"run-{seq}", "key": f"key{seq}", "snapshot": "d"}
        run |= {"cluster": "local", "settings": '{"cpus": 1}', "warnings": "[]", "created_at": 2}
        insert(connection, "runs", **run, experiment_count=len(ENDS) + len(UNFINISHED))
    experiment = {"run_seq": 3, "attempt": 1, "arguments": "[]", "parameters": "{}", "cpus": 1, "gpus": 0}
    ends = [*ENDS, *((status, None, None, None, None) for status in UNFINISHED)]
    for index, (status, *ending) in enumerate(ends):
        reason, exit_code, signal, error = ending
        seq, started_at = 10 + index, None if error or status in ("QUEUED", "PENDING") else 4
        end = {"reason": reason, "exit_code": exit_code, "signal": signal, "error": error}
        times = {"created_at": 2, "started_at": started_at, "finished_at": 9 if reason else None}
        insert(
            connection, "experiments", seq=seq, id=f"e{index}", index=index, status=status, **experiment, **end, **times
        )
        for told in ("PENDING", "RUNNING", status):
            if status != "QUEUED":
                event = {"run_seq": 3, "experiment_seq": seq, "attempt": 1, "status": told, "at": 5}
                insert(connection, "events", **event, reason=reason if told == status else None)
            if told == status:
                break
    yield connection
    connection.close()


def migrated(connection: sqlite3.Connection) -> str:
    """Open the database as a service does, and close it; return its address."""
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    Database(f"sqlite:///{file}").close()
    return f"sqlite:///{file}"


def test_nothing_is_lost(first: sqlite3.Connection) -> None:
    """Every row stays as it was, and its new columns say what was the case before there were any."""
    names = [name for (name,) in first.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    before = {name: content(first, name) for name in names if name not in ("alembic_version", "sqlite_sequence")}
    assert len(before["events"]) > len(ENDS)
    migrated(first)
    new: dict[str, dict[str, Any]] = {"users": {"disabled_at": None}}
    new["runs"] = {"deleted_indices": "[]", "varying": "[]", "launch": ""}
    new["clusters"] = {"paused_by": None}
    new["experiments"] = {"memory_bytes": 0}
    for name, rows in before.items():
        expected = [{**row, **new.get(name, {})} for row in rows]
        if name == "experiments":
            # What waits for its turn has its files where they are put now.
            expected = [{**row, "layout": 2 if row["status"] == "QUEUED" else 1} for row in expected]
        if name == "events":
            places = {row["seq"]: row["index"] for row in before["experiments"]}
            expected = [
                {**row, "number": row["seq"], "index": places[row["experiment_seq"]], "is_queued_again": 0}
                for row in expected
            ]
        assert content(first, name) == expected, name
    assert first.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert first.execute("PRAGMA foreign_key_check").fetchall() == []


def test_what_had_ended_is_an_attempt(first: sqlite3.Connection) -> None:
    """The ends of experiments are recorded as those of their attempts, though the last lines of these are not known."""
    migrated(first)
    ended = content(first, "attempts")
    assert [(row["status"], row["reason"], row["exit_code"], row["signal"], row["error"]) for row in ended] == ENDS
    assert [row["experiment_seq"] for row in ended] == [10, 11, 12, 13, 14]
    assert {(row["number"], row["last_lines"], row["final_line"], row["finished_at"]) for row in ended} == {
        (1, "", None, 9)
    }
    assert [row["started_at"] for row in ended] == [4, 4, 4, None, 4]


def test_it_is_as_new(first: sqlite3.Connection, tmp_path: Path) -> None:
    """It has the tables, columns, constraints and indices of a new database."""
    engine = sa.create_engine(migrated(first))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    engine.dispose()
    Database(f"sqlite:///{tmp_path / 'new.sqlite3'}").close()
    with closing(sqlite3.connect(tmp_path / "new.sqlite3")) as new:
        for name, *_ in new.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for pragma in ("table_xinfo", "foreign_key_list", "index_list"):
                ours, theirs = (
                    # Without the numbers, which follow the order in which they were made.
                    sorted(map(repr, (row[1:] for row in each.execute(f"PRAGMA {pragma}({name})"))))
                    for each in (new, first)
                )
                assert theirs == ours, (name, pragma)
        automatic = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY 1"
        assert first.execute(automatic).fetchall() == new.execute(automatic).fetchall() != []


def test_what_must_be_unique(first: sqlite3.Connection) -> None:
    """A second event for a status of an attempt, and a second end of one, are refused by the database."""
    migrated(first)
    for table in ("events", "attempts"):
        row = content(first, table)[0]
        row.pop("seq", None)
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            insert(first, table, **row)


def test_numbers_are_not_given_again(first: sqlite3.Connection) -> None:
    """No new row gets the number of a deleted one, not even of the newest before the migration."""
    migrated(first)
    for table in ("events", "runs", "experiments"):
        row = content(first, table)[-1]
        first.execute("PRAGMA foreign_keys=OFF")
        for _ in range(2):
            first.execute(f"DELETE FROM {table} WHERE seq = ?", [row["seq"]])  # noqa: S608
            insert(first, table, **{**row, "seq": None})
            newest = content(first, table)[-1]
            assert newest["seq"] > row["seq"]
            row = newest


def test_a_service_goes_on_with_it(tmp_path: Path) -> None:
    """Runs that ended under a service of that version can be read, run again and deleted like any other."""
    script = "import os, sys\nprint('attempt')\nsys.exit(0 if os.path.exists(sys.argv[1]) else int(sys.argv[-1]))\n"
    with service_process(tmp_path, "--grace", "1", "--cpus", "2") as service:
        sessions.use(service.session())
        run = starter(tmp_path)(script, f"{tmp_path / 'mended'} --code '[0, 3]'")
        wait_for_run(run)
        service.stop()
        made_first(service.home / "grid.sqlite3")
        service.start()
        sessions.use(service.session())

        again = Run(run.name)
        assert (again.timeout, again.max_retries, again.auto_resume) == (None, 0, False)
        assert {word: len(names) for word, names in again.status().items()} == {"SUCCEEDED": 1, "FAILED": 1}
        _, second = again
        (group,) = again.failures()
        assert (group.reason, group.names, group.example) == ("EXIT_CODE", (second.name,), second.failure)
        assert (group.example.exit_code, group.example.last_lines) == (3, "")
        (tmp_path / "mended").touch()
        assert again.retry() == [second.name]
        assert wait_for_run(again) == {ExperimentStatus.SUCCEEDED: list(again.experiments)}
        assert (second.attempt, output_of(service, second, 2)) == (2, "attempt\n")
        again.delete()
        assert not folder_of(service, second).parent.exists()


def made_first(file: Path) -> None:
    """Replace a database by one of version 0001, with what that version would have known."""
    old = file.with_name("old.sqlite3")
    make_first(old)
    with closing(sqlite3.connect(old, isolation_level=None)) as target, closing(sqlite3.connect(file)) as source:
        for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            known = {column for _, column, *_ in target.execute(f"PRAGMA table_info({name})")}
            for row in content(source, name) if name not in ("alembic_version", "sqlite_sequence") else ():
                if "settings" in row:
                    settings = orjson.loads(row["settings"])
                    for later in ("timeout", "maxRetries"):
                        del settings[later]
                    row["settings"] = orjson.dumps(settings).decode()
                insert(target, name, **{column: value for column, value in row.items() if column in known})
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    old.replace(file)
