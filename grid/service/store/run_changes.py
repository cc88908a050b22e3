"""What a transaction changes of whole runs: it is written at the transaction's end.

Two transactions that change experiments of the same runs meet in the runs' counters and counts, even if they have no
experiment in common. So a transaction writes all of these at its end and in one order: on a database with several
writers, none waits for a row while it holds one that the other needs first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store import event_rows, status_counts
from grid.service.store.event_rows import Event
from grid.service.store.tables import runs

_PENDING = "grid.run_changes"
"""Where a connection keeps the changes of its transaction that are not written yet."""


@dataclass(slots=True)
class Pending:
    """Changes that are not written yet."""

    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    """How many more experiments of a run have a status."""
    events: list[Event] = field(default_factory=list)
    """What has happened, in order."""
    deleted: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The indices of the experiments that are deleted, by run."""
    gone_experiments: set[int] = field(default_factory=set)
    """The experiments that are deleted, and whose events therefore have no place to go."""
    gone: set[int] = field(default_factory=set)
    """The runs that are deleted. No other run will ever have their numbers."""

    def merge(self, inner: Pending) -> None:
        """Add what comes after it."""
        self.counts.update(inner.counts)
        self.events += inner.events
        for run_seq, indices in inner.deleted.items():
            self.deleted[run_seq] += indices
        self.gone_experiments |= inner.gone_experiments
        self.gone |= inner.gone


@contextmanager
def written_at_the_end(connection: Connection) -> Iterator[Pending]:
    """Write what is noted at the end of the block, or of the outermost such block; nothing if it raises."""
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
        outer.merge(pending)


def _write(connection: Connection, pending: Pending) -> None:
    gone = pending.gone
    told = [
        event
        for event in pending.events
        if event["run_seq"] not in gone and event["experiment_seq"] not in pending.gone_experiments
    ]
    if told or gone:
        event_rows.write(connection, told, gone)
    for run_seq in sorted(pending.deleted.keys() - gone):
        _note_deleted(connection, run_seq, pending.deleted[run_seq])
    status_counts.write(connection, pending.counts, gone)


def _note_deleted(connection: Connection, run_seq: int, more: list[int]) -> None:
    # Nobody else changes the list meanwhile: that needs the run's counter, which this transaction has.
    known = connection.execute(sa.select(runs.c.deleted_indices).where(runs.c.seq == run_seq)).scalar_one()
    indices = orjson.dumps(sorted({*orjson.loads(known), *more})).decode()
    connection.execute(sa.update(runs).where(runs.c.seq == run_seq).values(deleted_indices=indices))
