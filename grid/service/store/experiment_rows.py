"""Statements about experiments. Those that change a status are in `status_changes`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from grid.service.store import removal_rows
from grid.service.store.event_rows import DELETED
from grid.service.store.run_changes import written_at_the_end
from grid.service.store.sqlite import ByColumn
from grid.service.store.tables import attempts, events, experiments, runs, users
from grid.shared.wire import ACTIVE, UNFINISHED, ExperimentStatus

_AT_ONCE = 500
"""How many values one statement may name."""

_ONE = experiments.c.id == sa.bindparam("b_id")
_ONE_ATTEMPT = _ONE & (experiments.c.attempt == sa.bindparam("b_attempt"))
_ALL_OF_RUN = experiments.c.run_seq == sa.bindparam("b_run_seq")


@dataclass(frozen=True, slots=True, eq=False)
class Which:
    """Which experiments are meant."""

    condition: ColumnElement[bool]
    """One of the conditions above, so that each statement with it is built only once."""
    meant: dict[str, str | int]
    """The values of its parameters."""

    @classmethod
    def experiment(cls, experiment_id: str) -> Which:
        """One experiment, whichever attempt it is at."""
        return cls(_ONE, {"b_id": experiment_id})

    @classmethod
    def attempt(cls, experiment_id: str, number: int) -> Which:
        """One experiment, as long as it is at that attempt."""
        return cls(_ONE_ATTEMPT, {"b_id": experiment_id, "b_attempt": number})

    @classmethod
    def run(cls, run_seq: int) -> Which:
        """All experiments of a run."""
        return cls(_ALL_OF_RUN, {"b_run_seq": run_seq})


_ORDER = {status.value: place for place, status in enumerate(ExperimentStatus)}

_EXPERIMENTS = sa.select(
    experiments,
    runs.c.id.label("run_id"),
    runs.c.name.label("run_name"),
    runs.c.user_id,
    runs.c.project,
    runs.c.commit_sha,
    runs.c.script,
    runs.c.interpreter,
    runs.c.launch,
    runs.c.snapshot,
    users.c.name.label("username"),
).select_from(experiments.join(runs).join(users))


_OF_PAGE = (
    "seq index id status attempt layout arguments parameters reason exit_code signal created_at started_at finished_at"
).split()
_PAGE = (
    sa.select(*(experiments.c[name] for name in _OF_PAGE))
    .where(_ALL_OF_RUN)
    .order_by(experiments.c.index)
    .limit(sa.bindparam("b_limit"))
)
_FIRST_PAGE = ByColumn(_PAGE)
_PAGE_AFTER = ByColumn(_PAGE.where(experiments.c.index > sa.bindparam("b_after")))
_RUN_OF_PAGE: sa.Select[Any] = (
    sa.select(
        runs.c.id.label("run_id"),
        runs.c.name.label("run_name"),
        runs.c.user_id,
        runs.c.project,
        runs.c.commit_sha,
        runs.c.script,
        runs.c.interpreter,
        runs.c.launch,
        runs.c.snapshot,
        users.c.name.label("username"),
    )
    .select_from(runs.join(users))
    .where(runs.c.seq == sa.bindparam("b_run_seq"))
)


def page(connection: Connection, run_seq: int, first: int, after: int | None) -> dict[str, Sequence[Any]]:
    """Return the columns of a run's experiments after index ``after``, in order, and of what they have from their run.

    There is one experiment more than ``first`` if there are more. The columns are those of `by_id`, as far as they are
    shown.
    """
    meant = {"b_run_seq": run_seq, "b_limit": first + 1}
    of_run = connection.execute(_RUN_OF_PAGE, {"b_run_seq": run_seq}).one_or_none()
    if after is None:
        columns = _FIRST_PAGE.read(connection, meant)
    else:
        columns = _PAGE_AFTER.read(connection, {**meant, "b_after": after})
    number = len(columns["seq"])
    if of_run is not None:  # it was not deleted meanwhile
        columns |= {name: [value] * number for name, value in zip(of_run._fields, of_run, strict=True)}
    return columns


def by_id(connection: Connection, experiment_id: str) -> Row[Any] | None:
    """Return the experiment of that id, whoever owns it."""
    return connection.execute(_EXPERIMENTS.where(experiments.c.id == experiment_id)).one_or_none()


def by_index(connection: Connection, user_id: str, run_name: str, index: int) -> Row[Any] | None:
    """Return the experiment at that index of a user's run."""
    query = _EXPERIMENTS.where(runs.c.user_id == user_id, runs.c.name == run_name, experiments.c.index == index)
    return connection.execute(query).one_or_none()


def indices_by_status(connection: Connection, run_seqs: Sequence[int]) -> dict[int, dict[str, list[int]]]:
    """Return, for each run, the indices of the experiments that have each status, in order."""
    rows = connection.execute(
        sa.select(experiments.c.run_seq, experiments.c.status, experiments.c.index)
        .where(experiments.c.run_seq.in_(run_seqs))
        # The order of an index that has all of it: no row is looked up, and nothing is sorted.
        .order_by(experiments.c.run_seq, experiments.c.status, experiments.c.index)
    )
    found: dict[int, dict[str, list[int]]] = {seq: {} for seq in run_seqs}
    for run_seq, status, index in rows:
        found[run_seq].setdefault(status, []).append(index)
    return {seq: dict(sorted(groups.items(), key=lambda group: _ORDER[group[0]])) for seq, groups in found.items()}


def statuses(connection: Connection, which: Which) -> Sequence[tuple[int, ExperimentStatus]]:
    """Return the index and the status of each of the experiments, ordered by index."""
    query = sa.select(experiments.c.index, experiments.c.status).where(which.condition).order_by(experiments.c.index)
    return [(index, ExperimentStatus(status)) for index, status in connection.execute(query, which.meant)]


def request_cancel(connection: Connection, which: Which, at: int) -> None:
    """Record that those of the experiments that have not ended must be cancelled; an earlier request stays."""
    connection.execute(_cancel_request(which.condition), {**which.meant, "v_at": at})


@functools.cache
def _cancel_request(which: ColumnElement[bool]) -> sa.Update:
    first = which & experiments.c.status.in_(UNFINISHED) & experiments.c.cancel_requested_at.is_(None)
    at = sa.bindparam("v_at", type_=experiments.c.cancel_requested_at.type)
    return sa.update(experiments).where(first).values(cancel_requested_at=at)


_IS_CANCEL_REQUESTED = sa.select(experiments.c.cancel_requested_at).where(_ONE_ATTEMPT)
_SETTINGS = sa.select(runs.c.settings).join_from(experiments, runs).where(_ONE)


def is_cancel_requested(connection: Connection, experiment_id: str, number: int) -> bool:
    """Return whether it is recorded that an attempt must be cancelled."""
    meant = Which.attempt(experiment_id, number).meant
    return connection.execute(_IS_CANCEL_REQUESTED, meant).scalar() is not None


def active_attempts(connection: Connection, which: Which) -> list[tuple[str, int]]:
    """Return the id and the attempt number of those of the experiments that hold resources."""
    active = which.condition & experiments.c.status.in_(ACTIVE)
    query = sa.select(experiments.c.id, experiments.c.attempt).where(active)
    return [(experiment_id, number) for experiment_id, number in connection.execute(query, which.meant)]


def known(connection: Connection, experiment_ids: Sequence[str]) -> set[str]:
    """Return those of the ids that experiments have."""
    found: set[str] = set()
    for start in range(0, len(experiment_ids), _AT_ONCE):
        ids = experiment_ids[start : start + _AT_ONCE]
        found.update(connection.scalars(sa.select(experiments.c.id).where(experiments.c.id.in_(ids))))
    return found


def settings(connection: Connection, experiment_id: str) -> dict[str, Any]:
    """Return the settings of an experiment's run; none if it no longer exists."""
    text = connection.execute(_SETTINGS, Which.experiment(experiment_id).meant).scalar()
    return dict(orjson.loads(text or "{}"))


def is_any_unfinished(connection: Connection) -> bool:
    """Return whether an experiment of any run has not ended."""
    # Not a count: there may be very many, and this is asked again and again.
    return bool(connection.execute(sa.select(sa.exists().where(experiments.c.status.in_(UNFINISHED)))).scalar())


def has_active(connection: Connection, user_id: str) -> bool:
    """Return whether one of a user's experiments holds resources."""
    active = sa.select(experiments.c.seq).join_from(experiments, runs).where(experiments.c.status.in_(ACTIVE))
    return connection.execute(active.where(runs.c.user_id == user_id).limit(1)).scalar() is not None


def unfinished_of(connection: Connection, run_seq: int) -> int:
    """Return how many experiments of a run have not ended."""
    query = sa.select(sa.func.count()).select_from(experiments)
    return connection.execute(
        query.where(experiments.c.run_seq == run_seq, experiments.c.status.in_(UNFINISHED))
    ).scalar_one()


def left_by(which: ColumnElement[bool]) -> sa.Select[Any]:
    """Select what experiments leave on the disk, for `removal_rows.add`."""
    return sa.select(sa.literal("experiment"), experiments.c.id, experiments.c.attempt).where(which)


def delete(connection: Connection, row: Any, *, at: int) -> None:
    """Delete an experiment, and record which files it leaves on the disk. The others keep their indices."""
    removal_rows.add(connection, left_by(experiments.c.seq == row.seq))
    connection.execute(sa.delete(attempts).where(attempts.c.experiment_seq == row.seq))
    connection.execute(sa.delete(events).where(events.c.experiment_seq == row.seq))
    connection.execute(sa.delete(experiments).where(experiments.c.seq == row.seq))
    with written_at_the_end(connection) as pending:
        pending.counts[row.run_seq, row.status] -= 1
        pending.deleted[row.run_seq].append(row.index)
        pending.gone_experiments.add(row.seq)
        pending.events.append(
            {
                "run_seq": row.run_seq,
                "experiment_seq": None,
                "index": row.index,
                "attempt": row.attempt,
                "status": DELETED,
                "reason": None,
                "is_queued_again": False,
                "at": at,
            }
        )
