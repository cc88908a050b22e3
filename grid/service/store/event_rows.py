"""Statements about the events of runs: each is numbered by its run's own counter, in the transaction of the change.

The counter is a row that the transaction changes, and so has for itself until its end: numbers have the order of
commits, on a database with several writers as well.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.tables import events, experiments, revisions, runs, status_counts, users
from grid.shared.wire import UNFINISHED

DELETED = "DELETED"
"""What an event has for a status if the experiment was deleted."""

Event = dict[str, Any]
"""The columns of an event but for its number."""

_COUNTER = revisions.c.run_seq == sa.bindparam("b_run_seq")
_ADVANCE = (
    sa.update(revisions).where(_COUNTER).values(number=revisions.c.number + sa.bindparam("v_more", type_=sa.Integer))
)
# The counter is read where it is used: asking for it would be one more statement with every change of a status.
_NUMBER = sa.select(revisions.c.number).where(_COUNTER).scalar_subquery()
_TELL = sa.insert(events).values(number=_NUMBER - sa.bindparam("v_left", type_=sa.Integer))
_FORGET = sa.delete(revisions).where(_COUNTER)

_OPEN = (
    sa.select(sa.func.coalesce(sa.func.sum(status_counts.c.number), 0))
    .where(status_counts.c.run_seq == runs.c.seq, status_counts.c.status.in_(UNFINISHED))
    .scalar_subquery()
)
_HEAD = (
    sa.select(runs.c.seq, runs.c.id, runs.c.name, runs.c.user_id, revisions.c.number.label("revision"))
    .add_columns(_OPEN.label("unfinished"), users.c.name.label("username"))
    .join_from(runs, revisions, revisions.c.run_seq == runs.c.seq)
    .join(users, users.c.id == runs.c.user_id)
)
_HEAD_OF_EXPERIMENT = _HEAD.add_columns(
    experiments.c.seq.label("experiment_seq"), experiments.c.index.label("experiment_index"), experiments.c.status
).outerjoin(experiments, (experiments.c.run_seq == runs.c.seq) & (experiments.c.id == sa.bindparam("b_experiment_id")))
_EVENTS: sa.Select[Any] = (
    sa.select(
        events.c.number,
        events.c.at,
        experiments.c.id.label("experiment_id"),
        events.c.index,
        events.c.attempt,
        events.c.status,
        events.c.reason,
        events.c.is_queued_again,
    )
    .join_from(events, experiments, experiments.c.seq == events.c.experiment_seq, isouter=True)
    .where(events.c.number > sa.bindparam("b_after"), events.c.number <= sa.bindparam("b_until"))
    .order_by(events.c.number)
    .limit(sa.bindparam("b_limit", type_=sa.Integer))
)
_OF_RUN = _EVENTS.where(events.c.run_seq == sa.bindparam("b_run_seq"))
# Found by the experiment alone: a run may have very many other events.
_OF_EXPERIMENT = _EVENTS.where(events.c.experiment_seq == sa.bindparam("b_experiment_seq"))
_DELETION = _OF_RUN.where(events.c.status == DELETED, events.c.index == sa.bindparam("b_index"))
_LAST = 2**31 - 1
"""No event has a higher number."""


def begin(connection: Connection, run_seq: int) -> None:
    """Insert the counter of a new run."""
    connection.execute(sa.insert(revisions).values(run_seq=run_seq, number=0))


def write(connection: Connection, told: Sequence[Event], gone: Collection[int]) -> None:
    """Number events and insert them, each after those of its run that come before it; forget the runs that are gone.

    Parameters
    ----------
    connection
        The writer's, at the end of its transaction: see `run_changes`.
    told
        The events, in order.
    gone
        The runs that are deleted, of which no event is told.
    """
    left = Counter[int](each["run_seq"] for each in told)
    # The order in which every transaction locks these rows.
    for is_gone, seqs in itertools.groupby(sorted(left.keys() | gone), key=gone.__contains__):
        if is_gone:
            connection.execute(_FORGET, [{"b_run_seq": seq} for seq in seqs])
        else:
            connection.execute(_ADVANCE, [{"b_run_seq": seq, "v_more": left[seq]} for seq in seqs])
    rows = []
    for each in told:
        left[each["run_seq"]] -= 1
        rows.append({**each, "b_run_seq": each["run_seq"], "v_left": left[each["run_seq"]]})
    if rows:
        connection.execute(_TELL, rows)


def head(connection: Connection, run_id: str) -> Row[Any] | None:
    """Return the number of a run's last event, how many of its experiments had not ended then, and whose run it is."""
    return connection.execute(_HEAD.where(runs.c.id == run_id)).one_or_none()


def head_of_experiment(connection: Connection, run_id: str, experiment_id: str) -> Row[Any] | None:
    """Return the same, and what is known of an experiment then: nothing, if the run has none of that id."""
    query = _HEAD_OF_EXPERIMENT.where(runs.c.id == run_id)
    return connection.execute(query, {"b_experiment_id": experiment_id}).one_or_none()


def of_run(connection: Connection, run_seq: int, after: int, until: int, limit: int) -> Sequence[Row[Any]]:
    """Return the first events of a run after a number and up to another."""
    meant = {"b_run_seq": run_seq, "b_after": after, "b_until": until, "b_limit": limit}
    return connection.execute(_OF_RUN, meant).all()


def of_experiment(
    connection: Connection, experiment_seq: int, after: int, until: int, limit: int
) -> Sequence[Row[Any]]:
    """Return the first events of an experiment after a number and up to another."""
    meant = {"b_experiment_seq": experiment_seq, "b_after": after, "b_until": until, "b_limit": limit}
    return connection.execute(_OF_EXPERIMENT, meant).all()


def deletion(connection: Connection, run_seq: int, index: int, after: int) -> Sequence[Row[Any]]:
    """Return the event after a number that an experiment of a run was deleted."""
    meant = {"b_run_seq": run_seq, "b_index": index, "b_after": after, "b_until": _LAST, "b_limit": 1}
    return connection.execute(_DELETION, meant).all()
