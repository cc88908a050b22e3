"""Runs attempts as processes of this machine, through the spawner in ``supervisor.py``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import orjson

from grid.service.executors import Ending, Job, Listener, supervisor
from grid.service.workspace import AttemptFolder, Workspace, write_private

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
        self._attempts: dict[str, _Attempt] = {}
        self._spawner: asyncio.subprocess.Process | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self, listener: Listener) -> None:
        """Start the spawner."""
        self._listener = listener
        await self._start_spawner()

    async def start(self, job: Job) -> None:
        """Write what is to be done into the attempt's folder, and hand it to the spawner."""
        folder = self._workspace.attempt(job.experiment_id, job.attempt)
        try:
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(folder.job, self._job_file(job))
        except OSError as error:
            _log.exception("experiment %s: cannot write its folder", job.experiment_id)
            await self._listener.on_ended(job.experiment_seq, job.attempt, Ending(error=str(error.strerror)))
            return
        self._attempts[str(folder.path)] = _Attempt(job.experiment_seq, job.attempt, folder)
        await self._send(folder)

    async def adopt(self, job: Job) -> None:
        """Look what an earlier service left in the attempt's folder, and go on from there."""
        folder = self._workspace.attempt(job.experiment_id, job.attempt)
        if not folder.claim.exists():
            # Started or not, it has not claimed its folder: the claim sees to it that it runs once.
            await self.start(job)
            return
        self._attempts[str(folder.path)] = _Attempt(job.experiment_seq, job.attempt, folder)
        if (started_at := _read_started(folder)) is not None:
            await self._listener.on_started(job.experiment_seq, job.attempt, started_at)
        self._background(self._watch(folder))

    async def cancel(self, experiment_id: str, attempt: int) -> None:
        """Leave the word in the folder, and wake the supervisor."""
        folder = self._workspace.attempt(experiment_id, attempt)
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder.cancel, b"")
        known = self._attempts.get(str(folder.path))
        if known is not None and known.supervisor is not None:
            _terminate(known.supervisor)
        elif (claim := _read_claim(folder)) is not None and claim.is_alive():
            _terminate(claim.pid)
        # Otherwise there is no supervisor yet: it looks for the word before it starts the script.

    async def close(self) -> None:
        """Let the spawner end; supervisors and scripts go on."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._spawner is not None and self._spawner.stdin is not None:
            self._spawner.stdin.close()
            await self._spawner.wait()

    def gpu_ids(self, experiment_id: str, attempt: int) -> tuple[int, ...]:
        """The GPUs in the attempt's job file."""
        try:
            job = orjson.loads(self._workspace.attempt(experiment_id, attempt).job.read_bytes())
        except FileNotFoundError:
            return ()
        return tuple(job["gpu_ids"])

    def _job_file(self, job: Job) -> bytes:
        return orjson.dumps(
            {
                "command": job.command,
                "environment": dict(job.environment),
                "snapshot": str(self._workspace.snapshot(job.snapshot)),
                "grace_seconds": self._grace_seconds,
                "gpu_ids": job.gpu_ids,
            }
        )

    # The spawner

    async def _start_spawner(self) -> None:
        # -I and -S: nothing of the user's environment decides what the supervisor is. A session of its own: Ctrl-C in the
        # terminal of a service that was started there reaches neither it nor the scripts.
        self._spawner = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            supervisor.__file__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        self._background(self._listen(self._spawner))

    async def _send(self, folder: AttemptFolder) -> None:
        assert self._spawner is not None
        assert self._spawner.stdin is not None
        self._spawner.stdin.write(f"{folder.path}\n".encode())
        with contextlib.suppress(ConnectionError):  # the spawner has died: _listen starts another and sends again
            await self._spawner.stdin.drain()

    async def _listen(self, spawner: asyncio.subprocess.Process) -> None:
        assert spawner.stdout is not None
        while line := await spawner.stdout.readline():
            event, path, *rest = line.decode().rstrip("\n").split("\t")
            attempt = self._attempts.get(path)
            if attempt is None:
                continue
            if event == "forked":
                attempt.supervisor = int(rest[0])
                if attempt.folder.cancel.exists():
                    _terminate(attempt.supervisor)
            elif event == "started":
                # Not awaited: the next report must not wait for a commit. Writes keep the order in which they are asked for.
                self._background(
                    self._listener.on_started(attempt.experiment_seq, attempt.number, int(rest[0]))
                )
            elif event == "gone":
                attempt.supervisor = None
                self._background(self._watch(attempt.folder))
        if self._closing:
            return
        _log.warning("the spawner has ended; starting another")
        await self._start_spawner()
        for attempt in list(self._attempts.values()):
            attempt.supervisor = None
            if attempt.folder.claim.exists():
                self._background(self._watch(attempt.folder))
            else:
                await self._send(attempt.folder)

    # An attempt's folder

    async def _watch(self, folder: AttemptFolder) -> None:
        """Tell the end of an attempt as soon as its folder or its supervisor's death says so."""
        while True:
            claim = _read_claim(folder)
            alive = claim is not None and claim.is_alive()
            # In this order: a supervisor writes the record and then ends.
            ending = _read_exit(folder)
            if ending is None and not alive:
                ending = Ending(lost=True, started_at=_read_started(folder))
            if ending is not None:
                break
            await asyncio.sleep(_POLL_SECONDS)
        attempt = self._attempts.pop(str(folder.path), None)
        if attempt is not None:
            await self._listener.on_ended(attempt.experiment_seq, attempt.number, ending)

    def _background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an attempt is not watched any more", exc_info=error)


class _Attempt:
    """What the executor knows of an attempt beyond its folder."""

    def __init__(self, experiment_seq: int, number: int, folder: AttemptFolder) -> None:
        self.experiment_seq = experiment_seq
        self.number = number
        self.folder = folder
        self.supervisor: int | None = None


class _Claim:
    """Which process claimed an attempt."""

    def __init__(self, pid: int, start: str, boot: str) -> None:
        self.pid = pid
        self._start = start
        self._boot = boot

    def is_alive(self) -> bool:
        return self._boot == supervisor.boot_id() and supervisor.process_start(self.pid) == self._start


def _read_claim(folder: AttemptFolder) -> _Claim | None:
    try:
        words = folder.claim.read_text().removesuffix("\n").split(" ")
    except FileNotFoundError:
        return None
    if len(words) != 3:  # noqa: PLR2004 - it died while it wrote: whoever it was is gone
        return None
    return _Claim(int(words[0]), words[1], words[2])


def _read_started(folder: AttemptFolder) -> int | None:
    try:
        return int(folder.started.read_text().split()[1])
    except FileNotFoundError:
        return None


def _read_exit(folder: AttemptFolder) -> Ending | None:
    try:
        record = json.loads(folder.exit.read_text())
    except FileNotFoundError:
        return None
    return Ending(
        exit_code=record["code"],
        signal=record["signal"],
        error=record["error"],
        started_at=_read_started(folder),
        finished_at=record["finished"],
    )


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
