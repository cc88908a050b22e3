"""The table of `docs/lifecycle.md`, and the one function that changes a status."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from grid.service.executors.protocol import Ending
from grid.service.store.tables import attempts, events, experiments, runs
from grid.shared.wire import ACTIVE, UNFINISHED, ExperimentStatus, Reason

_QUEUED, _PENDING, _RUNNING = ExperimentStatus.QUEUED, ExperimentStatus.PENDING, ExperimentStatus.RUNNING
_SUCCEEDED, _FAILED, _CANCELLED = ExperimentStatus.SUCCEEDED, ExperimentStatus.FAILED, ExperimentStatus.CANCELLED

TRANSITIONS: dict[ExperimentStatus, tuple[tuple[ExperimentStatus, ...], tuple[Reason | None, ...]]] = {
    _QUEUED: ((_FAILED,), (None,)),
    _PENDING: ((_QUEUED,), (None,)),
    _RUNNING: ((_PENDING,), (None,)),
    _SUCCEEDED: (ACTIVE, (Reason.EXIT_CODE,)),
    _FAILED: (ACTIVE, tuple(reason for reason in Reason if reason is not Reason.CANCELLED_BY_USER)),
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
    ending: Ending | None = None,
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
    ending
        How the attempt ended; required by the terminal statuses. A start that is recorded stays.
    values
        Other columns to set.

    Returns
    -------
    list of Change
        Empty where the change came too late: then it means nothing any more.
    """
    reason = None if ending is None else ending.reason
    if reason not in TRANSITIONS[to][1]:
        message = f"{to} is not reached for the reason {reason}"
        raise ValueError(message)
    columns: dict[str, Any] = dict(values or {})
    if ending is not None:
        columns |= {name: getattr(ending, name) for name in _ENDING}
        columns["finished_at"] = ending.finished_at or at
    reachable, update = _statements(which, to, tuple(columns))
    rows = connection.execute(reachable, meant).all()
    if not rows:
        return []
    connection.execute(update, {**meant, **{f"v_{name}": value for name, value in columns.items()}})
    if ending is not None:
        words = {"last_lines": ending.last_lines, "final_line": ending.final_line, "status": to.value}
        ended = [
            {
                **columns,
                **words,
                "experiment_seq": row.seq,
                "number": row.attempt,
                "started_at": row.started_at or ending.started_at,
            }
            for row in rows
        ]
        connection.execute(_ATTEMPT, ended)
    _tell(connection, [(row, row.attempt) for row in rows], to, reason, at)
    return [Change(row.seq, row.run_seq, to) for row in rows]


_ENDING = ("reason", "exit_code", "signal", "error", "started_at")
"""What an experiment shows of how its attempt ended."""


def queue_again(
    connection: Connection, which: ColumnElement[bool], meant: dict[str, int], *, at: int
) -> list[tuple[int, Change]]:
    """Queue those of the experiments that have failed as their next attempt; return their indices and changes."""
    reachable, _ = _statements(which, _QUEUED, ())
    rows = connection.execute(reachable, meant).all()
    if not rows:
        return []
    connection.execute(_again(which), meant)
    _tell(connection, [(row, row.attempt + 1) for row in rows], _QUEUED, None, at)
    return [(index, Change(seq, run_seq, _QUEUED)) for seq, run_seq, index, *_ in rows]


def _tell(
    connection: Connection, rows: Iterable[tuple[Any, int]], to: ExperimentStatus, reason: Reason | None, at: int
) -> None:
    told = [
        {
            "run_seq": row.run_seq,
            "experiment_seq": row.seq,
            "attempt": attempt,
            "status": to.value,
            "reason": reason,
            "at": at,
        }
        for row, attempt in rows
    ]
    connection.execute(_EVENT, told)


def cancel_queued(
    connection: Connection, which: ColumnElement[bool], meant: dict[str, int], *, at: int
) -> list[Change]:
    """End those of the experiments that wait for their turn: they have no process that would have to be gone first."""
    return change(connection, _queued(which), meant, _CANCELLED, at=at, ending=Ending(Reason.CANCELLED_BY_USER))


@functools.cache
def _queued(which: ColumnElement[bool]) -> ColumnElement[bool]:
    return which & (experiments.c.status == _QUEUED)


_EVENT = sa.insert(events)
_ATTEMPT = sa.insert(attempts)
_CANCEL_REQUEST = sa.select(experiments.c.cancel_requested_at).where(ONE_ATTEMPT)
_LOST = (
    sa.select(sa.func.count())
    .select_from(attempts)
    .where(attempts.c.experiment_seq == sa.bindparam("b_seq"), attempts.c.reason == Reason.LOST.value)
)
_SETTINGS = sa.select(runs.c.settings).join_from(experiments, runs).where(ONE)


@functools.cache
def _statements(
    which: ColumnElement[bool], to: ExperimentStatus, columns: tuple[str, ...]
) -> tuple[sa.Select[Any], sa.Update]:
    """Make the two statements of a change once: to make them costs more than to run them."""
    guard = which & experiments.c.status.in_(TRANSITIONS[to][0])
    known = (
        experiments.c.seq,
        experiments.c.run_seq,
        experiments.c.index,
        experiments.c.attempt,
        experiments.c.started_at,
    )
    new: dict[str, Any] = {name: sa.bindparam(f"v_{name}", type_=experiments.c[name].type) for name in columns}
    if "started_at" in new:
        new["started_at"] = sa.func.coalesce(experiments.c.started_at, new["started_at"])
    reachable = sa.select(*known).where(guard).order_by(experiments.c.seq).with_for_update()
    return reachable, sa.update(experiments).where(guard).values(status=to.value, **new)


@functools.cache
def _again(which: ColumnElement[bool]) -> sa.Update:
    guard = which & experiments.c.status.in_(TRANSITIONS[_QUEUED][0])
    unknown = dict.fromkeys((*_ENDING, "finished_at", "gpu_ids", "cancel_requested_at"), sa.null())
    return (
        sa.update(experiments).where(guard).values(status=_QUEUED.value, attempt=experiments.c.attempt + 1, **unknown)
    )


def end(connection: Connection, experiment_seq: int, attempt: int, ending: Ending, *, at: int) -> list[Change]:
    """Record how an attempt ended, and queue the next one where it was lost and its run asks for that.

    A cancel that was recorded before wins over whatever the executor saw.
    """
    meant = {"b_seq": experiment_seq, "b_attempt": attempt}
    cancelled = ending.reason is Reason.CANCELLED_BY_USER  # as its folder says, whatever has become of the request
    if cancelled or connection.execute(_CANCEL_REQUEST, meant).scalar() is not None:
        ending = dataclasses.replace(ending, reason=Reason.CANCELLED_BY_USER)
        return change(connection, ONE_ATTEMPT, meant, _CANCELLED, at=at, ending=ending)
    to = _SUCCEEDED if ending.succeeded else _FAILED
    changed = change(connection, ONE_ATTEMPT, meant, to, at=at, ending=ending)
    if changed and ending.reason is Reason.LOST and _may_run_again(connection, experiment_seq):
        changed += [again for _, again in queue_again(connection, ONE_ATTEMPT, meant, at=at)]
    return changed


def _may_run_again(connection: Connection, experiment_seq: int) -> bool:
    """Whether an experiment that was lost, again, is to be queued by itself."""
    settings = orjson.loads(connection.execute(_SETTINGS, {"b_seq": experiment_seq}).scalar_one())
    # Runs that an earlier version has started say nothing of either.
    retries = max(int(settings.get("maxRetries", 0)), int(settings.get("autoResume", False)))
    return bool(retries) and connection.execute(_LOST, {"b_seq": experiment_seq}).scalar_one() <= retries
