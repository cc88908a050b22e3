"""The table of `docs/lifecycle.md`, and the functions that change a status. Their statements are in the store."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grid.service.executors.protocol import AttemptName, Ending
from grid.service.store import attempt_rows, experiment_rows, status_changes
from grid.service.store.experiment_rows import Which
from grid.shared.wire import ACTIVE, UNFINISHED, ExperimentStatus, Reason

if TYPE_CHECKING:
    from sqlalchemy import Connection

_QUEUED, _PENDING, _RUNNING = ExperimentStatus.QUEUED, ExperimentStatus.PENDING, ExperimentStatus.RUNNING
_SUCCEEDED, _FAILED, _CANCELLED = ExperimentStatus.SUCCEEDED, ExperimentStatus.FAILED, ExperimentStatus.CANCELLED

TRANSITIONS: dict[ExperimentStatus, tuple[tuple[ExperimentStatus, ...], tuple[Reason | None, ...]]] = {
    _QUEUED: ((_FAILED,), (None,)),
    _PENDING: ((_QUEUED,), (None,)),
    _RUNNING: ((_PENDING,), (None,)),
    _SUCCEEDED: (ACTIVE, (Reason.EXIT_CODE,)),
    _FAILED: (ACTIVE, tuple(reason for reason in Reason if reason is not Reason.CANCELLED_BY_USER)),
    _CANCELLED: (UNFINISHED, (Reason.CANCELLED_BY_USER,)),
}
"""For each status: the statuses from which it may be reached, and the reasons."""


@dataclass(frozen=True, slots=True)
class Change:
    """One experiment whose status has changed."""

    experiment_id: str
    run_seq: int
    status: ExperimentStatus


def change(  # noqa: PLR0913 - a change consists of this much
    connection: Connection,
    which: Which,
    to: ExperimentStatus,
    *,
    at: int,
    ending: Ending | None = None,
    values: dict[str, Any] | None = None,
    only_from: ExperimentStatus | None = None,
    is_queued_again: bool = False,
) -> list[Change]:
    """Change the status of those of the experiments that may reach it from the one they have.

    Parameters
    ----------
    connection
        The writer's, within its transaction.
    which
        The experiments.
    to
        The new status.
    at
        Microseconds since the epoch.
    ending
        How the attempt ended; required by the terminal statuses. A recorded start is kept.
    values
        Other columns to set.
    only_from
        The only status from which it may be reached; None for all that the table allows.
    is_queued_again
        Whether the caller queues the next attempt in the same transaction.

    Returns
    -------
    list of Change
        The changes that were made; none if they came too late, which callers can ignore.
    """
    sources, reasons = TRANSITIONS[to]
    reason = None if ending is None else ending.reason
    if reason not in reasons:
        message = f"{to} is not reached for the reason {reason}"
        raise ValueError(message)
    if only_from is not None:
        sources = tuple(source for source in sources if source is only_from)
    columns: dict[str, Any] = dict(values or {})
    output = None
    if ending is not None:
        columns |= {name: getattr(ending, name) for name in status_changes.ENDING}
        columns["finished_at"] = ending.finished_at or at
        output = {"last_lines": ending.last_lines, "final_line": ending.final_line}
    changed = status_changes.change(
        connection, which, sources, to, at=at, columns=columns, output=output, is_queued_again=is_queued_again
    )
    return [Change(each.experiment_id, each.run_seq, to) for each in changed]


def queue_again(connection: Connection, which: Which, *, at: int) -> list[tuple[int, Change]]:
    """Queue the next attempt of those of the experiments that have failed; return their indices and changes."""
    changed = status_changes.change_to_next_attempt(connection, which, TRANSITIONS[_QUEUED][0], _QUEUED, at=at)
    return [(each.index, Change(each.experiment_id, each.run_seq, _QUEUED)) for each in changed]


def cancel_queued(connection: Connection, which: Which, *, at: int) -> list[Change]:
    """Cancel those of the experiments that wait for their turn: they have no processes that must end first."""
    ending = Ending(Reason.CANCELLED_BY_USER)
    return change(connection, which, _CANCELLED, at=at, ending=ending, only_from=_QUEUED)


def end(connection: Connection, attempt: AttemptName, ending: Ending, *, at: int) -> list[Change]:
    """Record how an attempt ended, and queue the next one if it was lost and its run asks for that.

    A cancel that was recorded before wins over whatever the executor reports.
    """
    which = Which.attempt(*attempt)
    cancelled = ending.reason is Reason.CANCELLED_BY_USER  # its record says so, even if the recorded request was lost
    if cancelled or experiment_rows.is_cancel_requested(connection, *attempt):
        ending = dataclasses.replace(ending, reason=Reason.CANCELLED_BY_USER)
        return change(connection, which, _CANCELLED, at=at, ending=ending)
    again = ending.reason is Reason.LOST and _may_run_again(connection, attempt.experiment_id)
    to = _SUCCEEDED if ending.succeeded else _FAILED
    changed = change(connection, which, to, at=at, ending=ending, is_queued_again=again)
    if changed and again:
        changed += [again for _, again in queue_again(connection, which, at=at)]
    return changed


def _may_run_again(connection: Connection, experiment_id: str) -> bool:
    """Return whether an experiment whose attempt is being lost may be queued again without being asked."""
    settings = experiment_rows.settings(connection, experiment_id)
    # Runs that were started by an earlier version have neither setting.
    retries = max(int(settings.get("maxRetries", 0)), int(settings.get("autoResume", False)))
    return bool(retries) and attempt_rows.count(connection, experiment_id, Reason.LOST) < retries
