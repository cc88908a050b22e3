"""Deletes runs and experiments: first their rows, right after that their files; what was cut short is tried again."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grid.service.domain.errors import ExperimentNotEnded, RunNotEnded
from grid.service.domain.snapshots import Snapshots
from grid.service.executors.protocol import Executor
from grid.service.store import experiment_rows, removal_rows, run_rows
from grid.service.store.database import Database
from grid.service.store.faults import DatabaseUnavailable
from grid.service.system import failpoints
from grid.shared.wire import UNFINISHED, ExperimentStatus

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_log = logging.getLogger(__name__)

_AT_ONCE = 100
"""How many entries are taken off the list in one transaction."""

_WAIT_SECONDS = 10.0
"""How long a request to delete waits for the files to be removed."""


class Deletions:
    """Deletes rows together with the files that belong to them.

    The rows go in one transaction, which also lists whose files must be removed. Only then are the files removed: if
    the service is killed in between, it finds the list at its next start. What cannot be removed stays on the list, is
    said in the log once, and is tried again with the next deletion and at the next start.
    """

    def __init__(self, database: Database, executor: Executor, snapshots: Snapshots) -> None:
        self._database = database
        self._executor = executor
        self._snapshots = snapshots
        self._removing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: set[int] = set()
        """The entries of the list of which the log says already that their files cannot be removed."""

    def open(self) -> None:
        """Begin to remove the files that an earlier service has left on the list."""
        self._begin_to_remove()

    async def close(self) -> None:
        """Stop removing files; the rest are removed after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def delete_run(self, run_id: str, name: str) -> bool:
        """Delete a run, its experiments and their files, and its snapshot if no other run has it.

        Returns
        -------
        bool
            False if it no longer exists.

        Raises
        ------
        RunNotEnded
            If one of its experiments is still waiting or running.
        """

        def write(connection: Connection) -> bool:
            run = run_rows.by_id(connection, run_id)
            if run is None:
                return False
            unfinished = experiment_rows.unfinished_of(connection, run.seq)
            if unfinished:
                raise RunNotEnded(name, unfinished)
            run_rows.delete(connection, run)
            return True

        return await self._deleted(write)

    async def delete_experiment(self, experiment_id: str, name: str, *, at: int) -> bool:
        """Delete an experiment and its files.

        Returns
        -------
        bool
            False if it no longer exists.

        Raises
        ------
        ExperimentNotEnded
            If it is still waiting or running.
        """

        def write(connection: Connection) -> bool:
            row = experiment_rows.by_id(connection, experiment_id)
            if row is None:
                return False
            if ExperimentStatus(row.status) in UNFINISHED:
                raise ExperimentNotEnded(name, row.status)
            experiment_rows.delete(connection, row, at=at)
            return True

        return await self._deleted(write)

    async def _deleted(self, write: Callable[[Connection], bool]) -> bool:
        try:
            deleted = await self._database.write(write)
        except DatabaseUnavailable:
            # The deletion may have succeeded all the same; then no later request would remove the files.
            self._begin_to_remove()
            raise
        # Goes on in the background after that: removing very many files takes longer than a request may.
        await asyncio.wait([self._begin_to_remove()], timeout=_WAIT_SECONDS)
        return deleted

    def _begin_to_remove(self) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._remove())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _remove(self) -> None:
        """Remove the files of everything that was deleted."""
        async with self._removing:
            try:
                rows = await self._database.read(removal_rows.to_be_removed)
                for start in range(0, len(rows), _AT_ONCE):
                    await failpoints.reached_async("deletion.remove.before")
                    gone = [row for row in rows[start : start + _AT_ONCE] if await self._is_gone(row)]
                    await failpoints.reached_async("deletion.removed")
                    if gone:
                        await self._database.write(functools.partial(removal_rows.was_removed, rows=gone))
            except DatabaseUnavailable:
                _log.exception("deleted files cannot be removed from the disk now; trying again later")
            except Exception:  # noqa: BLE001 - nobody waits for this task's end: the log has to say it
                _log.exception("a fault has ended the removal of deleted files; trying again later")

    async def _is_gone(self, row: Row[Any]) -> bool:
        """Remove the files of one row; return whether that was done. Nothing about one keeps the others."""
        try:
            if row.kind == "snapshot":
                await self._snapshots.remove(row.name)
            else:
                await self._executor.remove(row.name, row.attempts)
        except DatabaseUnavailable:
            raise  # it would be the same for every other
        except Exception as error:  # noqa: BLE001 - whatever a script has left there
            if row.seq not in self._refused:
                self._refused.add(row.seq)
                message = (
                    "the files of the %s %s cannot be removed: %s; trying again with each deletion and at each start"
                )
                _log.error(message, row.kind, row.name, error, exc_info=None if isinstance(error, OSError) else error)
            return False
        self._refused.discard(row.seq)
        return True
