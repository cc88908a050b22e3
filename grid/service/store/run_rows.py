"""Statements about runs and their experiments. Their statuses are changed by `grid.service.domain.lifecycle` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.domain import lifecycle
from grid.service.store.tables import (
    attempts,
    clusters,
    events,
    experiments,
    removals,
    retries,
    runs,
    snapshots,
    users,
)
from grid.shared.wire import ExperimentStatus

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


def by_id(connection: Connection, run_id: str) -> Row[Any] | None:
    """The run of that id, whoever's it is."""
    return connection.execute(_RUNS.where(runs.c.id == run_id)).one_or_none()


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


def experiment_by_id(connection: Connection, experiment_id: str) -> Row[Any] | None:
    """The experiment of that id, whoever's it is."""
    return connection.execute(_EXPERIMENTS.where(experiments.c.id == experiment_id)).one_or_none()


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


def attempts_of(connection: Connection, experiment_seqs: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """For each experiment, its attempts that have ended, in order."""
    query = sa.select(attempts).where(attempts.c.experiment_seq.in_(experiment_seqs)).order_by(attempts.c.number)
    found: dict[int, list[Row[Any]]] = {seq: [] for seq in experiment_seqs}
    for row in connection.execute(query):
        found[row.experiment_seq].append(row)
    return found


_FAILED = (
    sa.select(attempts.c.reason, attempts.c.final_line, experiments.c.index, experiments.c.seq, experiments.c.attempt)
    .join_from(attempts, experiments)
    .where(
        experiments.c.run_seq == sa.bindparam("b_run_seq"),
        experiments.c.status == ExperimentStatus.FAILED,
        attempts.c.number == experiments.c.attempt,
    )
    .order_by(experiments.c.index)
)
_ENDED = sa.select(attempts).where(
    attempts.c.experiment_seq == sa.bindparam("b_seq"), attempts.c.number == sa.bindparam("b_number")
)


def failure_groups(connection: Connection, run_seq: int) -> list[tuple[list[int], Row[Any]]]:
    """The indices of a run's failed experiments that have failed alike, and how the first of them did.

    The most frequent come first; of equally many, those with the lowest index.
    """
    groups: dict[tuple[str, str | None], tuple[list[int], dict[str, int]]] = {}
    for reason, final_line, index, seq, number in connection.execute(_FAILED, {"b_run_seq": run_seq}):
        alike, _ = groups.setdefault((reason, final_line), ([], {"b_seq": seq, "b_number": number}))
        alike.append(index)
    # The last words of one in each group are enough: those of all might be more than fits into memory.
    return [
        (alike, connection.execute(_ENDED, first).one())
        for alike, first in sorted(groups.values(), key=lambda group: len(group[0]), reverse=True)
    ]


def retried(connection: Connection, run_seq: int, key: str) -> list[int] | None:
    """The indices that the retry of this key has queued; None where there was none."""
    query = sa.select(retries.c.indices).where(retries.c.run_seq == run_seq, retries.c.key == key)
    indices = connection.execute(query).scalar()
    return None if indices is None else list(orjson.loads(indices))


def insert_retry(connection: Connection, run_seq: int, key: str, indices: Sequence[int], at: int) -> None:
    """Record what the retry of this key has queued."""
    row = {"run_seq": run_seq, "key": key, "indices": orjson.dumps(indices).decode(), "created_at": at}
    connection.execute(sa.insert(retries).values(row))


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
    """The experiments whose turn comes next, in order, with what their executor needs; none of a paused cluster.

    One that wants more than all the GPUs there are, since a service was started again with fewer, holds up nobody.
    """
    return connection.execute(_QUEUE, {"on": cluster, "most": limit, "all_gpus": gpus}).all()


def active(connection: Connection) -> Sequence[Row[Any]]:
    """The experiments that hold resources, and when the turn of each came."""
    query = _JOBS.add_columns(_TURN.label("turn_at")).where(experiments.c.status.in_(lifecycle.ACTIVE))
    return connection.execute(query.order_by(experiments.c.seq)).all()


def unfinished(connection: Connection) -> int:
    """How many experiments have not ended."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(experiments).where(experiments.c.status.in_(lifecycle.UNFINISHED))
    ).scalar_one()


def unfinished_of(connection: Connection, run_seq: int) -> int:
    """How many experiments of a run have not ended."""
    query = sa.select(sa.func.count()).select_from(experiments)
    return connection.execute(
        query.where(experiments.c.run_seq == run_seq, experiments.c.status.in_(lifecycle.UNFINISHED))
    ).scalar_one()


def delete(connection: Connection, run: Row[Any]) -> None:
    """Delete a run with its experiments, and its snapshot where no other run has it; say what the disk has of them."""
    of_run = experiments.c.run_seq == run.seq
    seqs = sa.select(experiments.c.seq).where(of_run)
    _say_removed(connection, sa.select(sa.literal("experiment"), experiments.c.id).where(of_run))
    connection.execute(sa.delete(attempts).where(attempts.c.experiment_seq.in_(seqs)))
    connection.execute(sa.delete(events).where(events.c.run_seq == run.seq))
    connection.execute(sa.delete(retries).where(retries.c.run_seq == run.seq))
    connection.execute(sa.delete(experiments).where(of_run))
    connection.execute(sa.delete(runs).where(runs.c.seq == run.seq))
    unused = (snapshots.c.digest == run.snapshot) & ~sa.exists().where(runs.c.snapshot == run.snapshot)
    _say_removed(connection, sa.select(sa.literal("snapshot"), snapshots.c.digest).where(unused))
    connection.execute(sa.delete(snapshots).where(unused))


def delete_experiment(connection: Connection, row: Row[Any], *, at: int) -> None:
    """Delete an experiment; say what the disk has of it. The others keep their indices."""
    _say_removed(connection, sa.select(sa.literal("experiment"), experiments.c.id).where(experiments.c.seq == row.seq))
    connection.execute(sa.delete(attempts).where(attempts.c.experiment_seq == row.seq))
    connection.execute(sa.delete(events).where(events.c.experiment_seq == row.seq))
    connection.execute(sa.delete(experiments).where(experiments.c.seq == row.seq))
    deleted = connection.execute(sa.select(runs.c.deleted_indices).where(runs.c.seq == row.run_seq)).scalar_one()
    indices = orjson.dumps(sorted([*orjson.loads(deleted), row.index])).decode()
    connection.execute(sa.update(runs).where(runs.c.seq == row.run_seq).values(deleted_indices=indices))
    # So that the run's revision grows.
    event = {"run_seq": row.run_seq, "attempt": row.attempt, "status": "DELETED", "at": at}
    connection.execute(sa.insert(events).values(event))


def _say_removed(connection: Connection, what: sa.Select[Any]) -> None:
    connection.execute(sa.insert(removals).from_select(["kind", "name"], what))


def to_be_removed(connection: Connection) -> Sequence[Row[Any]]:
    """What may still be on the disk of what was deleted."""
    return connection.execute(sa.select(removals).order_by(removals.c.seq)).all()


def was_removed(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """Record that nothing of it is on the disk any more."""
    connection.execute(sa.delete(removals).where(removals.c.seq.in_([row.seq for row in rows])))
