"""Tests of the migration that numbers events: what clients have seen goes on, and each event says what it was about."""

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

from grid.service.domain import events, lifecycle
from grid.service.domain.events import Wanted
from grid.service.store import run_rows
from grid.service.store.database import Database
from grid.service.store.experiment_rows import Which
from grid.service.store.tables import metadata
from grid.service.store.upgrade import upgrade

BEFORE = "0006"

PARAMETERS: dict[int, list[dict[str, str]]] = {
    1: [{"Script": "a.py", "z": str(number // 2), "same": "1", "a": str(number)} for number in range(4)],
    2: [{"Script": "a.py", "z": "1"}],
    3: [],
    4: [{"Script": "a.py", "z": "1"}] * 2,
}
"""The parameters of each run's experiments, by the run's seq. Of the first run, experiments 4 and 7 were deleted."""

TOLD: list[tuple[int, int | None, int, str, str | None, int]] = [
    (1, 11, 1, "PENDING", None, 5),
    (2, 20, 1, "PENDING", None, 6),
    (1, 11, 1, "FAILED", "LOST", 7),
    (1, 11, 2, "QUEUED", None, 7),
    (1, None, 1, "DELETED", None, 8),
    (1, 12, 1, "FAILED", "LOST", 9),
    (1, 12, 2, "QUEUED", None, 10),
    (1, 13, 1, "FAILED", "EXIT_CODE", 10),
    (1, None, 3, "DELETED", None, 11),
    (2, 20, 1, "RUNNING", None, 12),
]
"""Run, experiment, attempt, status, reason and time of the events, in order."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database of the version before, opened by this one."""
    file = tmp_path / "grid.sqlite3"
    engine = sa.create_engine(f"sqlite:///{file}")
    upgrade(engine, str(file), file, head=BEFORE)
    engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        fill(connection)
    database = Database(file)
    yield database
    database.close()


def fill(connection: sqlite3.Connection) -> None:
    """Insert the runs, experiments and events above."""

    def insert(table: str, **row: Any) -> None:
        columns = ", ".join(f'"{column}"' for column in row)
        places = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(row.values()))  # noqa: S608

    insert("users", id="u", name="ada", created_at=1)
    insert("clusters", name="local", paused=0)
    insert("snapshots", digest="d", size_bytes=5, created_at=1)
    texts = dict.fromkeys(("project", "commit_sha", "script", "script_command"), "")
    for seq, parameters in PARAMETERS.items():
        run = {"seq": seq, "id": f"r{seq}", "user_id": "u", "name": f"r{seq}", "key": f"r{seq}", "cluster": "local"}
        run |= {"snapshot": "d", "settings": "{}", "warnings": "[]", "experiment_count": 9, "created_at": 1, **texts}
        insert("runs", **run, deleted_indices="[4,7]" if seq == 1 else "[]")
        for index, each in enumerate(parameters):
            attempt = 2 if seq == 1 and index in (1, 2) else 1
            experiment = {"run_seq": seq, "attempt": attempt, "arguments": "[]", "cpus": 1, "gpus": 0, "created_at": 1}
            insert(
                "experiments",
                seq=10 * seq + index,
                id=f"r{seq}e{index}",
                index=index,
                status="FAILED",
                **experiment,
                parameters=orjson.dumps(each).decode(),
            )
    insert("events", seq=1_000, run_seq=4, experiment_seq=40, attempt=1, status="PENDING", at=1)
    connection.execute("DELETE FROM events")
    for run_seq, experiment_seq, attempt, status, reason, at in TOLD:
        row = {"run_seq": run_seq, "experiment_seq": experiment_seq, "attempt": attempt}
        insert("events", **row, status=status, reason=reason, at=at)


def test_it_is_as_new(database: Database) -> None:
    """The database has the tables, columns and indices of a new one, and nothing refers to nothing."""
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_revisions_do_not_go_back(database: Database) -> None:
    """A run's revision is what it was, and the next change has the number after it."""
    with database.engine.begin() as connection:
        found = {seq: run_rows.by_seq(connection, seq).revision for seq in PARAMETERS}
        assert found == {1: 1_009, 2: 1_010, 3: 0, 4: 0}
        assert lifecycle.queue_again(connection, Which.run(4), at=20)
        assert run_rows.by_seq(connection, 4).revision == 2
        lifecycle.queue_again(connection, Which.run(1), at=21)
        told = events.read(connection, Wanted("r1", 1_009), 1_000)
        assert [event.number for event in told.events] == list(range(1_010, 1_010 + len(told.events)))
        assert told.revision == run_rows.by_seq(connection, 1).revision > 1_010


def test_each_event_says_what_it_was_about(database: Database) -> None:
    """Events keep their order; a deletion names an experiment that was deleted, and an end whether it was one."""
    with database.engine.connect() as connection:
        first, second = (events.read(connection, Wanted(run, 0), 1_000).events for run in ("r1", "r2"))
    assert [(each.number, each.index, each.status, each.is_queued_again) for each in first] == [
        (1_001, 1, "PENDING", False),
        (1_003, 1, "FAILED", True),
        (1_004, 1, "QUEUED", False),
        (1_005, 4, "DELETED", False),
        (1_006, 2, "FAILED", False),  # queued again later, by its owner
        (1_007, 2, "QUEUED", False),
        (1_008, 3, "FAILED", False),
        (1_009, 7, "DELETED", False),
    ]
    assert [(each.number, each.experiment_id) for each in second] == [(1_002, "r2e0"), (1_010, "r2e0")]


def test_what_varies(database: Database) -> None:
    """Of each run the names of the parameters that differ, in the order of the command line."""
    with database.engine.connect() as connection:
        found = {seq: orjson.loads(run_rows.by_seq(connection, seq).varying) for seq in PARAMETERS}
    assert found == {1: ["z", "a"], 2: [], 3: [], 4: []}
