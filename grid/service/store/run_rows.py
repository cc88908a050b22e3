"""Statements about runs, and about the requests to retry them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store import event_rows, experiment_rows, removal_rows, snapshot_rows, status_counts
from grid.service.store.run_changes import written_at_the_end
from grid.service.store.tables import attempts, events, experiments, retries, revisions, runs, users

_REVISION = sa.select(revisions.c.number).where(revisions.c.run_seq == runs.c.seq).scalar_subquery()
LARGE = frozenset({"script_command", "settings"})
"""Columns that may hold a megabyte each: the sweep is in them."""


@functools.cache
def _runs(without: frozenset[str] = frozenset()) -> sa.Select[Any]:
    columns = [sa.null().label(each.name) if each.name in without else each for each in runs.c]
    return sa.select(*columns, users.c.name.label("username"), _REVISION.label("revision")).join_from(runs, users)


_RUNS = _runs()


def insert(connection: Connection, run: dict[str, Any], rows: Sequence[dict[str, Any]]) -> int:
    """Insert a run and its experiments; return the run's seq."""
    (seq,) = connection.execute(sa.insert(runs).values(run)).inserted_primary_key or (0,)
    connection.execute(sa.insert(experiments), [{**row, "run_seq": seq} for row in rows])
    event_rows.begin(connection, seq)
    status_counts.insert(connection, seq, [row["status"] for row in rows])
    return int(seq)


def by_key(connection: Connection, user_id: str, key: str) -> Row[Any] | None:
    """Return the run that was started with this key, if there is one."""
    return connection.execute(_RUNS.where(runs.c.user_id == user_id, runs.c.key == key)).one_or_none()


def by_name(connection: Connection, user_id: str, name: str) -> Row[Any] | None:
    """Return a user's run of that name."""
    return connection.execute(_RUNS.where(runs.c.user_id == user_id, runs.c.name == name)).one_or_none()


def by_seq(connection: Connection, seq: int) -> Row[Any]:
    """Return the run of that seq, which must exist."""
    return connection.execute(_RUNS.where(runs.c.seq == seq)).one()


def by_id(connection: Connection, run_id: str) -> Row[Any] | None:
    """Return the run of that id, whoever owns it."""
    return connection.execute(_RUNS.where(runs.c.id == run_id)).one_or_none()


def page(
    connection: Connection, user_id: str, first: int, after: int | None, *, without: frozenset[str] = frozenset()
) -> Sequence[Row[Any]]:
    """Return a user's runs before the seq ``after``, newest first; one more than ``first`` if there are more.

    The columns ``without`` are null instead of what they hold: any of `LARGE`.
    """
    query = _runs(without).where(runs.c.user_id == user_id).order_by(runs.c.seq.desc()).limit(first + 1)
    if after is not None:
        query = query.where(runs.c.seq < after)
    return connection.execute(query).all()


def count(connection: Connection, user_id: str) -> int:
    """Return how many runs a user has."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(runs).where(runs.c.user_id == user_id)
    ).scalar_one()


def taken_names(connection: Connection, user_id: str, names: Collection[str]) -> set[str]:
    """Return those of the names that runs of a user already have."""
    return set(connection.scalars(sa.select(runs.c.name).where(runs.c.user_id == user_id, runs.c.name.in_(names))))


def retried(connection: Connection, run_seq: int, key: str) -> list[int] | None:
    """Return the indices that the retry with this key queued; None if there was no such retry."""
    query = sa.select(retries.c.indices).where(retries.c.run_seq == run_seq, retries.c.key == key)
    indices = connection.execute(query).scalar()
    return None if indices is None else list(orjson.loads(indices))


def insert_retry(connection: Connection, run_seq: int, key: str, indices: Sequence[int], at: int) -> None:
    """Record which indices the retry with this key has queued."""
    row = {"run_seq": run_seq, "key": key, "indices": orjson.dumps(indices).decode(), "created_at": at}
    connection.execute(sa.insert(retries).values(row))


def delete(connection: Connection, run: Row[Any]) -> None:
    """Delete a run, its experiments and a snapshot that no other run has; record which files they leave behind."""
    of_run = experiments.c.run_seq == run.seq
    seqs = sa.select(experiments.c.seq).where(of_run)
    removal_rows.add(connection, experiment_rows.left_by(of_run))
    connection.execute(sa.delete(attempts).where(attempts.c.experiment_seq.in_(seqs)))
    connection.execute(sa.delete(events).where(events.c.run_seq == run.seq))
    connection.execute(sa.delete(retries).where(retries.c.run_seq == run.seq))
    connection.execute(sa.delete(experiments).where(of_run))
    with written_at_the_end(connection) as pending:
        pending.gone.add(run.seq)
    connection.execute(sa.delete(runs).where(runs.c.seq == run.seq))
    snapshot_rows.delete_unused(connection, run.snapshot)
