"""Tests of the counts that are kept of each run: they are what counting would find, whatever changes an experiment."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.domain import lifecycle
from grid.service.executors.protocol import AttemptName, Ending
from grid.service.store import experiment_rows, run_changes, run_rows, status_counts
from grid.service.store.database import Database
from grid.service.store.experiment_rows import Which
from grid.service.store.sqlite import make_engine
from grid.service.store.tables import experiments, runs
from grid.service.store.upgrade import MIGRATIONS, upgrade
from grid.shared.wire import ExperimentStatus, Reason
from tests.support.databases import together
from tests.support.experiments import insert_run

QUEUED, PENDING, RUNNING = ExperimentStatus.QUEUED, ExperimentStatus.PENDING, ExperimentStatus.RUNNING
FAILED = ExperimentStatus.FAILED
GOOD = Ending(Reason.EXIT_CODE, exit_code=0)

BEFORE = max(
    file.name[:4]
    for file in (MIGRATIONS / "versions").glob("[0-9]*.py")
    if file.name < next((MIGRATIONS / "versions").glob("*_status_counts.py")).name
)
"""The version before there were counts."""

OF_BEFORE = """
INSERT INTO users (id, name, created_at) VALUES ('u', 'ada', 1);
INSERT INTO clusters (name, paused) VALUES ('local', 1);
INSERT INTO snapshots (digest, size_bytes, created_at) VALUES ('d', 5, 1);
INSERT INTO runs (seq, id, user_id, name, key, cluster, snapshot, project, commit_sha, script, script_command, settings,
    warnings, experiment_count, created_at)
    SELECT column1, 'r' || column1, 'u', 'r' || column1, column1, 'local', 'd', '', '', '', '', '{}', '[]', 7, 1
    FROM (VALUES (3), (7));
INSERT INTO experiments (id, run_seq, "index", status, attempt, arguments, parameters, cpus, gpus, created_at)
    SELECT 'e' || column1, 3, column1, column2, 1, '[]', '{}', 1, 0, 1
    FROM (VALUES (0, 'QUEUED'), (1, 'PENDING'), (2, 'RUNNING'), (3, 'FAILED'), (4, 'SUCCEEDED'), (5, 'CANCELLED'),
        (6, 'FAILED'));
"""
"""What a database of that version holds: a run with experiments, and one whose experiments were deleted."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new database."""
    opened = Database(tmp_path / "grid.sqlite3")
    yield opened
    opened.close()


def counted(connection: Connection) -> dict[int, list[tuple[str, int]]]:
    """What counting finds."""
    seqs = list(connection.scalars(sa.select(runs.c.seq)))
    found = Counter(map(tuple, connection.execute(sa.select(experiments.c.run_seq, experiments.c.status))))
    return {seq: [(word, found[seq, word]) for word in map(str, ExperimentStatus) if found[seq, word]] for seq in seqs}


def kept(connection: Connection) -> dict[int, list[tuple[str, int]]]:
    """What is kept."""
    return status_counts.of_runs(connection, list(connection.scalars(sa.select(runs.c.seq))))


def read(database: Database, statements: Callable[[Connection], Any]) -> Any:
    """Read something."""
    return asyncio.run(database.read(statements))


def test_whatever_happens(database: Database) -> None:
    """Changes, ends, retries, cancels and deletions, in random order and in random groups, are all counted."""
    draw = random.Random(20261127)
    asyncio.run(database.write(lambda connection: [insert_run(connection, *[QUEUED] * 12) for _ in range(4)]))

    def act(connection: Connection) -> None:
        row = draw.choice(connection.execute(sa.select(experiments)).all())
        one, whole = Which.experiment(row.id), Which.run(row.run_seq)
        what = draw.randrange(9)
        if what < 2:
            lifecycle.change(connection, draw.choice([one, whole]), PENDING, at=1)
        elif what == 2:
            lifecycle.change(connection, one, RUNNING, at=2)
        elif what < 5:
            ending = Ending(draw.choice([Reason.LOST, Reason.EXIT_CODE]), exit_code=draw.randrange(2))
            lifecycle.end(connection, AttemptName(row.id, row.attempt), ending, at=3)
        elif what == 5:
            lifecycle.queue_again(connection, whole, at=4)
        elif what == 6:
            lifecycle.cancel_queued(connection, draw.choice([one, whole]), at=5)
        elif row.status in ("SUCCEEDED", "FAILED", "CANCELLED"):
            experiment_rows.delete(connection, row, at=6)
        if draw.random() < 0.2:
            raise ArithmeticError

    for _ in range(60):
        together(database, *[act] * draw.randint(1, 6))
        assert read(database, kept) == read(database, counted)
    assert len(read(database, counted)) == 4
    assert sum(len(groups) for groups in read(database, counted).values()) > 8


def test_what_is_undone_is_not_counted(database: Database) -> None:
    """Of a group of writes the one that fails changes no count; the others do."""
    (first, second, third) = asyncio.run(database.write(lambda connection: insert_run(connection, *[QUEUED] * 3)))

    def start(experiment_id: str, fails: bool = False) -> Callable[[Connection], None]:
        def statements(connection: Connection) -> None:
            assert lifecycle.change(connection, Which.experiment(experiment_id), PENDING, at=1)
            if fails:
                raise ArithmeticError

        return statements

    outcomes = together(database, start(first), start(second, fails=True), start(third))
    assert [type(outcome) for outcome in outcomes] == [type(None), ArithmeticError, type(None)]
    assert read(database, kept) == {1: [("QUEUED", 1), ("PENDING", 2)]}
    with pytest.raises(ArithmeticError):
        asyncio.run(database.write(start(second, fails=True)))
    assert read(database, kept) == {1: [("QUEUED", 1), ("PENDING", 2)]}


def test_a_run_that_ends_and_is_deleted_at_once(database: Database) -> None:
    """The last end of a run and its deletion in one transaction leave nothing of it."""
    (one,) = asyncio.run(database.write(lambda connection: insert_run(connection, RUNNING)))
    outcomes = together(
        database,
        lambda connection: lifecycle.end(connection, AttemptName(one, 1), GOOD, at=1),
        lambda connection: run_rows.delete(connection, run_rows.by_seq(connection, 1)),
    )
    assert len(outcomes[0]) == 1
    assert outcomes[1] is None
    assert read(database, lambda connection: connection.exec_driver_sql("SELECT * FROM status_counts").all()) == []
    assert read(database, lambda connection: connection.exec_driver_sql("PRAGMA foreign_key_check").all()) == []


def test_in_one_order(database: Database) -> None:
    """However the writes of a transaction are ordered, the counts are changed last, and in the order of their keys."""
    ids = asyncio.run(database.write(lambda connection: [insert_run(connection, RUNNING, FAILED) for _ in range(3)]))
    heard: list[tuple[str, Any]] = []

    def hear(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        verb, *_ = statement.split()
        if verb in ("INSERT", "UPDATE", "DELETE"):
            heard.append((statement, parameters if many else [parameters]))

    sa.event.listen(database.engine, "before_cursor_execute", hear)
    together(
        database,
        lambda connection: lifecycle.end(connection, AttemptName(ids[2][0], 1), GOOD, at=1),
        lambda connection: run_rows.delete(connection, run_rows.by_seq(connection, 2)),
        lambda connection: lifecycle.queue_again(connection, Which.run(3), at=1),
        lambda connection: lifecycle.end(connection, AttemptName(ids[0][0], 1), GOOD, at=1),
    )
    of_counts = ["status_counts" in statement for statement, _ in heard]
    assert of_counts == sorted(of_counts)
    keys = [values[-2:] for statement, rows in heard if "status_counts" in statement for values in rows]
    assert keys == sorted(keys)
    assert {run_seq for run_seq, _ in keys} == {1, 2, 3}
    assert read(database, kept) == {1: [("SUCCEEDED", 1), ("FAILED", 1)], 3: [("QUEUED", 1), ("SUCCEEDED", 1)]}


def test_a_database_from_before(tmp_path: Path) -> None:
    """The migration counts what is there: every status of every run, also those that no experiment has."""
    file = tmp_path / "grid.sqlite3"
    engine = make_engine(sa.make_url(f"sqlite:///{file}"), connections=1)
    upgrade(engine, str(file), file, head=BEFORE)
    engine.dispose()
    with closing(sqlite3.connect(file)) as opened:
        opened.executescript(OF_BEFORE)
    Database(file).close()
    with closing(sqlite3.connect(file)) as opened:
        found = {(run, word): number for run, word, number in opened.execute("SELECT * FROM status_counts")}
    words = [status.value for status in ExperimentStatus]
    assert found == {(3, word): 2 if word == FAILED else 1 for word in words} | {(7, word): 0 for word in words}


def test_connection_that_is_lost(database: Database) -> None:
    """If a connection is lost in the middle, what is raised is why."""

    def lose(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT 1")
        with run_changes.written_at_the_end(connection):
            connection.invalidate()
            raise ArithmeticError

    with database.engine.connect() as connection, pytest.raises(ArithmeticError):
        lose(connection)
