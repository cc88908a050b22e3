"""Runs attempts as processes of this machine, through the spawner in ``supervisor.py``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, cast

from grid.service.executors import Ending, Job, Listener, supervisor
from grid.service.workspace import AttemptFolder, Workspace, write_private

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""How often the folder of an attempt is looked at that another service's spawner started."""

_SPAWNER_SECONDS = 5.0
"""How long the spawner may take to end."""


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
        self._spawner: _Spawner | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, listener: Listener) -> None:
        """Start the spawner."""
        self._listener = listener
        await self._start_spawner()

    async def start(self, job: Job) -> None:
        """Hand the attempt to the spawner."""
        folder = self._workspace.attempt(job.experiment_id, job.attempt)
        attempt = self._attempts[str(folder.path)] = _Attempt(job, folder)
        self._send(attempt)

    async def adopt(self, job: Job) -> None:
        """Look what an earlier service left in the attempt's folder, and go on from there."""
        folder = self._workspace.attempt(job.experiment_id, job.attempt)
        if _read_claim(folder) is None:
            # Started or not, it has not claimed its folder: the claim sees to it that it runs once.
            await self.start(job)
            return
        self._attempts[str(folder.path)] = _Attempt(job, folder)
        if (started_at := _read_started(folder)) is not None:
            self._listener.on_started(job.experiment_seq, job.attempt, started_at)
        self._background(self._watch(folder))

    async def cancel(self, experiment_id: str, attempt: int) -> None:
        """Leave the word in the folder, and wake the supervisor."""
        folder = self._workspace.attempt(experiment_id, attempt)
        try:
            folder.make()
            write_private(folder.cancel, b"")
        except OSError:
            # A full disk: who runs already is told all the same.
            _log.exception("experiment %s: the cancel cannot be written into its folder", experiment_id)
        known = self._attempts.get(str(folder.path))
        if known is not None and known.supervisor is not None:
            _terminate(known.supervisor)
        elif (claim := _read_claim(folder)) is not None and claim.is_alive():
            _terminate(claim.pid)
        # Otherwise there is no supervisor yet: it looks for the word before it starts the script.

    async def close(self) -> None:
        """Let the spawner end; supervisors and scripts go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._spawner is not None:
            await self._spawner.close()

    # The spawner

    async def _start_spawner(self) -> None:
        # -I and -S: nothing of the user's environment decides what the supervisor is. A session of its own: Ctrl-C in
        # the terminal of a service that was started there reaches neither it nor the scripts.
        _, self._spawner = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Spawner(self._on_report),
            sys.executable,
            "-I",
            "-S",
            supervisor.__file__,
            stderr=None,
            start_new_session=True,
            cwd="/",
        )
        self._background(self._replace(self._spawner))

    def _send(self, attempt: _Attempt) -> None:
        assert self._spawner is not None
        # Not orjson: a variable of the environment may hold bytes that are no UTF-8, and reaches the script as it is.
        job = json.dumps(
            {
                "folder": str(attempt.folder.path),
                "snapshot": str(self._workspace.snapshot(attempt.job.snapshot)),
                "command": attempt.job.command,
                "environment": dict(attempt.job.environment),
                "grace_seconds": self._grace_seconds,
            }
        )
        self._spawner.send(job.encode() + b"\n")  # one that has died hears nothing: _replace sends it again

    def _on_report(self, event: str, path: str, *rest: str) -> None:
        attempt = self._attempts.get(path)
        if attempt is None:
            return
        if event == "forked":
            attempt.supervisor = int(rest[0])
            if attempt.folder.cancel.exists():
                _terminate(attempt.supervisor)
        elif event == "started":
            self._listener.on_started(attempt.job.experiment_seq, attempt.job.attempt, int(rest[0]))
        elif event == "gone":
            attempt.supervisor = None
            self._background(self._watch(attempt.folder))

    async def _replace(self, spawner: _Spawner) -> None:
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
            attempt.supervisor = None
            if _read_claim(attempt.folder) is None:
                self._send(attempt)
            else:
                self._background(self._watch(attempt.folder))

    # An attempt's folder

    async def _watch(self, folder: AttemptFolder) -> None:
        """Tell the end of an attempt as soon as its folder or its supervisor's death says so."""
        if folder.cancel.exists() and (claim := _read_claim(folder)) is not None and claim.is_alive():
            _terminate(claim.pid)  # whoever wrote the word may not have known whom to wake
        while (ending := _read_exit(folder)) is None:
            claim = _read_claim(folder)
            if claim is None or not claim.is_alive():
                # Looked for once more: a supervisor writes the record and then ends.
                ending = _read_exit(folder)
                if ending is None and claim is None:
                    ending = Ending(error="the attempt's folder cannot be written")
                elif (
                    ending is None and claim is not None and not await asyncio.to_thread(_kill_leftovers, folder, claim)
                ):
                    ending = Ending(lost=True, started_at=_read_started(folder))
                if ending is not None:
                    break
            await asyncio.sleep(_POLL_SECONDS)
        attempt = self._attempts.pop(str(folder.path), None)
        if attempt is not None:
            self._listener.on_ended(attempt.job.experiment_seq, attempt.job.attempt, ending)

    def _background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an attempt is not watched any more", exc_info=error)


class _Spawner(asyncio.SubprocessProtocol):
    """Our end of the spawner's pipes.

    Not asyncio's streams: for those a process has not ended before its pipes have, and every supervisor holds one of
    them for as long as its script runs.
    """

    def __init__(self, on_report: Callable[..., None]) -> None:
        self._on_report = on_report
        self._unread = b""
        self.exited = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def send(self, line: bytes) -> None:
        self._stdin.write(line)

    def pipe_data_received(self, _fd: int, received: bytes) -> None:
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            self._on_report(*os.fsdecode(line).split("\t"))

    def process_exited(self) -> None:
        self.exited.set()

    async def close(self) -> None:
        self._stdin.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.exited.wait(), _SPAWNER_SECONDS)
        self._transport.close()

    @property
    def _stdin(self) -> asyncio.WriteTransport:
        return cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))


class _Attempt:
    """What the executor knows of an attempt beyond its folder."""

    def __init__(self, job: Job, folder: AttemptFolder) -> None:
        self.job = job
        self.folder = folder
        self.supervisor: int | None = None


class _Claim:
    """Which process claimed an attempt."""

    def __init__(self, pid: int, start: str, boot: str) -> None:
        self.pid = pid
        self._start = start
        self._boot = boot

    def is_of_this_boot(self) -> bool:
        return self._boot == supervisor.boot_id()

    def is_alive(self) -> bool:
        return self.is_of_this_boot() and supervisor.process_start(self.pid) == self._start


# A machine that has lost its power may leave a file that is there and empty: it says as little as none.


def _read_claim(folder: AttemptFolder) -> _Claim | None:
    try:
        pid, start, boot = str(folder.claim.readlink()).split(" ")
        return _Claim(int(pid), start, boot)
    except (FileNotFoundError, ValueError):
        return None


def _read_started(folder: AttemptFolder) -> int | None:
    try:
        return int(str(folder.started.readlink()).split()[1])
    except (FileNotFoundError, ValueError, IndexError):
        return None


def _readable(text: str | None) -> str | None:
    # A file's name may hold bytes that are no UTF-8, and no database takes those.
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _read_exit(folder: AttemptFolder) -> Ending | None:
    try:
        record = json.loads(folder.exit.read_text())
        return Ending(
            exit_code=record["code"],
            signal=record["signal"],
            error=_readable(record["error"]),
            started_at=_read_started(folder),
            finished_at=record["finished"],
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _kill_leftovers(folder: AttemptFolder, claim: _Claim) -> bool:
    """Kill what a supervisor that has died left running; return whether there was something."""
    if not claim.is_of_this_boot():
        return False
    pids = supervisor.leftovers(claim.pid, folder.path.parent.name)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
