"""Statements about the queue: which experiments are next, and which have had their turn and hold resources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.tables import attempts, clusters, events, experiments, runs
from grid.shared.wire import ACTIVE, ExperimentStatus


def _of_last_begun(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    """Select a column of the last ended attempt whose script was started."""
    begun = (attempts.c.experiment_seq == experiments.c.seq) & attempts.c.started_at.is_not(None)
    return sa.select(column).where(begun).order_by(attempts.c.number.desc()).limit(1).scalar_subquery()


_JOBS = sa.select(
    experiments,
    _of_last_begun(attempts.c.number).label("begun_number"),
    _of_last_begun(attempts.c.layout).label("begun_layout"),
    runs.c.name.label("run_name"),
    runs.c.user_id,
    runs.c.cluster,
    runs.c.snapshot,
    runs.c.script,
    runs.c.interpreter,
    runs.c.launch,
    runs.c.settings,
).join_from(experiments, runs)

_QUEUE = (
    _JOBS.join(clusters)
    .where(
        experiments.c.status == ExperimentStatus.QUEUED,
        experiments.c.gpus <= sa.bindparam("all_gpus"),
        # Found first, and by its key: where it is paused, the queue is not even looked at.
        clusters.c.name == sa.bindparam("on"),
        ~clusters.c.paused,
    )
    .order_by(experiments.c.seq)
    .limit(sa.bindparam("most", type_=sa.Integer))
)

_TURN = (
    sa.select(events.c.at)
    .where(
        events.c.experiment_seq == experiments.c.seq,
        events.c.attempt == experiments.c.attempt,
        events.c.status == ExperimentStatus.PENDING.value,
    )
    .scalar_subquery()
)


def next_in_queue(connection: Connection, cluster: str, limit: int, gpus: int) -> Sequence[Row[Any]]:
    """Return the next experiments in the queue, in order, with what their executor needs; none of a paused cluster.

    One that needs more GPUs than there are, because the service was restarted with fewer, does not hold up the others.
    """
    return connection.execute(_QUEUE, {"on": cluster, "most": limit, "all_gpus": gpus}).all()


def active(connection: Connection) -> Sequence[Row[Any]]:
    """Return the experiments that hold resources, and when the turn of each came."""
    query = _JOBS.add_columns(_TURN.label("turn_at")).where(experiments.c.status.in_(ACTIVE))
    return connection.execute(query.order_by(experiments.c.seq)).all()
