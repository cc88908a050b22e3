"""Runs attempts as processes of this machine: what it tells the spawner, and what it learns of each attempt's end."""

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
from grid.service.system.workspace import AttemptFolder, Workspace, write_private
from grid.shared.wire import Reason

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""How often the folder of an attempt is looked at that another service's spawner started."""


class LocalExecutor:
    """Processes on this machine.

    Parameters
    ----------
    workspace
        Where attempts have their folders.
    grace_seconds
        How long a process may take from SIGTERM to its end until it gets SIGKILL.
    """

    def __init__(self, workspace: Workspace, *, grace_seconds: float) -> None:
        self._workspace = workspace
        self._grace_seconds = grace_seconds
        self._attempts: dict[AttemptName, _Attempt] = {}
        # The last one works; of those before it supervisors may be left, and tell of starts.
        self._spawners: list[SpawnerClient] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, listener: Listener) -> None:
        """Start the spawner."""
        self._listener = listener
        await self._start_spawner()

    async def start(self, job: Job) -> None:
        """Hand the attempt to the spawner."""
        if (attempt := self._new(job)) is not None:
            self._send(attempt)

    async def adopt(self, job: Job, *, was_running: bool, handed_over_at: int | None) -> None:
        """Look what an earlier service left in the attempt's folder, and go on from there."""
        attempt = self._new(job)
        if attempt is None:
            return
        # What was handed over before the machine started may have run: a disk that has lost its power may have lost the
        # claim, too.
        attempt.was_running = was_running or evidence.is_before_boot(handed_over_at)
        if not attempt.was_running and evidence.state_of(attempt.folder) is State.UNCLAIMED:
            # Spawned or not, it has not claimed its folder: the claim sees to it that it runs once.
            self._send(attempt)
        else:
            self._watch(attempt)

    async def cancel(self, attempt: AttemptName) -> None:
        """Leave the word in the folder, and wake the supervisor."""
        folder = self._workspace.attempt(*attempt)
        self._tell(attempt, folder, folder.cancel)

    async def stop(self, attempt: AttemptName) -> None:
        """Leave the word in the folder, and wake the supervisor."""
        folder = self._workspace.attempt(*attempt)
        self._tell(attempt, folder, folder.stop)

    async def close(self) -> None:
        """Let the spawner end; supervisors and scripts go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for spawner in self._spawners:
            await spawner.close()

    def _new(self, job: Job) -> _Attempt | None:
        """Return what is to be known of an attempt from now on, or None where that is so already."""
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
        self._background(self._replace(spawner))

    def _send(self, attempt: _Attempt) -> None:
        attempt.is_handed = True
        job = attempt.job
        earlier = self._earlier(job) if job.resume else None
        # Not orjson: a variable of the environment may hold bytes that are no UTF-8, and reaches the script as it is.
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
        self._spawners[-1].send(text.encode() + b"\n")  # one that has died hears nothing: _replace sends it again
        failpoints.reached("executor.send.after")

    def _earlier(self, job: Job) -> Path | None:
        """Return the working copy of the last attempt whose script was started: only such a one is complete."""
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
        """Start another spawner when this one has died, and see to the attempts that it says nothing of any more."""
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

    # Words to a supervisor

    def _tell(self, attempt: AttemptName, folder: AttemptFolder, word: Path) -> None:
        if not self._write(folder, word):
            self._background(self._insist(attempt, folder, word))

    def _write(self, folder: AttemptFolder, word: Path) -> bool:
        """Leave a word, and wake the supervisor. One that is not there yet looks for words when it has claimed."""
        try:
            folder.make()
            write_private(word, b"")
        except OSError as error:
            _log.error("%s cannot be made: %s; trying again", word, error.strerror)
            return False
        finally:
            evidence.wake(folder)  # who runs already is told all the same
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
            self._background(self._until_the_end(attempt))

    async def _until_the_end(self, attempt: _Attempt) -> None:
        """Tell the end of an attempt as soon as its folder or its supervisor's death says so."""
        if attempt.folder.cancel.exists() or attempt.folder.stop.exists():
            evidence.wake(attempt.folder)  # whoever left the word may not have known whom to wake
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
        """Return how an attempt ended; None while it goes on, and while nobody can tell whether it does."""
        folder = attempt.folder
        try:
            if (ending := evidence.ending_of(folder)) is not None:
                return ending
            state = evidence.state_of(folder)
            # Looked for once more: a supervisor writes the record and then ends.
            if (ending := evidence.ending_of(folder)) is not None:
                return ending
            lost = state is State.DEAD and not await asyncio.to_thread(evidence.kill_leftovers, folder)
        except OSError:
            state, lost = State.UNKNOWN, False
        if state is State.UNKNOWN and not attempt.is_doubted:
            _log.warning("whether %s runs cannot be told: its folder or /proc is not readable", folder.path)
        attempt.is_doubted = state is State.UNKNOWN
        if state is State.UNCLAIMED and attempt.is_gone:
            return Ending(
                Reason.START_FAILED, error="the attempt's folder cannot be written, or its supervisor was killed"
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

    def _background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an attempt is not watched any more", exc_info=error)


def _name_of(folder: str) -> AttemptName:
    """The attempt that has this folder in the workspace: the spawner knows it by that alone."""
    path = Path(folder)
    return AttemptName(path.parent.name, int(path.name.removeprefix("attempt-")))


@dataclass(slots=True)
class _Attempt:
    """What the executor knows of an attempt beyond its folder."""

    job: Job
    folder: AttemptFolder
    was_running: bool = False
    """Whether its script was started, or may have been: then it is not started again, whatever its folder says."""
    is_handed: bool = False
    """Whether the spawner was told of it."""
    is_gone: bool = False
    """Whether the spawner has told that its supervisor, or one too many, has ended."""
    is_started: bool = False
    """Whether the listener was told that the script's process exists."""
    is_watched: bool = False
    is_doubted: bool = False
    """Whether it cannot be told whether it runs."""
