"""Tests of the one function that changes a status: every pair of statuses, and the document that lists them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.domain import lifecycle
from grid.service.executors.protocol import AttemptName, Ending
from grid.service.store import run_rows, status_counts
from grid.service.store.experiment_rows import Which
from grid.service.store.tables import attempts, events, experiments, metadata, runs
from grid.shared.wire import ACTIVE, ExperimentStatus, Reason
from tests.support.experiments import insert_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "lifecycle.md"
QUEUED, PENDING, RUNNING = ExperimentStatus.QUEUED, ExperimentStatus.PENDING, ExperimentStatus.RUNNING
SUCCEEDED, FAILED, CANCELLED = ExperimentStatus.SUCCEEDED, ExperimentStatus.FAILED, ExperimentStatus.CANCELLED
NOT_CANCELLED = [reason for reason in Reason if reason is not Reason.CANCELLED_BY_USER]


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A database in memory with one user, who has nothing yet."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as opened:
        metadata.create_all(opened)
        yield opened
    engine.dispose()


def row(connection: Connection, experiment_id: str) -> sa.Row[Any]:
    """An experiment, by its id."""
    return connection.execute(sa.select(experiments).where(experiments.c.id == experiment_id)).one()


def told(connection: Connection) -> list[tuple[str, str | None]]:
    """The events, in order."""
    return [(event.status, event.reason) for event in connection.execute(sa.select(events).order_by(events.c.seq))]


def kept(connection: Connection, experiment_id: str) -> list[sa.Row[Any]]:
    """The attempts of an experiment that have ended."""
    query = sa.select(attempts).join(experiments).where(experiments.c.id == experiment_id).order_by(attempts.c.number)
    return list(connection.execute(query))


def set_settings(connection: Connection, **settings: Any) -> None:
    """Let every run have been started with these settings."""
    connection.execute(sa.update(runs).values(settings=orjson.dumps(settings).decode()))


def documented() -> dict[str, tuple[set[str], set[str | None]]]:
    """From which statuses each one is reached, and why, according to the document's table."""
    found: dict[str, tuple[set[str], set[str | None]]] = {}
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Transitions")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [re.findall(r"`([A-Z_]+)`", cell) for cell in line.strip("|").split("|")]
        if len(cells) > 3 and cells[0] and cells[1]:
            sources, reasons = found.setdefault(cells[1][0], (set(), set()))
            sources.update(cells[0])
            reasons.update(cells[2] or [None])
    return found


def test_the_document_says_what_the_code_does() -> None:
    """The table in the document and the one in the code reach each status from the same others for the same reasons."""
    in_code = {
        to.value: ({source.value for source in sources}, {reason and reason.value for reason in reasons})
        for to, (sources, reasons) in lifecycle.TRANSITIONS.items()
    }
    assert documented() == in_code


@pytest.mark.parametrize(("source", "to"), list(product(ExperimentStatus, lifecycle.TRANSITIONS)))
def test_every_pair(connection: Connection, source: ExperimentStatus, to: ExperimentStatus) -> None:
    """A change in the table is made, recorded as an event and counted; any other is dropped without a trace."""
    (experiment_id,) = insert_run(connection, source)
    sources, reasons = lifecycle.TRANSITIONS[to]
    before = row(connection, experiment_id)
    if to is QUEUED:
        changed = [change for _, change in lifecycle.queue_again(connection, Which.experiment(experiment_id), at=7)]
    else:
        ending = Ending(reasons[0]) if reasons[0] else None
        changed = lifecycle.change(connection, Which.experiment(experiment_id), to, at=7, ending=ending)
    after = row(connection, experiment_id)
    assert status_counts.of_runs(connection, [1]) == {1: [(after.status, 1)]}
    if source in sources:
        assert changed == [lifecycle.Change(experiment_id, after.run_seq, to)]
        assert (after.status, after.reason) == (to, reasons[0])
        assert after.finished_at == (7 if to.is_terminal else None)
        assert told(connection) == [(to, reasons[0])]
        ended = [(each.number, each.status, each.reason) for each in kept(connection, experiment_id)]
        assert ended == ([(1, to, reasons[0])] if to.is_terminal else [])
    else:
        assert changed == []
        assert after == before
        assert told(connection) == []
        assert kept(connection, experiment_id) == []


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (CANCELLED, Reason.LOST),
        (CANCELLED, None),
        (FAILED, Reason.CANCELLED_BY_USER),
        (FAILED, None),
        (RUNNING, Reason.EXIT_CODE),
        (QUEUED, Reason.LOST),
        (SUCCEEDED, Reason.SIGNAL),
    ],
)
def test_wrong_reason(connection: Connection, to: ExperimentStatus, reason: Reason | None) -> None:
    """A reason that does not fit the status is a fault of the caller, and nothing is changed."""
    (experiment_id,) = insert_run(connection, PENDING)
    with pytest.raises(ValueError, match="is not reached for the reason"):
        lifecycle.change(
            connection, Which.experiment(experiment_id), to, at=7, ending=Ending(reason) if reason else None
        )
    assert row(connection, experiment_id).status == PENDING


def test_many_at_once(connection: Connection) -> None:
    """Of many experiments those that may change do, each with an event; a run's revision grows with them."""
    first = insert_run(connection, *ExperimentStatus)
    second = insert_run(connection, *ExperimentStatus)
    cancelled = Ending(Reason.CANCELLED_BY_USER)
    changed = [
        change
        for run_seq in (1, 2)
        for change in lifecycle.change(connection, Which.run(run_seq), CANCELLED, at=7, ending=cancelled)
    ]
    unfinished = {
        experiment_id
        for ids in (first, second)
        for experiment_id, status in zip(ids, ExperimentStatus, strict=True)
        if not status.is_terminal
    }
    assert {change.experiment_id for change in changed} == unfinished
    assert told(connection) == [(CANCELLED, Reason.CANCELLED_BY_USER)] * len(unfinished)
    before = [run_rows.by_seq(connection, run_seq).revision for run_seq in (1, 2)]
    assert lifecycle.change(connection, Which.experiment(first[0]), CANCELLED, at=8, ending=cancelled) == []
    assert [run_rows.by_seq(connection, run_seq).revision for run_seq in (1, 2)] == before
    connection.execute(sa.update(experiments).where(experiments.c.id == second[0]).values(status=PENDING))
    lifecycle.change(connection, Which.experiment(second[0]), RUNNING, at=9)
    after = [run_rows.by_seq(connection, run_seq).revision for run_seq in (1, 2)]
    assert after[0] == before[0] > 0
    assert after[1] > before[1]


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (Ending(Reason.EXIT_CODE, exit_code=0), SUCCEEDED),
        (Ending(Reason.EXIT_CODE, exit_code=1), FAILED),
        (Ending(Reason.EXIT_CODE, exit_code=255), FAILED),
        *((Ending(reason, signal=9, error="so it is"), FAILED) for reason in NOT_CANCELLED[1:]),
    ],
)
@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("source", ACTIVE)
def test_endings(
    connection: Connection, source: ExperimentStatus, ending: Ending, status: ExperimentStatus, cancelled: bool
) -> None:
    """What the executor saw decides how an attempt ended, unless a cancel was recorded before."""
    (experiment_id,) = insert_run(connection, source, cancel_requested_at=3 if cancelled else None)
    ending = dataclasses.replace(ending, last_lines="one\ntwo", final_line="two")
    lifecycle.end(connection, AttemptName(experiment_id, 1), ending, at=7)
    after = row(connection, experiment_id)
    (ended,) = kept(connection, experiment_id)
    for each in (after, ended):
        expected = (CANCELLED, Reason.CANCELLED_BY_USER) if cancelled else (status, ending.reason)
        assert (each.status, each.reason) == expected
        assert (each.exit_code, each.signal, each.error) == (ending.exit_code, ending.signal, ending.error)
        assert each.finished_at == 7
    assert (ended.number, ended.last_lines, ended.final_line) == (1, "one\ntwo", "two")


def test_times_of_an_ending(connection: Connection) -> None:
    """The times are those that the supervisor saw; a start that was recorded already stays."""
    first, second = insert_run(connection, PENDING, RUNNING)
    connection.execute(sa.update(experiments).where(experiments.c.id == second).values(started_at=2))
    for experiment_id in (first, second):
        lifecycle.end(
            connection,
            AttemptName(experiment_id, 1),
            Ending(Reason.EXIT_CODE, exit_code=0, started_at=4, finished_at=5),
            at=7,
        )
    for experiment_id, started_at in ((first, 4), (second, 2)):
        for each in (row(connection, experiment_id), *kept(connection, experiment_id)):
            assert (each.started_at, each.finished_at) == (started_at, 5)


def test_end_of_another_attempt(connection: Connection) -> None:
    """The end of an attempt that is no longer the present one is ignored."""
    (experiment_id,) = insert_run(connection, RUNNING, cancel_requested_at=3)
    connection.execute(sa.update(experiments).values(attempt=2))
    assert lifecycle.end(connection, AttemptName(experiment_id, 1), Ending(Reason.EXIT_CODE, exit_code=0), at=7) == []
    assert row(connection, experiment_id).status == RUNNING
    assert kept(connection, experiment_id) == []


def test_an_end_that_is_told_twice(connection: Connection) -> None:
    """The first end counts, and is reported once."""
    (experiment_id,) = insert_run(connection, RUNNING)
    lifecycle.end(connection, AttemptName(experiment_id, 1), Ending(Reason.EXIT_CODE, exit_code=0), at=7)
    assert lifecycle.end(connection, AttemptName(experiment_id, 1), Ending(Reason.LOST), at=8) == []
    assert (row(connection, experiment_id).status, row(connection, experiment_id).finished_at) == (SUCCEEDED, 7)
    assert [each.reason for each in kept(connection, experiment_id)] == [Reason.EXIT_CODE]
    assert len(told(connection)) == 1


def test_the_database_holds_what_happens_once(connection: Connection) -> None:
    """The database itself refuses an end or an event that is written a second time."""
    (experiment_id,) = insert_run(connection, RUNNING)
    lifecycle.end(connection, AttemptName(experiment_id, 1), Ending(Reason.EXIT_CODE, exit_code=1), at=7)
    for table in (events, attempts):
        same = dict(connection.execute(sa.select(table)).one()._mapping)
        same.pop("seq", None)
        with pytest.raises(sa.exc.IntegrityError, match="UNIQUE"), connection.begin_nested():
            connection.execute(sa.insert(table).values(same))


# Attempts


def test_queued_again(connection: Connection) -> None:
    """What has failed is queued as its next attempt, as if it had never run; nothing else is."""
    ids = insert_run(connection, RUNNING, RUNNING, *ExperimentStatus)
    for experiment_id in ids[:2]:
        connection.execute(sa.update(experiments).where(experiments.c.id == experiment_id).values(gpu_ids="[0]"))
        lifecycle.end(
            connection,
            AttemptName(experiment_id, 1),
            Ending(Reason.SIGNAL, signal=9, error="?", started_at=4, last_lines="x"),
            at=7,
        )
    before = [row(connection, experiment_id) for experiment_id in ids]
    whole = Which.run(before[0].run_seq)
    again = lifecycle.queue_again(connection, whole, at=8)
    failed = [place for place, each in enumerate(before) if each.status == FAILED]
    assert [index for index, _ in again] == failed == [0, 1, 2 + list(ExperimentStatus).index(FAILED)]
    assert [change for _, change in again] == [
        lifecycle.Change(ids[place], before[0].run_seq, QUEUED) for place in failed
    ]
    for place, experiment_id in enumerate(ids):
        after = row(connection, experiment_id)
        if place in failed:
            assert (after.status, after.attempt) == (QUEUED, 2)
            columns = ("reason", "exit_code", "signal", "error", "started_at", "finished_at", "gpu_ids")
            assert {after._mapping[column] for column in (*columns, "cancel_requested_at")} == {None}
            assert after.arguments == before[place].arguments
        else:
            assert after == before[place]
    assert [(each.number, each.signal, each.last_lines) for each in kept(connection, ids[0])] == [(1, 9, "x")]
    assert told(connection)[-3:] == [(QUEUED, None)] * 3
    assert lifecycle.queue_again(connection, whole, at=9) == []


def test_next_attempt_goes_the_same_way(connection: Connection) -> None:
    """Each attempt goes through the statuses separately, and each end stays."""
    (experiment_id,) = insert_run(connection, QUEUED)
    for number, ending in enumerate((Ending(Reason.LOST), Ending(Reason.TIMEOUT), Ending(Reason.EXIT_CODE, 0)), 1):
        which = Which.attempt(experiment_id, number)
        assert lifecycle.change(connection, which, PENDING, at=1)
        assert lifecycle.change(connection, which, RUNNING, at=2, values={"started_at": 10 * number})
        lifecycle.end(connection, AttemptName(experiment_id, number), ending, at=10 * number + 1)
        lifecycle.queue_again(connection, which, at=3)
    assert [
        (each.number, each.reason, each.started_at, each.finished_at) for each in kept(connection, experiment_id)
    ] == [
        (1, Reason.LOST, 10, 11),
        (2, Reason.TIMEOUT, 20, 21),
        (3, Reason.EXIT_CODE, 30, 31),
    ]
    one = [PENDING, RUNNING, FAILED, QUEUED]
    assert [status for status, _ in told(connection)] == [*one, *one, PENDING, RUNNING, SUCCEEDED]


@pytest.mark.parametrize(
    ("settings", "retries"),
    [
        ({}, 0),
        ({"maxRetries": 0, "autoResume": False}, 0),
        ({"maxRetries": 1, "autoResume": False}, 1),
        ({"maxRetries": 3, "autoResume": False}, 3),
        ({"maxRetries": 0, "autoResume": True}, 1),
        ({"maxRetries": 2, "autoResume": True}, 2),
    ],
)
def test_lost_and_queued_again(connection: Connection, settings: dict[str, Any], retries: int) -> None:
    """What is lost is queued again as often as its run says, after an event for the loss; then it stays lost."""
    (experiment_id,) = insert_run(connection, RUNNING)
    set_settings(connection, **settings)
    for number in range(1, retries + 1):
        changed = lifecycle.end(connection, AttemptName(experiment_id, number), Ending(Reason.LOST), at=7)
        assert [change.status for change in changed] == [FAILED, QUEUED]
        assert (row(connection, experiment_id).status, row(connection, experiment_id).attempt) == (QUEUED, number + 1)
        connection.execute(sa.update(experiments).values(status=RUNNING))
    changed = lifecycle.end(connection, AttemptName(experiment_id, retries + 1), Ending(Reason.LOST), at=7)
    assert [change.status for change in changed] == [FAILED]
    assert (row(connection, experiment_id).attempt, row(connection, experiment_id).reason) == (retries + 1, Reason.LOST)
    assert len(kept(connection, experiment_id)) == retries + 1


@pytest.mark.parametrize("reason", [reason for reason in NOT_CANCELLED if reason is not Reason.LOST])
def test_failures_are_not_run_again(connection: Connection, reason: Reason) -> None:
    """An experiment that ends for any other reason stays ended, and does not use up its run's retries."""
    (experiment_id,) = insert_run(connection, RUNNING)
    set_settings(connection, maxRetries=1, autoResume=True)
    lifecycle.end(connection, AttemptName(experiment_id, 1), Ending(reason, exit_code=1), at=7)
    assert (row(connection, experiment_id).status, row(connection, experiment_id).attempt) == (FAILED, 1)
    lifecycle.queue_again(connection, Which.experiment(experiment_id), at=8)
    connection.execute(sa.update(experiments).values(status=RUNNING))
    lifecycle.end(connection, AttemptName(experiment_id, 2), Ending(Reason.LOST), at=9)
    assert (row(connection, experiment_id).status, row(connection, experiment_id).attempt) == (QUEUED, 3)


def test_cancelled_and_lost(connection: Connection) -> None:
    """What was to be cancelled and is lost is cancelled, and never comes back."""
    (experiment_id,) = insert_run(connection, RUNNING, cancel_requested_at=3)
    set_settings(connection, maxRetries=5, autoResume=True)
    lifecycle.end(connection, AttemptName(experiment_id, 1), Ending(Reason.LOST), at=7)
    assert row(connection, experiment_id).status == CANCELLED
    assert lifecycle.queue_again(connection, Which.experiment(experiment_id), at=8) == []


def test_cancel_of_what_was_queued_again(connection: Connection) -> None:
    """A further attempt that waits is cancelled like a first one, and both ends stay."""
    (experiment_id,) = insert_run(connection, RUNNING)
    lifecycle.end(connection, AttemptName(experiment_id, 1), Ending(Reason.LOST), at=7)
    lifecycle.queue_again(connection, Which.experiment(experiment_id), at=8)
    lifecycle.cancel_queued(connection, Which.experiment(experiment_id), at=9)
    assert [(each.number, each.status, each.started_at) for each in kept(connection, experiment_id)] == [
        (1, FAILED, None),
        (2, CANCELLED, None),
    ]
