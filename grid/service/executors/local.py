"""Runs attempts as processes of this machine: hands them to the spawner, and finds out how each one ends."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grid.service.executors import evidence
from grid.service.executors.evidence import State
from grid.service.executors.output import last_lines
from grid.service.executors.protocol import AttemptName, Ending, Job, Listener
from grid.service.executors.spawner_client import SpawnerClient
from grid.service.system import failpoints
from grid.service.system.workspace import PRIVATE_FOLDER, AttemptFolder, Workspace, remove_tree, write_private
from grid.shared.wire import Reason

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""How often to check the folder of an attempt that an earlier spawner started."""


class LocalExecutor:
    """Runs attempts as processes on this machine, as an `Executor`.

    Parameters
    ----------
    workspace
        Where attempts have their folders.
    grace_seconds
        How long a process may take to end after SIGTERM before it gets SIGKILL.
    """

    def __init__(self, workspace: Workspace, *, grace_seconds: float) -> None:
        self._workspace = workspace
        self._grace_seconds = grace_seconds
        self._attempts: dict[AttemptName, _Attempt] = {}
        # Only the last one takes jobs; supervisors of the earlier ones may still run, and report starts.
        self._spawners: list[SpawnerClient] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, listener: Listener) -> None:
        """Start the spawner, and report to the listener from now on."""
        self._listener = listener
        await self._start_spawner()

    async def start(self, job: Job) -> None:
        """Hand the attempt to the spawner, unless it is known already."""
        if (attempt := self._new(job)) is not None:
            self._send(attempt)

    async def adopt(self, job: Job, *, was_running: bool, handed_over_at: int | None) -> None:
        """Check what an earlier service left in the attempt's folder, and go on from there."""
        # An attempt that was handed over before the machine started may have run: the claim may have been lost when the
        # power failed. Asked before anything is noted: if it cannot be told now, the attempt is adopted later.
        may_have_run = was_running or evidence.is_before_boot(handed_over_at)
        attempt = self._new(job)
        if attempt is None:
            return
        attempt.was_running = may_have_run
        if not attempt.was_running and evidence.state_of(attempt.folder) is State.UNCLAIMED:
            # Spawned or not, nobody has claimed its folder yet: the claim makes sure that it runs only once.
            self._send(attempt)
        else:
            self._watch(attempt)

    async def cancel(self, attempt: AttemptName) -> None:
        """Leave the request to cancel in the attempt's folder, and wake the supervisor."""
        folder = self._workspace.attempt(*attempt)
        self._tell(attempt, folder, folder.cancel)

    async def stop(self, attempt: AttemptName) -> None:
        """Leave the request to stop in the attempt's folder, and wake the supervisor."""
        folder = self._workspace.attempt(*attempt)
        self._tell(attempt, folder, folder.stop)

    async def remove(self, experiment_id: str) -> None:
        """Remove the experiment's folder, by way of the trash, so that nobody ever sees half of it in its place."""
        await asyncio.to_thread(self._remove, experiment_id)

    def _remove(self, experiment_id: str) -> None:
        self._workspace.trash.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        remove_tree(self._workspace.experiment(experiment_id), self._workspace.trash / experiment_id)

    async def close(self) -> None:
        """Let the spawner end; supervisors and scripts go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for spawner in self._spawners:
            await spawner.close()

    def _new(self, job: Job) -> _Attempt | None:
        """Register an attempt and return its entry, or None if it is registered already."""
        if job.attempt in self._attempts:
            return None
        attempt = self._attempts[job.attempt] = _Attempt(job, self._workspace.attempt(*job.attempt))
        return attempt

    # The spawner

    async def _start_spawner(self) -> None:
        failpoints.reached("executor.spawner.before")
        spawner = await SpawnerClient.start(self._on_report)
        self._spawners.append(spawner)
        failpoints.reached("executor.spawner.after")
        self._background(self._replace(spawner), "the spawner")

    def _send(self, attempt: _Attempt) -> None:
        attempt.is_handed = True
        job = attempt.job
        earlier = self._earlier(job) if job.resume else None
        # Not orjson: an environment variable may contain bytes that are not UTF-8, and must reach the script unchanged.
        text = json.dumps(
            {
                "folder": str(attempt.folder.path),
                "name": f"{job.attempt.experiment_id}-{job.attempt.number}",
                "snapshot": str(self._workspace.snapshot(job.snapshot)),
                "earlier": None if earlier is None else str(earlier),
                "command": job.command,
                "environment": dict(job.environment),
                "grace_seconds": self._grace_seconds,
                "timeout_seconds": job.timeout_seconds,
            }
        )
        failpoints.reached("executor.send.before")
        self._spawners[-1].send(text.encode() + b"\n")  # a dead spawner does not get it: _replace sends it again
        failpoints.reached("executor.send.after")

    def _earlier(self, job: Job) -> Path | None:
        """Return the working copy of the last attempt whose script was started: only then is a copy complete."""
        for number in range(job.attempt.number - 1, 0, -1):
            folder = self._workspace.attempt(job.attempt.experiment_id, number)
            if os.path.lexists(folder.started) and folder.work.is_dir():
                return folder.work
        return None

    def _on_report(self, event: str, path: str, *rest: str) -> None:
        attempt = self._attempts.get(_name_of(path))
        if attempt is None:
            return
        if event == "started":
            self._tell_start(attempt, int(rest[0]))
        elif event == "gone":
            attempt.is_gone = True
            self._watch(attempt)

    async def _replace(self, spawner: SpawnerClient) -> None:
        """Start another spawner when this one has died, and take care of the attempts that it no longer reports on."""
        await spawner.exited.wait()
        while True:
            _log.warning("the spawner has ended; starting another")
            await asyncio.sleep(_POLL_SECONDS)
            try:
                await self._start_spawner()
                break
            except OSError:
                _log.exception("the spawner cannot be started")
        for attempt in list(self._attempts.values()):
            attempt.is_handed = False
            if evidence.state_of(attempt.folder) is State.UNCLAIMED and not attempt.was_running:
                self._send(attempt)
            else:
                self._watch(attempt)

    # Requests to a supervisor

    def _tell(self, attempt: AttemptName, folder: AttemptFolder, word: Path) -> None:
        if not self._write(folder, word):
            self._background(self._insist(attempt, folder, word), str(folder.path))

    def _write(self, folder: AttemptFolder, word: Path) -> bool:
        """Leave a request, and wake the supervisor. One that starts later looks for requests after its claim."""
        try:
            folder.make()
            write_private(word, b"")
        except OSError as error:
            _log.error("%s cannot be created: %s; trying again", word, error.strerror)
            return False
        finally:
            evidence.wake(folder)  # a running supervisor is woken even if the file could not be written
        return True

    async def _insist(self, attempt: AttemptName, folder: AttemptFolder, word: Path) -> None:
        while attempt in self._attempts:
            await asyncio.sleep(1)
            if self._write(folder, word):
                return

    # The end

    def _watch(self, attempt: _Attempt) -> None:
        if not attempt.is_watched:
            attempt.is_watched = True
            self._background(self._until_the_end(attempt), str(attempt.folder.path))

    async def _until_the_end(self, attempt: _Attempt) -> None:
        """Report the end of an attempt as soon as its folder or its supervisor's death shows it."""
        if attempt.folder.cancel.exists() or attempt.folder.stop.exists():
            evidence.wake(attempt.folder)  # there may have been no supervisor to wake when the request was left
        while (ending := await self._ending(attempt)) is None:
            if (started_at := evidence.started_at(attempt.folder)) is not None:
                self._tell_start(attempt, started_at)
            await asyncio.sleep(_POLL_SECONDS)
        if not ending.succeeded:
            text, final_line = await asyncio.to_thread(last_lines, attempt.folder.output)
            ending = dataclasses.replace(ending, last_lines=text, final_line=final_line)
        failpoints.reached("executor.end.before")
        del self._attempts[attempt.job.attempt]
        self._listener.on_ended(attempt.job.attempt, ending)

    async def _ending(self, attempt: _Attempt) -> Ending | None:
        """Return how an attempt ended; None while it goes on, and while it is not known whether it does."""
        folder = attempt.folder
        try:
            if (ending := evidence.ending_of(folder)) is not None:
                return ending
            state = evidence.state_of(folder)
            # Checked once more: a supervisor writes the record and then ends.
            if (ending := evidence.ending_of(folder)) is not None:
                return ending
            lost = state is State.DEAD and not await asyncio.to_thread(evidence.kill_leftovers, folder)
        except OSError:
            state, lost = State.UNKNOWN, False
        if state is State.UNKNOWN and not attempt.is_doubted:
            _log.warning("cannot tell whether %s is running: its folder or /proc cannot be read", folder.path)
        attempt.is_doubted = state is State.UNKNOWN
        if state is State.UNCLAIMED and attempt.is_gone:
            return Ending(
                Reason.START_FAILED, error="the attempt's folder cannot be written to, or its supervisor was killed"
            )
        if state is State.UNCLAIMED and not attempt.was_running and not attempt.is_handed:
            self._send(attempt)
        if lost or (state is State.UNCLAIMED and attempt.was_running):
            return Ending(Reason.LOST, started_at=evidence.started_at(folder))
        return None

    def _tell_start(self, attempt: _Attempt, started_at: int) -> None:
        if not attempt.is_started:
            attempt.is_started = True
            self._listener.on_started(attempt.job.attempt, started_at)

    def _background(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a fault has ended the watch over %s", task.get_name(), exc_info=error)


def _name_of(folder: str) -> AttemptName:
    """Return the attempt that has this folder in the workspace: the spawner knows attempts only by their folders."""
    path = Path(folder)
    return AttemptName(path.parent.name, int(path.name.removeprefix("attempt-")))


@dataclass(slots=True)
class _Attempt:
    """What the executor knows about an attempt beyond its folder."""

    job: Job
    folder: AttemptFolder
    was_running: bool = False
    """Whether its script was started, or may have been: it is then never started again, whatever its folder says."""
    is_handed: bool = False
    """Whether it was sent to the current spawner."""
    is_gone: bool = False
    """Whether the spawner has reported that its supervisor, or a second one for it, has ended."""
    is_started: bool = False
    """Whether the listener was told that the script's process exists."""
    is_watched: bool = False
    is_doubted: bool = False
    """Whether the last check could not tell if it is running."""
