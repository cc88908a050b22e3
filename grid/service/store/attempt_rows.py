"""Statements about attempts that have ended, and about how they ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.tables import attempts, experiments
from grid.shared.wire import ExperimentStatus, Reason

_FAILED = (
    sa.select(attempts.c.reason, attempts.c.final_line, experiments.c.index, experiments.c.seq)
    .join_from(attempts, experiments)
    .where(
        experiments.c.run_seq == sa.bindparam("b_run_seq"),
        experiments.c.status == ExperimentStatus.FAILED,
        attempts.c.number == experiments.c.attempt,
    )
    .order_by(experiments.c.index)
)
_COUNT = (
    sa.select(sa.func.count())
    .join_from(attempts, experiments)
    .where(experiments.c.id == sa.bindparam("b_id"), attempts.c.reason == sa.bindparam("b_reason"))
)
_ENDED = (
    sa.select(attempts)
    .join_from(attempts, experiments)
    .where(experiments.c.seq.in_(sa.bindparam("b_seqs", expanding=True)), attempts.c.number == experiments.c.attempt)
)


def of_experiments(connection: Connection, experiment_seqs: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """Return, for each experiment, its attempts that have ended, in order."""
    query = sa.select(attempts).where(attempts.c.experiment_seq.in_(experiment_seqs)).order_by(attempts.c.number)
    found: dict[int, list[Row[Any]]] = {seq: [] for seq in experiment_seqs}
    for row in connection.execute(query):
        found[row.experiment_seq].append(row)
    return found


def count(connection: Connection, experiment_id: str, reason: Reason) -> int:
    """Return how many attempts of an experiment have ended for a reason."""
    return connection.execute(_COUNT, {"b_id": experiment_id, "b_reason": reason.value}).scalar_one()


def failure_groups(connection: Connection, run_seq: int) -> list[tuple[list[int], Row[Any]]]:
    """Group a run's failed experiments by how they failed; return each group's indices and how its first one failed.

    The largest group comes first; of groups of the same size, the one with the lowest index.
    """
    groups: dict[tuple[str, str | None], tuple[list[int], int]] = {}
    for reason, final_line, index, seq in connection.execute(_FAILED, {"b_run_seq": run_seq}):
        alike, _ = groups.setdefault((reason, final_line), ([], seq))
        alike.append(index)
    # The last lines of one in each group are enough: those of all might not fit into memory.
    firsts = connection.execute(_ENDED, {"b_seqs": [seq for _, seq in groups.values()]})
    examples = {row.experiment_seq: row for row in firsts}
    found = [(alike, examples[seq]) for alike, seq in groups.values()]
    return sorted(found, key=lambda group: len(group[0]), reverse=True)
