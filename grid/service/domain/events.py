"""What has happened in a run after an event, in pieces: each says where the next one begins, and if it is the last."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grid.service.domain.errors import ExperimentMissing, InvalidValue, RunMissing
from grid.service.store import event_rows
from grid.shared.wire import UNFINISHED

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for."""

    run_id: str
    after: int
    """The number of the last event that is known; 0 for all."""
    experiment_id: str | None = None
    """The only experiment whose events are asked for."""
    index: int | None = None
    """The index of that experiment, if it was there before: then its deletion is told, too."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the events that were asked for, and how far that goes."""

    run_seq: int
    run_name: str
    owner_id: str
    index: int | None
    """The index of the experiment that was asked for."""
    revision: int
    """The number of the last event that was looked at."""
    events: Sequence[Row[Any]]
    is_full: bool
    """Whether there may be more at once."""
    is_end: bool
    """Whether everything that was asked for has ended, and is told."""


def read(connection: Connection, wanted: Wanted, first: int) -> Piece:
    """Return the first events that are asked for, at most so many.

    Raises
    ------
    RunMissing
        If there is no such run.
    ExperimentMissing
        If the run has no such experiment.
    InvalidValue
        If the run has never had an event of the number that is said to be known.
    """
    if wanted.after < 0:
        raise InvalidValue("after", wanted.after, "the number of an event, or 0 for all")
    run_id, experiment_id = wanted.run_id, wanted.experiment_id
    if experiment_id is None:
        head = event_rows.head(connection, run_id)
    else:
        head = event_rows.head_of_experiment(connection, run_id, experiment_id)
    if head is None:
        raise RunMissing(run_id=run_id)
    # All that was committed until the counter was read, and nothing else: so it fits what had ended then.
    until: int = head.revision
    if wanted.after > until:
        raise InvalidValue("after", wanted.after, f"at most {until}, the number of the run's last event")
    if experiment_id is None:
        found = event_rows.of_run(connection, head.seq, wanted.after, until, first)
        has_ended = head.unfinished == 0
    elif head.experiment_seq is not None:
        found = event_rows.of_experiment(connection, head.experiment_seq, wanted.after, until, first)
        has_ended = head.status not in UNFINISHED
    elif wanted.index is not None:
        found = event_rows.deletion(connection, head.seq, wanted.index, wanted.after)
        has_ended = True
    else:
        raise ExperimentMissing(experiment_id=experiment_id)
    if experiment_id is not None and head.experiment_seq is not None:
        wanted = dataclasses.replace(wanted, index=head.experiment_index)
    is_full = len(found) == first
    revision: int = found[-1].number if is_full else until
    return Piece(
        run_seq=head.seq,
        run_name=head.name,
        owner_id=head.user_id,
        index=wanted.index,
        revision=revision,
        events=found,
        is_full=is_full,
        is_end=has_ended and revision >= until,
    )
