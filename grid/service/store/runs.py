"""Statements about runs and their experiments. Their statuses are changed by `grid.service.lifecycle` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service import lifecycle
from grid.service.store.tables import clusters, events, experiments, runs, users
from grid.wire import ExperimentStatus

_ORDER = {status.value: place for place, status in enumerate(ExperimentStatus)}

_REVISION = (
    sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0)).where(events.c.run_seq == runs.c.seq).scalar_subquery()
)
_RUNS = sa.select(runs, users.c.name.label("username"), _REVISION.label("revision")).join_from(runs, users)
_EXPERIMENTS = sa.select(
    experiments,
    runs.c.id.label("run_id"),
    runs.c.name.label("run_name"),
    runs.c.user_id,
    runs.c.project,
    runs.c.commit_sha,
    runs.c.script,
    users.c.name.label("username"),
).select_from(experiments.join(runs).join(users))


def insert(connection: Connection, run: dict[str, Any], rows: Sequence[dict[str, Any]]) -> int:
    """Insert a run and its experiments, all queued; return the run's seq."""
    (seq,) = connection.execute(sa.insert(runs).values(run)).inserted_primary_key or (0,)
    connection.execute(sa.insert(experiments), [{**row, "run_seq": seq} for row in rows])
    return int(seq)


def by_key(connection: Connection, user_id: str, key: str) -> Row[Any] | None:
    """The run that this key made already."""
    return connection.execute(_RUNS.where(runs.c.user_id == user_id, runs.c.key == key)).one_or_none()


def by_name(connection: Connection, user_id: str, name: str) -> Row[Any] | None:
    """A user's run of that name."""
    return connection.execute(_RUNS.where(runs.c.user_id == user_id, runs.c.name == name)).one_or_none()


def by_seq(connection: Connection, seq: int) -> Row[Any]:
    """The run of that seq."""
    return connection.execute(_RUNS.where(runs.c.seq == seq)).one()


def page(connection: Connection, user_id: str, first: int, after: int | None) -> Sequence[Row[Any]]:
    """A user's runs older than the one of seq ``after``, newest first; one more than ``first`` where there are more."""
    query = _RUNS.where(runs.c.user_id == user_id).order_by(runs.c.seq.desc()).limit(first + 1)
    if after is not None:
        query = query.where(runs.c.seq < after)
    return connection.execute(query).all()


def count(connection: Connection, user_id: str) -> int:
    """How many runs a user has."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(runs).where(runs.c.user_id == user_id)
    ).scalar_one()


def experiment_page(connection: Connection, run_seq: int, first: int, after: int | None) -> Sequence[Row[Any]]:
    """Experiments of a run behind index ``after``, in index order; one more than ``first`` where there are more."""
    query = _EXPERIMENTS.where(experiments.c.run_seq == run_seq).order_by(experiments.c.index).limit(first + 1)
    if after is not None:
        query = query.where(experiments.c.index > after)
    return connection.execute(query).all()


def experiment_by_id(connection: Connection, user_id: str, experiment_id: str) -> Row[Any] | None:
    """A user's experiment of that id."""
    query = _EXPERIMENTS.where(experiments.c.id == experiment_id, runs.c.user_id == user_id)
    return connection.execute(query).one_or_none()


def experiment_by_index(connection: Connection, user_id: str, run_name: str, index: int) -> Row[Any] | None:
    """The experiment of that index of a user's run."""
    query = _EXPERIMENTS.where(runs.c.user_id == user_id, runs.c.name == run_name, experiments.c.index == index)
    return connection.execute(query).one_or_none()


def status_counts(connection: Connection, run_seqs: Sequence[int]) -> dict[int, list[tuple[str, int]]]:
    """For each run, how many of its experiments have each status, in the order of an experiment's life."""
    rows = connection.execute(
        sa.select(experiments.c.run_seq, experiments.c.status, sa.func.count())
        .where(experiments.c.run_seq.in_(run_seqs))
        .group_by(experiments.c.run_seq, experiments.c.status)
    ).all()
    counts: dict[int, list[tuple[str, int]]] = {seq: [] for seq in run_seqs}
    for run_seq, status, number in sorted(rows, key=lambda row: _ORDER[row[1]]):
        counts[run_seq].append((status, number))
    return counts


def indices_by_status(connection: Connection, run_seqs: Sequence[int]) -> dict[int, dict[str, list[int]]]:
    """For each run, the indices of the experiments of each status, in order."""
    rows = connection.execute(
        sa.select(experiments.c.run_seq, experiments.c.status, experiments.c.index)
        .where(experiments.c.run_seq.in_(run_seqs))
        .order_by(experiments.c.run_seq, experiments.c.index)
    )
    found: dict[int, dict[str, list[int]]] = {seq: {} for seq in run_seqs}
    for run_seq, status, index in rows:
        found[run_seq].setdefault(status, []).append(index)
    return {seq: dict(sorted(groups.items(), key=lambda group: _ORDER[group[0]])) for seq, groups in found.items()}


_JOBS = sa.select(
    experiments,
    runs.c.name.label("run_name"),
    runs.c.user_id,
    runs.c.cluster,
    runs.c.snapshot,
    runs.c.script,
    runs.c.interpreter,
    runs.c.settings,
).join_from(experiments, runs)

_QUEUE = (
    _JOBS.where(
        experiments.c.status == ExperimentStatus.QUEUED,
        experiments.c.gpus <= sa.bindparam("all_gpus"),
        runs.c.cluster == sa.bindparam("on"),
        sa.exists().where(clusters.c.name == sa.bindparam("on"), ~clusters.c.paused),
    )
    .order_by(experiments.c.seq)
    .limit(sa.bindparam("most", type_=sa.Integer))
)


def next_in_queue(connection: Connection, cluster: str, limit: int, gpus: int) -> Sequence[Row[Any]]:
    """The experiments whose turn comes next, in order, with what their executor needs; none of a paused cluster.

    One that wants more than all the GPUs there are, since a service was started again with fewer, holds up nobody.
    """
    return connection.execute(_QUEUE, {"on": cluster, "most": limit, "all_gpus": gpus}).all()


def active(connection: Connection) -> Sequence[Row[Any]]:
    """The experiments that hold resources."""
    return connection.execute(_JOBS.where(experiments.c.status.in_(lifecycle.ACTIVE)).order_by(experiments.c.seq)).all()


def unfinished(connection: Connection) -> int:
    """How many experiments have not ended."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(experiments).where(experiments.c.status.in_(lifecycle.UNFINISHED))
    ).scalar_one()
