"""Tests of how events are numbered: by each run for itself, in the order of commits, once, whatever happens at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from grid import Run, errors, models
from grid.models import RunEvent
from grid.service.domain import events, lifecycle
from grid.service.domain.errors import RunMissing
from grid.service.domain.events import Wanted
from grid.service.executors.protocol import AttemptName, Ending
from grid.service.store import experiment_rows, run_rows
from grid.service.store.database import Database
from grid.service.store.experiment_rows import Which
from grid.service.store.tables import events as event_table
from grid.service.store.tables import experiments
from grid.session.session import Session
from grid.shared.wire import UNFINISHED, ExperimentStatus, Reason
from tests.support.databases import together
from tests.support.experiments import database_of, insert_run
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

QUEUED, PENDING, RUNNING = ExperimentStatus.QUEUED, ExperimentStatus.PENDING, ExperimentStatus.RUNNING
GOOD, BAD = Ending(Reason.EXIT_CODE, exit_code=0), Ending(Reason.EXIT_CODE, exit_code=1)
LOST, CANCELLED = Ending(Reason.LOST), Ending(Reason.CANCELLED_BY_USER)

Write = Callable[[Connection], Any]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new database."""
    opened = Database(tmp_path / "grid.sqlite3")
    yield opened
    opened.close()


def read(database: Database, statements: Callable[[Connection], Any]) -> Any:
    """Read something."""
    with database.engine.connect() as connection:
        return statements(connection)


def told(database: Database, run_id: str, after: int = 0, first: int = 1_000) -> Any:
    """A piece of what has happened in a run."""
    return read(database, lambda connection: events.read(connection, Wanted(run_id, after), first))


def move(at: int, choose: random.Random) -> Write:
    """A write that does something with an experiment of the moment, if it can."""

    def write(connection: Connection) -> None:
        rows = connection.execute(sa.select(experiments)).all()
        if not rows:
            return
        row: Any = choose.choice(rows)
        attempt = AttemptName(row.id, row.attempt)
        status = ExperimentStatus(row.status)
        if status in UNFINISHED:
            which = Which.attempt(*attempt)
            choose.choice(
                [
                    lambda: lifecycle.change(connection, which, PENDING, at=at),
                    lambda: lifecycle.change(connection, which, RUNNING, at=at, values={"started_at": at}),
                    lambda: lifecycle.end(connection, attempt, choose.choice([GOOD, BAD, LOST, CANCELLED]), at=at),
                    lambda: lifecycle.cancel_queued(connection, Which.run(row.run_seq), at=at),
                ]
            )()
        elif choose.random() < 0.5:
            lifecycle.queue_again(connection, Which.run(row.run_seq), at=at)
        elif choose.random() < 0.8:
            experiment_rows.delete(connection, row, at=at)
        elif not experiment_rows.unfinished_of(connection, row.run_seq):
            run_rows.delete(connection, run_rows.by_seq(connection, row.run_seq))
        if choose.random() < 0.1:
            raise ArithmeticError

    return write


@pytest.mark.parametrize("seed", range(20))
def test_numbers_grow_and_are_never_given_again(database: Database, seed: int) -> None:
    """Whatever happens in a transaction, each run's events follow those of the transactions before, one by one.

    Who has read after each of them has heard all of it; who reads all at the end misses only what was deleted.
    """
    choose = random.Random(seed)
    ids = [f"r{number}" for number in range(3)]
    for _ in ids:
        together(database, lambda connection: insert_run(connection, *[QUEUED] * 3))
    heard: dict[str, dict[int, Any]] = {run_id: {} for run_id in ids}
    revisions = dict.fromkeys(ids, 0)
    for at in range(60):
        together(database, *(move(at, choose) for _ in range(choose.randint(1, 4))))
        for run_id in tuple(ids):
            try:
                piece = told(database, run_id, revisions[run_id])
            except RunMissing:
                ids.remove(run_id)
                continue
            numbers = [event.number for event in piece.events]
            assert numbers == list(range(revisions[run_id] + 1, piece.revision + 1))
            heard[run_id].update(zip(numbers, piece.events, strict=True))
            revisions[run_id] = piece.revision
    for run_id in ids:
        everything = told(database, run_id).events
        gone = {event.index for event in everything if event.status == "DELETED"}
        for event in everything:
            assert heard[run_id][event.number][1:2] == event[1:2]
        left = [
            number for number, event in heard[run_id].items() if event.index not in gone or event.status == "DELETED"
        ]
        assert [event.number for event in everything] == left
        is_ended = read(database, lambda c, run_id=run_id: experiment_rows.unfinished_of(c, int(run_id[1:]) + 1)) == 0
        assert told(database, run_id).is_end == is_ended
    assert read(database, lambda connection: connection.exec_driver_sql("PRAGMA foreign_key_check").all()) == []


def test_what_is_deleted_as_it_ends(database: Database) -> None:
    """An experiment that ends and is deleted in one transaction leaves its deletion; a run leaves nothing."""
    (one, _) = together(database, lambda connection: insert_run(connection, RUNNING, QUEUED))[0]
    (two,) = together(database, lambda connection: insert_run(connection, RUNNING))[0]
    outcomes = together(
        database,
        lambda connection: lifecycle.end(connection, AttemptName(one, 1), GOOD, at=1),
        lambda connection: lifecycle.end(connection, AttemptName(two, 1), GOOD, at=1),
        lambda connection: experiment_rows.delete(connection, experiment_rows.by_id(connection, one), at=2),
        lambda connection: run_rows.delete(connection, run_rows.by_seq(connection, 2)),
    )
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    (event,) = told(database, "r0").events
    assert (event.number, event.index, event.status, event.experiment_id) == (1, 0, "DELETED", None)
    with pytest.raises(RunMissing):
        told(database, "r1")
    assert read(database, lambda c: run_rows.by_seq(c, 1)).deleted_indices == "[0]"


def test_in_one_order(database: Database) -> None:
    """However the writes of a transaction are ordered, counters and lists are changed in the order of keys."""
    ids = [together(database, lambda connection: insert_run(connection, RUNNING, RUNNING))[0] for _ in range(3)]
    together(
        database,
        *(lambda c, each=each: lifecycle.end(c, AttemptName(each, 1), GOOD, at=1) for (each, _) in ids),
    )
    heard: list[tuple[str, Any]] = []

    def hear(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if statement.startswith(("UPDATE revisions", "UPDATE runs", "DELETE FROM revisions")):
            heard.append((" ".join(statement.split()[:3]), parameters if many else [parameters]))

    sa.event.listen(database.engine, "before_cursor_execute", hear)
    by_id = experiment_rows.by_id
    together(
        database,
        lambda connection: experiment_rows.delete(connection, by_id(connection, ids[2][0]), at=2),
        lambda connection: lifecycle.end(connection, AttemptName(ids[1][1], 1), GOOD, at=2),
        lambda connection: run_rows.delete(connection, run_rows.by_seq(connection, 2)),
        lambda connection: experiment_rows.delete(connection, by_id(connection, ids[0][0]), at=2),
        lambda connection: lifecycle.end(connection, AttemptName(ids[0][1], 1), GOOD, at=2),
    )
    found = [(words, values[-1]) for words, rows in heard for values in rows]
    assert found == [
        ("UPDATE revisions SET", 1),
        ("DELETE FROM revisions", 2),
        ("UPDATE revisions SET", 3),
        ("UPDATE runs SET", 1),
        ("UPDATE runs SET", 3),
    ]
    assert told(database, "r0").revision == 3
    assert told(database, "r2").revision == 2


def test_the_database_refuses_a_number_twice(database: Database) -> None:
    """No two events of a run have one number; those of two runs may."""
    ids = [together(database, lambda connection: insert_run(connection, RUNNING))[0][0] for _ in range(2)]
    for each in ids:
        together(database, lambda c, each=each: lifecycle.end(c, AttemptName(each, 1), GOOD, at=1))
    assert [told(database, run_id).revision for run_id in ("r0", "r1")] == [1, 1]
    row = {"run_seq": 1, "number": 1, "index": 0, "attempt": 9, "status": "X", "is_queued_again": False, "at": 1}
    (failure,) = together(database, lambda connection: connection.execute(sa.insert(event_table).values(row)))
    assert "UNIQUE constraint failed: events.run_seq, events.number" in str(failure)


def watched(session: Session, run: Run, over: threading.Event, choose: random.Random) -> list[RunEvent]:
    """What a watcher hears who is cut off now and then and goes on after that, until all is over."""
    heard: list[RunEvent] = []
    after = 0
    while True:
        was_over = over.is_set()
        for answer in session.subscribe(models.RunEvents, id=run.id, after=after):
            piece = answer.run_events
            assert all(after < event.number <= piece.revision for event in piece.events)
            heard += piece.events
            after = piece.revision
            if choose.random() < 0.2:
                break
        if was_over and piece.is_end:
            return heard


def disturb(run: Run, what: str, choose: random.Random) -> None:
    """Change something about the run at random moments, if that is allowed then."""
    for _ in range(6):
        threading.Event().wait(choose.uniform(0, 0.1))
        with suppress(errors.GridError, KeyError):  # it has not ended, or it was deleted
            if what == "retry":
                run.retry()
            else:
                getattr(run.experiments[choose.choice(list(run.experiments))], what)()


@pytest.mark.parametrize("seed", range(3))
def test_everything_at_once(service: ServiceProcess, session: Session, start: Callable[..., Run], seed: int) -> None:
    """While one starts, cancels, retries and deletes at once, watchers hear each number once and in order.

    All hear how each experiment has ended, and everything that is still known in the end.
    """
    choose = random.Random(seed)
    run = start("import sys; sys.exit(int(sys.argv[-1]) % 2)", "--n 'range(12)'")
    names, over = set(run.experiments), threading.Event()
    with ThreadPoolExecutor(8) as threads:
        watching = [threads.submit(watched, session, run, over, choose) for _ in range(3)]
        for done in [threads.submit(disturb, run, what, choose) for what in ("delete", "cancel", "retry", "retry")]:
            done.result()
        wait_for_run(run)
        over.set()
        heard = [each.result() for each in watching]
    query = "SELECT number FROM events JOIN runs ON runs.seq = run_seq WHERE runs.id = ? ORDER BY events.seq"
    with database_of(service) as connection:
        kept = [number for (number,) in connection.execute(query, [run.id])]
    assert kept == sorted(set(kept))
    for mine in heard:
        numbers = [event.number for event in mine]
        assert numbers == sorted(set(numbers))
        assert set(kept) <= set(numbers)
        assert {event.name for event in mine if event.status is None or event.status.is_terminal} == names
