"""How many experiments of each run have each status: kept with every change, so that no list has to count them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.tables import status_counts
from grid.shared.wire import ExperimentStatus

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


def write(connection: Connection, more: Counter[tuple[int, str]], gone: Collection[int]) -> None:
    """Change the counts at the end of a transaction: see `run_changes`.

    Parameters
    ----------
    connection
        The writer's.
    more
        How many more experiments of a run have a status.
    gone
        The runs that are deleted. They have no counts any longer.
    """
    changed = {key for key, number in more.items() if number and key[0] not in gone}
    removed = {(run_seq, status) for run_seq in gone for status in _STATUSES}
    # The order in which every transaction locks these rows.
    for is_removed, keys in itertools.groupby(sorted(changed | removed), key=removed.__contains__):
        if is_removed:
            connection.execute(_REMOVE, [{"b_run_seq": key[0], "b_status": key[1]} for key in keys])
        else:
            values = [{"b_run_seq": key[0], "b_status": key[1], "v_more": more[key]} for key in keys]
            connection.execute(_ADD, values)
