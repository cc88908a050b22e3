"""Statements about the attempts whose output a reader of a run's logs goes through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.event_rows import DELETED
from grid.service.store.tables import attempts, events, experiments

_OF_RUN = experiments.c.run_seq == sa.bindparam("b_run_seq")
_CURRENT = (
    sa.select(
        experiments.c.seq,
        experiments.c.id,
        experiments.c.index,
        experiments.c.status,
        experiments.c.attempt,
        experiments.c.layout,
    )
    .where(_OF_RUN)
    .order_by(experiments.c.index)
)
_ONE = _CURRENT.where(experiments.c.id == sa.bindparam("b_id"))
_CHANGED = _CURRENT.where(
    experiments.c.seq.in_(
        sa.select(events.c.experiment_seq).where(
            events.c.run_seq == sa.bindparam("b_run_seq"), events.c.number > sa.bindparam("b_after")
        )
    )
)
_DELETED = sa.select(events.c.index).where(
    events.c.run_seq == sa.bindparam("b_run_seq"), events.c.number > sa.bindparam("b_after"), events.c.status == DELETED
)
_OF_LAYOUT = (
    sa.select(attempts.c.experiment_seq, attempts.c.number)
    .join_from(attempts, experiments)
    .where(_OF_RUN, attempts.c.layout == sa.bindparam("b_layout"))
)


def current(connection: Connection, run_seq: int, experiment_id: str | None) -> Sequence[Any]:
    """Return which attempt each experiment of a run is at, or one of them, in index order."""
    if experiment_id is None:
        return connection.execute(_CURRENT, {"b_run_seq": run_seq}).all()
    return connection.execute(_ONE, {"b_run_seq": run_seq, "b_id": experiment_id}).all()


def changed(connection: Connection, run_seq: int, after: int) -> Sequence[Any]:
    """Return the same for those to which something has happened after an event."""
    return connection.execute(_CHANGED, {"b_run_seq": run_seq, "b_after": after}).all()


def deleted(connection: Connection, run_seq: int, after: int) -> Sequence[int]:
    """Return the indices of those that were deleted after an event: no row of theirs is left."""
    return connection.execute(_DELETED, {"b_run_seq": run_seq, "b_after": after}).scalars().all()


def ended_with_layout(connection: Connection, run_seq: int, layout: int) -> set[tuple[int, int]]:
    """Return the experiments' seqs and the numbers of the ended attempts of a run whose files are laid out so."""
    rows = connection.execute(_OF_LAYOUT, {"b_run_seq": run_seq, "b_layout": layout})
    return {(row.experiment_seq, row.number) for row in rows}
