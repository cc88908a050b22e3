"""Removes what attempts have left: the evidence once it is recorded elsewhere, and everything once they are deleted."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import SimpleQueue

from grid.service.executors import evidence
from grid.service.executors.evidence import State
from grid.service.executors.protocol import AttemptName
from grid.service.system import failpoints, removal
from grid.service.system.workspace import PRIVATE_FOLDER, Workspace, remove_tree

_log = logging.getLogger(__name__)


class Remover:
    """Runs removals one after the other, in a thread of its own.

    Some take very long. Other work has its own threads, and the service does not wait for this one when it ends: what
    is left is removed after the next start.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[asyncio.Future[None], Callable[[], None]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, remove: Callable[[], None]) -> None:
        """Have something removed; raise what that raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="grid-removals", daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks.put((done, remove))
        await done

    def _work(self) -> None:
        while True:
            done, remove = self._tasks.get()
            error: BaseException | None = None
            try:
                remove()
            except BaseException as raised:  # noqa: BLE001 - whoever waits for it gets it
                error = raised
            with suppress(RuntimeError):  # the loop is closed: the service has ended
                done.get_loop().call_soon_threadsafe(_tell, done, error)


def _tell(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def remove_records(workspace: Workspace, attempts: Collection[AttemptName]) -> None:
    """Remove the records of attempts, and their temporary folders; what cannot be removed now stays."""
    # What was laid out otherwise has no record of its own, and nothing is there to be removed.
    for attempt in attempts:
        try:
            _remove_record(workspace, attempt)
        except OSError as error:
            _log.warning("the record of %s-%d cannot be removed: %s; trying again at the next start", *attempt, error)


def other_records(workspace: Workspace, known: Collection[AttemptName]) -> list[AttemptName]:
    """Return the attempts that have a record, are not known, and have no supervisor that lives."""
    found = []
    for record in workspace.records.iterdir():
        experiment_id, _, number = record.name.rpartition("-")
        if experiment_id and number.isascii() and number.isdecimal():
            attempt = AttemptName(experiment_id, int(number))
            state = evidence.state_of(workspace.attempt(*attempt))
            if attempt not in known and state in (State.DEAD, State.UNCLAIMED):
                found.append(attempt)
    return found


def empty_trash(workspace: Workspace) -> None:
    """Remove what a service that was killed had moved aside, and had no time to remove."""
    try:
        folder = removal.open_folder(str(workspace.trash))
    except FileNotFoundError:
        return
    try:
        removal.empty(folder)
    except OSError as error:
        _log.warning("something in %s cannot be removed: %s; trying again at the next start", workspace.trash, error)
    finally:
        os.close(folder)


def remove_experiment(workspace: Workspace, experiment_id: str, attempts: int) -> None:
    """Remove all that the attempts of an experiment have left.

    Parameters
    ----------
    workspace
        Where it is.
    experiment_id
        The experiment.
    attempts
        How many attempts it had.

    Raises
    ------
    OSError
        If something cannot be removed: the first of these errors. The rest is gone.
    """
    workspace.trash.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    failures: list[OSError] = []
    for number in range(1, attempts + 1):
        try:
            _remove_record(workspace, AttemptName(experiment_id, number))
        except OSError as error:
            failures.append(error)
    try:
        remove_tree(workspace.experiment(experiment_id), workspace.trash / experiment_id)
    except OSError as error:
        failures.append(error)
    # Last: whoever makes something of an attempt's files meanwhile sees afterwards that these are gone.
    for number in range(1, attempts + 1):
        result = workspace.result(experiment_id, number)
        try:
            remove_tree(result, workspace.trash / f"{result.name}-results")
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _remove_record(workspace: Workspace, attempt: AttemptName) -> None:
    folder = workspace.attempt(*attempt)
    failpoints.reached("executor.forget.before")
    # The record last: it says where the others are.
    for temporary in evidence.temporary_files(folder, attempt.experiment_id):
        removal.remove(str(temporary))
    failpoints.reached("executor.forget.temporary")
    if os.path.lexists(folder.record):
        removal.remove(str(folder.record))
