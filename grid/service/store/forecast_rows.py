"""What is known of how long a run will still take: how long its experiments took, and what shares the cluster with it.

Each is one statement, and reads a bounded number of rows however large run and queue are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.tables import clusters, experiments
from grid.shared.wire import ACTIVE, ExperimentStatus, Reason

LATEST = 200
"""How many experiments are looked at, of those that have succeeded and of those that have failed."""

MOST_BEFORE = 10_000
"""How many experiments in the queue before a run are looked at."""

_OF_RUN = experiments.c.run_seq == sa.bindparam("b_run_seq")
_QUEUED = experiments.c.status == ExperimentStatus.QUEUED.value
_INTERRUPTED = (Reason.LOST.value, Reason.SERVICE_STOPPED.value)


def _latest(status: ExperimentStatus) -> sa.Select[Any]:
    """Select the last ones of a run that have a status: an end of the index of run, status and index."""
    last = (
        sa.select(experiments.c.started_at, experiments.c.finished_at, experiments.c.reason)
        .where(_OF_RUN, experiments.c.status == status.value)
        .order_by(experiments.c.index.desc())
        .limit(LATEST)
        .subquery()
    )
    return sa.select(last.c.finished_at - last.c.started_at).where(
        last.c.started_at.is_not(None), last.c.reason.not_in(_INTERRUPTED)
    )


_DURATIONS = sa.union_all(_latest(ExperimentStatus.SUCCEEDED), _latest(ExperimentStatus.FAILED))

_NEEDS = (experiments.c.cpus, experiments.c.gpus, experiments.c.memory_bytes)
_ACTIVE = sa.select(
    experiments.c.run_seq, experiments.c.status, experiments.c.started_at, *_NEEDS, sa.literal(1).label("number")
).where(experiments.c.status.in_(ACTIVE))

_next = (
    sa.select(experiments.c.seq, experiments.c.run_seq, *_NEEDS)
    .where(_OF_RUN, _QUEUED)
    .order_by(experiments.c.index)
    .limit(1)
    .subquery()
)
_NEXT = (
    sa.select(
        _next.c.run_seq,
        sa.literal(ExperimentStatus.QUEUED.value),
        sa.null(),
        _next.c.cpus,
        _next.c.gpus,
        _next.c.memory_bytes,
        sa.literal(1),
    )
    .join_from(_next, clusters, clusters.c.name == sa.bindparam("b_cluster"))
    .where(~clusters.c.paused)
)
_before = (
    sa.select(*_NEEDS)
    .where(_QUEUED, experiments.c.seq < sa.select(_next.c.seq).scalar_subquery())
    .order_by(experiments.c.seq)
    .limit(MOST_BEFORE)
    .subquery()
)
_BEFORE = sa.select(
    sa.literal(0),
    sa.literal(ExperimentStatus.QUEUED.value),
    sa.null(),
    _before.c.cpus,
    _before.c.gpus,
    _before.c.memory_bytes,
    sa.func.count(),
).group_by(_before.c.cpus, _before.c.gpus, _before.c.memory_bytes)
_STANDING = sa.union_all(_ACTIVE, _NEXT, _BEFORE)


class Standing(NamedTuple):
    """Experiments that hold or wait for resources, and what each of them needs."""

    run_seq: int
    """0 for those in the queue before the run's first one, whatever their runs."""
    status: str
    started_at: int | None
    cpus: int
    gpus: int
    memory_bytes: int
    number: int
    """How many there are."""


def durations(connection: Connection, run_seq: int) -> list[int]:
    """Return how many microseconds the scripts of a run ran that have ended by themselves, of the last ones of each."""
    return list(connection.scalars(_DURATIONS, {"b_run_seq": run_seq}))


def standing(connection: Connection, run_seq: int, cluster: str) -> list[Standing]:
    """Return all that are active, the run's next one unless the cluster is paused, and what is in the queue before."""
    rows = connection.execute(_STANDING, {"b_run_seq": run_seq, "b_cluster": cluster})
    return [Standing(*row) for row in rows]
