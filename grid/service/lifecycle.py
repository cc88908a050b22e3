"""The table of `docs/lifecycle.md`, and the one function that changes a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from grid.service.executors import Ending
from grid.service.store.tables import events, experiments, runs
from grid.wire import ExperimentStatus, Reason

_QUEUED, _PENDING, _RUNNING = ExperimentStatus.QUEUED, ExperimentStatus.PENDING, ExperimentStatus.RUNNING
_SUCCEEDED, _FAILED, _CANCELLED = ExperimentStatus.SUCCEEDED, ExperimentStatus.FAILED, ExperimentStatus.CANCELLED

ACTIVE = (_PENDING, _RUNNING)
"""The statuses in which an experiment holds resources."""

UNFINISHED = (_QUEUED, *ACTIVE)

TRANSITIONS: dict[ExperimentStatus, tuple[tuple[ExperimentStatus, ...], tuple[Reason | None, ...]]] = {
    _PENDING: ((_QUEUED,), (None,)),
    _RUNNING: ((_PENDING,), (None,)),
    _SUCCEEDED: (ACTIVE, (Reason.EXIT_CODE,)),
    _FAILED: (ACTIVE, (Reason.EXIT_CODE, Reason.SIGNAL, Reason.START_FAILED, Reason.LOST)),
    _CANCELLED: (UNFINISHED, (Reason.CANCELLED_BY_USER,)),
}
"""For each status: from which others it may be reached, and for which reasons."""


@dataclass(frozen=True, slots=True)
class Change:
    """One experiment whose status has changed."""

    experiment_seq: int
    run_seq: int
    status: ExperimentStatus


def change(
    connection: Connection,
    which: ColumnElement[bool],
    to: ExperimentStatus,
    *,
    at: int,
    reason: Reason | None = None,
    values: dict[str, Any] | None = None,
) -> list[Change]:
    """Change the status of those of the experiments that may reach it from where they are.

    Parameters
    ----------
    connection
        The writer's, within its transaction.
    which
        Condition on the experiments, with the attempt that is meant where the attempt matters.
    to
        The new status.
    at
        Microseconds since the epoch.
    reason
        Why; required by the terminal statuses.
    values
        Other columns to set.

    Returns
    -------
    list of Change
        Empty where the change came too late: then it means nothing any more.
    """
    sources, reasons = TRANSITIONS[to]
    if reason not in reasons:
        message = f"{to} is not reached for the reason {reason}"
        raise ValueError(message)
    guard = which & experiments.c.status.in_(sources)
    rows = connection.execute(
        sa.select(experiments.c.seq, experiments.c.run_seq, experiments.c.attempt).where(guard).with_for_update()
    ).all()
    if not rows:
        return []
    columns: dict[str, Any] = {"status": to.value, **(values or {})}
    if to.is_terminal:
        columns |= {"reason": reason}
        columns.setdefault("finished_at", at)
    connection.execute(sa.update(experiments).where(guard).values(columns))
    connection.execute(
        sa.insert(events),
        [
            {"experiment_seq": row.seq, "attempt": row.attempt, "status": to.value, "reason": reason, "at": at}
            for row in rows
        ],
    )
    connection.execute(
        sa.update(runs).where(runs.c.seq.in_({row.run_seq for row in rows})).values(revision=runs.c.revision + 1)
    )
    return [Change(row.seq, row.run_seq, to) for row in rows]


def end(connection: Connection, experiment_seq: int, attempt: int, ending: Ending, *, at: int) -> list[Change]:
    """Record how an attempt ended. A cancel that was recorded before wins over whatever its executor saw."""
    which = (experiments.c.seq == experiment_seq) & (experiments.c.attempt == attempt)
    cancelled = connection.execute(sa.select(experiments.c.cancel_requested_at).where(which)).scalar()
    if cancelled is not None:
        to, reason = _CANCELLED, Reason.CANCELLED_BY_USER
    elif ending.lost:
        to, reason = _FAILED, Reason.LOST
    elif ending.error is not None:
        to, reason = _FAILED, Reason.START_FAILED
    elif ending.signal is not None:
        to, reason = _FAILED, Reason.SIGNAL
    elif ending.exit_code == 0:
        to, reason = _SUCCEEDED, Reason.EXIT_CODE
    else:
        to, reason = _FAILED, Reason.EXIT_CODE
    values = {
        "exit_code": ending.exit_code,
        "signal": ending.signal,
        "error": ending.error,
        "started_at": sa.func.coalesce(experiments.c.started_at, ending.started_at),
        "finished_at": ending.finished_at or at,
    }
    return change(connection, which, to, at=at, reason=reason, values=values)
