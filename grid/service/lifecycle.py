"""The table of `docs/lifecycle.md`, and the one function that changes a status."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from grid.service.executors import Ending
from grid.service.store.tables import events, experiments
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


ONE_ATTEMPT = (experiments.c.seq == sa.bindparam("b_seq")) & (experiments.c.attempt == sa.bindparam("b_attempt"))
"""One attempt of one experiment: ``b_seq`` and ``b_attempt``."""
ONE = experiments.c.seq == sa.bindparam("b_seq")
"""One experiment: ``b_seq``."""
ALL_OF_RUN = experiments.c.run_seq == sa.bindparam("b_run_seq")
"""All experiments of a run: ``b_run_seq``."""


def change(  # noqa: PLR0913 - what a change is made of
    connection: Connection,
    which: ColumnElement[bool],
    meant: dict[str, int],
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
        One of the conditions above.
    meant
        The values of its parameters.
    to
        The new status.
    at
        Microseconds since the epoch.
    reason
        Why; required by the terminal statuses.
    values
        Other columns to set. A start that is recorded stays.

    Returns
    -------
    list of Change
        Empty where the change came too late: then it means nothing any more.
    """
    if reason not in TRANSITIONS[to][1]:
        message = f"{to} is not reached for the reason {reason}"
        raise ValueError(message)
    columns: dict[str, Any] = dict(values or {})
    if to.is_terminal:
        columns["reason"] = reason
        columns.setdefault("finished_at", at)
    reachable, update = _statements(which, to, tuple(columns))
    rows = connection.execute(reachable, meant).all()
    if not rows:
        return []
    connection.execute(update, {**meant, **{f"v_{name}": value for name, value in columns.items()}})
    connection.execute(
        _EVENT,
        [
            {
                "run_seq": row.run_seq,
                "experiment_seq": row.seq,
                "attempt": row.attempt,
                "status": to.value,
                "reason": reason,
                "at": at,
            }
            for row in rows
        ],
    )
    return [Change(row.seq, row.run_seq, to) for row in rows]


def cancel_queued(
    connection: Connection, which: ColumnElement[bool], meant: dict[str, int], *, at: int
) -> list[Change]:
    """End those of the experiments that wait for their turn: they have no process that would have to be gone first."""
    queued = _queued(which)
    return change(connection, queued, meant, _CANCELLED, at=at, reason=Reason.CANCELLED_BY_USER)


@functools.cache
def _queued(which: ColumnElement[bool]) -> ColumnElement[bool]:
    return which & (experiments.c.status == _QUEUED)


_EVENT = sa.insert(events)
_CANCEL_REQUEST = sa.select(experiments.c.cancel_requested_at).where(ONE_ATTEMPT)


@functools.cache
def _statements(
    which: ColumnElement[bool], to: ExperimentStatus, columns: tuple[str, ...]
) -> tuple[sa.Select[Any], sa.Update]:
    """Make the two statements of a change once: to make them costs more than to run them."""
    guard = which & experiments.c.status.in_(TRANSITIONS[to][0])
    reachable = sa.select(experiments.c.seq, experiments.c.run_seq, experiments.c.attempt).where(guard)
    new: dict[str, Any] = {name: sa.bindparam(f"v_{name}", type_=experiments.c[name].type) for name in columns}
    if "started_at" in new:
        new["started_at"] = sa.func.coalesce(experiments.c.started_at, new["started_at"])
    return reachable.with_for_update(), sa.update(experiments).where(guard).values(status=to.value, **new)


def end(connection: Connection, experiment_seq: int, attempt: int, ending: Ending, *, at: int) -> list[Change]:
    """Record how an attempt ended. A cancel that was recorded before wins over whatever its executor saw."""
    meant = {"b_seq": experiment_seq, "b_attempt": attempt}
    if connection.execute(_CANCEL_REQUEST, meant).scalar() is not None:
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
        "started_at": ending.started_at,
        "finished_at": ending.finished_at or at,
    }
    return change(connection, ONE_ATTEMPT, meant, to, at=at, reason=reason, values=values)
