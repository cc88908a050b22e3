"""How many experiments of each run have each status: kept with every change, so that no list has to count experiments.

Two transactions that change experiments of the same runs meet in these rows, even if they have no experiment in common.
So a transaction writes all its changes at its end and in one order: on a database with several writers, none waits for
a row while it holds one that the other needs first.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.tables import status_counts
from grid.shared.wire import ExperimentStatus

_PENDING = "grid.status_counts"
"""Where a connection keeps the changes of its transaction that are not written yet."""

_STATUSES = tuple(status.value for status in ExperimentStatus)
_ORDER = {status: place for place, status in enumerate(_STATUSES)}

_ONE = (status_counts.c.run_seq == sa.bindparam("b_run_seq")) & (status_counts.c.status == sa.bindparam("b_status"))
_MORE = status_counts.c.number + sa.bindparam("v_more", type_=sa.Integer)
_ADD = sa.update(status_counts).where(_ONE).values(number=_MORE)
_REMOVE = sa.delete(status_counts).where(_ONE)
_OF_RUNS = sa.select(status_counts.c.run_seq, status_counts.c.status, status_counts.c.number).where(
    status_counts.c.run_seq.in_(sa.bindparam("b_run_seqs", expanding=True)), status_counts.c.number > 0
)


def of_runs(connection: Connection, run_seqs: Sequence[int]) -> dict[int, list[tuple[str, int]]]:
    """Return, for each run, how many of its experiments have each status, in the order of an experiment's life.

    Statuses that no experiment has are left out. Not for the transaction that changes them: it writes them last.
    """
    counts: dict[int, list[tuple[str, int]]] = {seq: [] for seq in run_seqs}
    rows = connection.execute(_OF_RUNS, {"b_run_seqs": list(run_seqs)}).all()
    for run_seq, status, number in sorted(rows, key=lambda row: _ORDER[row[1]]):
        counts[run_seq].append((status, number))
    return counts


def insert(connection: Connection, run_seq: int, statuses: Iterable[str]) -> None:
    """Insert the counts of a new run whose experiments have these statuses."""
    numbers = Counter(statuses)
    rows = [{"run_seq": run_seq, "status": status, "number": numbers[status]} for status in _STATUSES]
    connection.execute(sa.insert(status_counts), rows)


def add(connection: Connection, experiments: Iterable[tuple[int, str]], more: int) -> None:
    """Count experiments, each given by its run and its status, once more (``more`` is 1) or no longer (-1)."""
    with written_at_the_end(connection) as pending:
        for experiment in experiments:
            pending.changes[experiment] += more


def remove(connection: Connection, run_seq: int) -> None:
    """Remove the counts of a run that is deleted."""
    with written_at_the_end(connection) as pending:
        pending.gone.add(run_seq)


@dataclass(slots=True)
class Pending:
    """Changes of counts that are not written yet."""

    changes: Counter[tuple[int, str]] = field(default_factory=Counter)
    gone: set[int] = field(default_factory=set)
    """The runs that are deleted. No other run will ever have their numbers."""


@contextmanager
def written_at_the_end(connection: Connection) -> Iterator[Pending]:
    """Write the changes of counts at the end of the block, or of the outermost such block; none if it raises."""
    kept = connection.info  # a connection that is lost in the block could not be asked for it
    outer: Pending | None = kept.get(_PENDING)
    pending = kept[_PENDING] = Pending()
    try:
        yield pending
    finally:
        kept[_PENDING] = outer
    if outer is None:
        _write(connection, pending)
    else:
        outer.changes.update(pending.changes)
        outer.gone |= pending.gone


def _write(connection: Connection, pending: Pending) -> None:
    changed = {key for key, more in pending.changes.items() if more and key[0] not in pending.gone}
    removed = {(run_seq, status) for run_seq in pending.gone for status in _STATUSES}
    # The order in which every transaction locks these rows.
    for is_removed, keys in itertools.groupby(sorted(changed | removed), key=removed.__contains__):
        if is_removed:
            connection.execute(_REMOVE, [{"b_run_seq": key[0], "b_status": key[1]} for key in keys])
        else:
            values = [{"b_run_seq": key[0], "b_status": key[1], "v_more": pending.changes[key]} for key in keys]
            connection.execute(_ADD, values)
