"""Tests of the one function that changes a status: every pair of statuses, and the document that says which may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service import lifecycle
from grid.service.executors import Ending
from grid.service.store import runs as statements
from grid.service.store.tables import events, experiments, metadata
from grid.wire import ExperimentStatus, Reason
from tests.experiments import insert_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "lifecycle.md"
PENDING, RUNNING, CANCELLED = ExperimentStatus.PENDING, ExperimentStatus.RUNNING, ExperimentStatus.CANCELLED


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A database in memory with one user and nothing of theirs."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as opened:
        metadata.create_all(opened)
        yield opened
    engine.dispose()


def row(connection: Connection, seq: int) -> sa.Row[Any]:
    """An experiment."""
    return connection.execute(sa.select(experiments).where(experiments.c.seq == seq)).one()


def of(seq: int) -> tuple[sa.ColumnElement[bool], dict[str, int]]:
    """That experiment, as a change is told of it."""
    return lifecycle.ONE, {"b_seq": seq}


def told(connection: Connection) -> list[tuple[str, str | None]]:
    """What the events say."""
    return [(event.status, event.reason) for event in connection.execute(sa.select(events).order_by(events.c.seq))]


def documented() -> dict[str, tuple[set[str], set[str | None]]]:
    """For each status from which others it is reached, and why, as the table of the document has it."""
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
    """A change that the table has is made, told as an event and counted; any other is dropped without a trace."""
    (seq,) = insert_run(connection, source)
    sources, reasons = lifecycle.TRANSITIONS[to]
    before = row(connection, seq)
    changed = lifecycle.change(connection, *of(seq), to, at=7, reason=reasons[0])
    after = row(connection, seq)
    if source in sources:
        assert changed == [lifecycle.Change(seq, after.run_seq, to)]
        assert (after.status, after.reason) == (to, reasons[0])
        assert after.finished_at == (7 if to.is_terminal else None)
        assert told(connection) == [(to, reasons[0])]
    else:
        assert changed == []
        assert after == before
        assert told(connection) == []


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (CANCELLED, Reason.LOST),
        (CANCELLED, None),
        (RUNNING, Reason.EXIT_CODE),
        (ExperimentStatus.SUCCEEDED, Reason.SIGNAL),
    ],
)
def test_wrong_reason(connection: Connection, to: ExperimentStatus, reason: Reason | None) -> None:
    """A status that is not reached for a reason is a fault of whoever asked, and nothing is changed."""
    (seq,) = insert_run(connection, PENDING)
    with pytest.raises(ValueError, match="is not reached for the reason"):
        lifecycle.change(connection, *of(seq), to, at=7, reason=reason)
    assert row(connection, seq).status == PENDING


def test_many_at_once(connection: Connection) -> None:
    """Of many experiments those are changed that may be, each with an event; a run's revision grows with them."""
    first = insert_run(connection, *ExperimentStatus)
    second = insert_run(connection, *ExperimentStatus)
    changed = lifecycle.change(connection, sa.true(), {}, CANCELLED, at=7, reason=Reason.CANCELLED_BY_USER)
    unfinished = {
        seq
        for seqs in (first, second)
        for seq, status in zip(seqs, ExperimentStatus, strict=True)
        if not status.is_terminal
    }
    assert {change.experiment_seq for change in changed} == unfinished
    assert told(connection) == [(CANCELLED, Reason.CANCELLED_BY_USER)] * len(unfinished)
    before = [statements.by_seq(connection, seq).revision for seq in (1, 2)]
    assert lifecycle.change(connection, *of(first[0]), CANCELLED, at=8, reason=Reason.CANCELLED_BY_USER) == []
    assert [statements.by_seq(connection, seq).revision for seq in (1, 2)] == before
    connection.execute(sa.update(experiments).where(experiments.c.seq == second[0]).values(status=PENDING))
    lifecycle.change(connection, *of(second[0]), RUNNING, at=9)
    after = [statements.by_seq(connection, seq).revision for seq in (1, 2)]
    assert after[0] == before[0] > 0
    assert after[1] > before[1]


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        (Ending(exit_code=0), "SUCCEEDED", "EXIT_CODE"),
        (Ending(exit_code=1), "FAILED", "EXIT_CODE"),
        (Ending(exit_code=255), "FAILED", "EXIT_CODE"),
        (Ending(signal=9), "FAILED", "SIGNAL"),
        (Ending(error="no such file"), "FAILED", "START_FAILED"),
        (Ending(lost=True), "FAILED", "LOST"),
    ],
)
@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("source", lifecycle.ACTIVE)
def test_endings(
    connection: Connection, source: ExperimentStatus, ending: Ending, status: str, reason: str, cancelled: bool
) -> None:
    """What the executor saw decides how an attempt ended, unless a cancel was recorded before."""
    (seq,) = insert_run(connection, source, cancel_requested_at=3 if cancelled else None)
    lifecycle.end(connection, seq, 1, ending, at=7)
    after = row(connection, seq)
    assert (after.status, after.reason) == (("CANCELLED", "CANCELLED_BY_USER") if cancelled else (status, reason))
    assert (after.exit_code, after.signal, after.error) == (ending.exit_code, ending.signal, ending.error)
    assert after.finished_at == 7


def test_times_of_an_ending(connection: Connection) -> None:
    """The times are those that the supervisor saw; a start that was recorded already stays."""
    first, second = insert_run(connection, PENDING, RUNNING)
    connection.execute(sa.update(experiments).where(experiments.c.seq == second).values(started_at=2))
    for seq in (first, second):
        lifecycle.end(connection, seq, 1, Ending(exit_code=0, started_at=4, finished_at=5), at=7)
    assert [(row(connection, seq).started_at, row(connection, seq).finished_at) for seq in (first, second)] == [
        (4, 5),
        (2, 5),
    ]


def test_end_of_another_attempt(connection: Connection) -> None:
    """The end of an attempt that is not the present one means nothing any more."""
    (seq,) = insert_run(connection, RUNNING, cancel_requested_at=3)
    connection.execute(sa.update(experiments).values(attempt=2))
    assert lifecycle.end(connection, seq, 1, Ending(exit_code=0), at=7) == []
    assert row(connection, seq).status == RUNNING
