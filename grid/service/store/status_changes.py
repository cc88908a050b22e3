"""The guarded statements that change a status: each change is counted and leaves an event, each end leaves an attempt.

`grid.service.domain.lifecycle` decides which changes are allowed and why; nothing else calls these.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from grid.service.store.experiment_rows import Which
from grid.service.store.run_changes import written_at_the_end
from grid.service.store.tables import attempts, experiments
from grid.service.system.workspace import LAYOUT
from grid.shared.wire import ExperimentStatus

ENDING = ("reason", "exit_code", "signal", "error", "started_at")
"""The columns in which an experiment shows how its attempt ended, except for the time."""

_ATTEMPT = sa.insert(attempts)


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """An experiment whose status has changed."""

    experiment_id: str
    run_seq: int
    index: int


def change(  # noqa: PLR0913 - a change consists of this much
    connection: Connection,
    which: Which,
    sources: tuple[ExperimentStatus, ...],
    to: ExperimentStatus,
    *,
    at: int,
    columns: Mapping[str, Any],
    output: Mapping[str, str | None] | None = None,
    is_queued_again: bool = False,
) -> list[ChangedRow]:
    """Change the status of those of the experiments that have one of the given statuses.

    Parameters
    ----------
    connection
        The writer's, within its transaction.
    which
        The experiments.
    sources
        The statuses that they may have.
    to
        The new status.
    at
        Microseconds since the epoch.
    columns
        Other columns to set; all of `ENDING` and ``finished_at`` if an attempt ends. A recorded start is kept.
    output
        What else is kept of an attempt that ends: ``last_lines`` and ``final_line``.
    is_queued_again
        Whether the next attempt is queued in the same transaction, right after this one's end.

    Returns
    -------
    list of ChangedRow
        The experiments whose status has changed.
    """
    reachable, update = _statements(which.condition, sources, to, tuple(columns))
    rows = connection.execute(reachable, which.meant).all()
    if not rows:
        return []
    connection.execute(update, {**which.meant, **{f"v_{name}": value for name, value in columns.items()}})
    if output is not None:
        ended = [
            {
                **columns,
                **output,
                "status": to.value,
                "experiment_seq": row.seq,
                "number": row.attempt,
                "layout": row.layout,
                "started_at": row.started_at or columns["started_at"],
            }
            for row in rows
        ]
        connection.execute(_ATTEMPT, ended)
    told = [(row, row.attempt) for row in rows]
    _note(connection, told, to, columns.get("reason"), at, is_queued_again=is_queued_again)
    return _changed(rows)


def change_to_next_attempt(
    connection: Connection, which: Which, sources: tuple[ExperimentStatus, ...], to: ExperimentStatus, *, at: int
) -> list[ChangedRow]:
    """Move those of the experiments that have one of the given statuses to their next attempt, with a new status.

    Returns
    -------
    list of ChangedRow
        The experiments whose status has changed.
    """
    reachable, update = _statements_of_next_attempt(which.condition, sources, to)
    rows = connection.execute(reachable, which.meant).all()
    if rows:
        connection.execute(update, which.meant)
        _note(connection, [(row, row.attempt + 1) for row in rows], to, None, at)
    return _changed(rows)


def _note(  # noqa: PLR0913 - an event consists of this much
    connection: Connection,
    rows: Sequence[tuple[Row[Any], int]],
    to: ExperimentStatus,
    reason: str | None,
    at: int,
    *,
    is_queued_again: bool = False,
) -> None:
    with written_at_the_end(connection) as pending:
        for row, attempt in rows:
            pending.counts[row.run_seq, row.status] -= 1
            pending.counts[row.run_seq, to.value] += 1
            pending.events.append(
                {
                    "run_seq": row.run_seq,
                    "experiment_seq": row.seq,
                    "index": row.index,
                    "attempt": attempt,
                    "status": to.value,
                    "reason": reason,
                    "is_queued_again": is_queued_again,
                    "at": at,
                }
            )


def _changed(rows: Iterable[Any]) -> list[ChangedRow]:
    return [ChangedRow(row.id, row.run_seq, row.index) for row in rows]


@functools.cache
def _statements(
    which: ColumnElement[bool], sources: tuple[ExperimentStatus, ...], to: ExperimentStatus, columns: tuple[str, ...]
) -> tuple[sa.Select[Any], sa.Update]:
    """Build the two statements of a change only once: building them costs more than running them."""
    guard = which & experiments.c.status.in_(sources)
    new: dict[str, Any] = {name: sa.bindparam(f"v_{name}", type_=experiments.c[name].type) for name in columns}
    if "started_at" in new:
        new["started_at"] = sa.func.coalesce(experiments.c.started_at, new["started_at"])
    return _reachable(guard), sa.update(experiments).where(guard).values(status=to.value, **new)


@functools.cache
def _statements_of_next_attempt(
    which: ColumnElement[bool], sources: tuple[ExperimentStatus, ...], to: ExperimentStatus
) -> tuple[sa.Select[Any], sa.Update]:
    guard = which & experiments.c.status.in_(sources)
    unknown = dict.fromkeys((*ENDING, "finished_at", "gpu_ids", "cancel_requested_at"), sa.null())
    following = {"status": to.value, "attempt": experiments.c.attempt + 1, "layout": LAYOUT}
    return _reachable(guard), sa.update(experiments).where(guard).values(**following, **unknown)


def _reachable(guard: ColumnElement[bool]) -> sa.Select[Any]:
    known = (
        experiments.c.seq,
        experiments.c.id,
        experiments.c.run_seq,
        experiments.c.index,
        experiments.c.status,
        experiments.c.attempt,
        experiments.c.layout,
        experiments.c.started_at,
    )
    return sa.select(*known).where(guard).order_by(experiments.c.seq).with_for_update()
