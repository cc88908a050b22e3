"""Runs attempts as processes of this machine: hands them to the spawner, and finds out how each one ends."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grid.service.executors import clearing, enforcement, evidence
from grid.service.executors.clearing import Remover
from grid.service.executors.evidence import State
from grid.service.executors.local_files import LocalFiles
from grid.service.executors.output import last_lines
from grid.service.executors.protocol import AttemptName, Ending, Job, Listener
from grid.service.executors.spawner_client import SpawnerClient
from grid.service.system import failpoints
from grid.service.system.workspace import AttemptFolder, Workspace, put_link, write_private
from grid.shared.wire import Reason

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""How often to check the record of an attempt that an earlier spawner started."""

_MARGIN_SECONDS = 10.0
"""How much longer than the grace period a supervisor may take to carry out an order."""


_TIMES_SENT = 3
"""How often to hand over an attempt whose supervisor ends without having claimed it."""


def _temporary_folder() -> str:
    """Return the folder below which scripts get temporary folders; the service's own may have been removed by now."""
    named = os.environ.get("TMPDIR", "")
    # A supervisor has another working folder, and sees a relative path from there.
    is_usable = named.startswith("/") and os.access(named, os.W_OK | os.X_OK)
    # In one way of writing: `evidence` compares a path with a link to it, and many a TMPDIR ends with a slash.
    return str(Path(named)) if is_usable else "/tmp"  # noqa: S108 - a name is drawn below it


class LocalExecutor:
    """Runs attempts as processes on this machine, as an `Executor`.

    Parameters
    ----------
    workspace
        Where attempts have their files.
    secret
        What records of ends are signed with; the same for every service that goes on with these attempts.
    grace_seconds
        How long a process may take to end after SIGTERM before it gets SIGKILL.
    margin_seconds
        How much longer a supervisor may take before it counts as one that a script has stopped.
    """

    def __init__(
        self, workspace: Workspace, secret: bytes, *, grace_seconds: float, margin_seconds: float = _MARGIN_SECONDS
    ) -> None:
        self._workspace = workspace
        self.files = LocalFiles(workspace)
        """What its attempts have written."""
        self._secret = secret
        self._grace_seconds = grace_seconds
        self._margin_seconds = margin_seconds
        self._attempts: dict[AttemptName, _Attempt] = {}
        # Only the last one takes jobs; supervisors of the earlier ones may still run, and report starts.
        self._spawners: list[SpawnerClient] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._remover = Remover()

    async def open(self, listener: Listener) -> None:
        """Start the spawner, and report to the listener from now on."""
        self._listener = listener
        await self._start_spawner()

    async def start(self, job: Job) -> None:
        """Hand the attempt to the spawner, unless it is known already."""
        attempt = self._new(job)
        if attempt is None:
            return
        try:
            self._send(attempt)
        except BaseException:
            del self._attempts[job.attempt]  # so that it can be adopted later
            raise

    async def adopt(self, job: Job, *, was_running: bool, handed_over_at: int | None) -> None:
        """Check what an earlier service left in the attempt's record, and go on from there."""
        # An attempt that was handed over before the machine started may have run: the claim may have been lost when the
        # power failed. Asked before anything is noted: if it cannot be told now, the attempt is adopted later.
        may_have_run = was_running or evidence.is_before_boot(handed_over_at)
        attempt = self._new(job)
        if attempt is None:
            return
        attempt.has_run = may_have_run
        if was_running and not evidence.is_before_boot(handed_over_at):
            # If its script has removed the claim, its supervisor makes it again.
            attempt.lost_after = time.monotonic() + self._margin_seconds
        self._watch(attempt)

    async def cancel(self, attempt: AttemptName) -> None:
        """Leave the request to cancel in the attempt's record, and wake the supervisor."""
        if (known := self._attempts.get(attempt)) is not None:
            self._order(known, Reason.CANCELLED_BY_USER)

    async def stop(self, attempt: AttemptName) -> None:
        """Leave the request to stop in the attempt's record, and wake the supervisor."""
        if (known := self._attempts.get(attempt)) is not None:
            self._order(known, Reason.SERVICE_STOPPED)

    def forget(self, attempts: Collection[AttemptName]) -> None:
        """Remove the records of attempts, and their temporary folders."""
        # What was laid out otherwise has no record of its own, and nothing is there to be removed.
        if attempts:
            remove = functools.partial(clearing.remove_records, self._workspace, list(attempts))
            self._background(self._remover.run(remove), "removing records")

    async def others(self) -> list[AttemptName]:
        """Find what earlier services have not removed, and empty the trash."""
        empty = functools.partial(clearing.empty_trash, self._workspace)
        self._background(self._remover.run(empty), "emptying the trash")
        return await asyncio.to_thread(clearing.other_records, self._workspace, set(self._attempts))

    async def remove(self, experiment_id: str, attempts: int) -> None:
        """Remove the experiment's folders, by way of the trash, so that nobody ever sees half of one in its place."""
        await self._remover.run(functools.partial(clearing.remove_experiment, self._workspace, experiment_id, attempts))

    async def close(self) -> None:
        """Let the spawner end; supervisors and scripts go on."""
        for attempt in self._attempts.values():
            attempt.no_longer_timed()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for spawner in self._spawners:
            await spawner.close()

    def _new(self, job: Job) -> _Attempt | None:
        """Register an attempt and return its entry, or None if it is registered already."""
        if job.attempt in self._attempts:
            return None
        folder = self._workspace.attempt(*job.attempt, job.layout)
        key = evidence.key_of(self._secret, job.attempt) if folder.has_room else None
        attempt = self._attempts[job.attempt] = _Attempt(job, folder, key)
        if job.is_cancelled:
            self._order(attempt, Reason.CANCELLED_BY_USER)
        return attempt

    # The spawner

    async def _start_spawner(self) -> None:
        # Named before anything is sent to it, and before it is asked which attempts are claimed: a supervisor of an
        # earlier one that has not claimed its attempt by now never will.
        name = secrets.token_hex(8)
        put_link(self._workspace.spawner, name)
        failpoints.reached("executor.spawner.before")
        spawner = await SpawnerClient.start(functools.partial(self._on_report, name))
        self._spawners.append(spawner)
        self._spawner = name
        failpoints.reached("executor.spawner.after")
        self._background(self._replace(spawner), "the spawner")

    def _send(self, attempt: _Attempt) -> None:
        if attempt.job.timeout_seconds is not None:
            self._call_later(attempt, attempt.job.timeout_seconds, self._look_for_start)
        # Not orjson: an environment variable may contain bytes that are not UTF-8, and must reach the script unchanged.
        text = json.dumps(self._as_told(attempt))
        failpoints.reached("executor.send.before")
        self._spawners[-1].send(text.encode() + b"\n")  # a dead spawner does not get it: _replace has it sent again
        attempt.is_handed, attempt.is_gone, attempt.spawner = True, False, self._spawner
        attempt.times_sent += 1
        failpoints.reached("executor.send.after")

    def _as_told(self, attempt: _Attempt) -> dict[str, Any]:
        """Return a job as the spawner is told of it: see `grid.service.executors.supervisor.attempt.Supervisor`."""
        job, folder, home = attempt.job, attempt.folder, self._workspace.home
        earlier = None
        if job.resume is not None:
            before = self._workspace.attempt(job.attempt.experiment_id, *job.resume)
            with suppress(OSError):  # its script may have removed it, or closed what is around it
                if before.room.is_dir():
                    earlier = [str(before.room), str(folder.room if before.has_room else folder.work)]
        folders = [self._workspace.experiments, folder.path.parent, folder.path]
        if folder.has_room:
            folders += [folder.metrics, folder.room]
        return {
            "spawner": self._spawner,
            "experiment": job.attempt.experiment_id,
            "attempt": job.attempt.number,
            "home": str(home),
            "record": str(folder.record.relative_to(home)),
            "folders": [str(each) for each in folders],
            "output": str(folder.output),
            "snapshot": str(self._workspace.snapshot(job.snapshot)),
            "work": str(folder.work),
            "earlier": earlier,
            "folder": job.folder,
            "links": dict(job.links),
            "temporary": None if "TMPDIR" in job.environment or not folder.has_room else _temporary_folder(),
            "command": job.command,
            "environment": dict(job.environment),
            "grace_seconds": self._grace_seconds,
            "timeout_seconds": job.timeout_seconds,
            "memory_bytes": job.memory_bytes,
            "key": None if attempt.key is None else attempt.key.hex(),
        }

    def _on_report(self, spawner: str, report: bytes) -> None:
        try:
            said = json.loads(report)
            event, at = said["event"], said.get("at")
            attempt = self._attempts.get(AttemptName(said["experiment"], said["attempt"]))
            if event not in ("started", "gone") or (event == "started" and not isinstance(at, int)):
                raise ValueError(event)
        except (ValueError, TypeError, KeyError):
            _log.error("a supervisor has reported what cannot be read: %r", report[:512])
            return
        if attempt is None:
            return
        if event == "started":
            self._tell_start(attempt, at)
        else:
            # A supervisor of an earlier spawner may have given up: then it says nothing about this one's.
            attempt.is_gone |= spawner == attempt.spawner
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
            self._watch(attempt)

    # Orders

    def _order(self, attempt: _Attempt, reason: Reason) -> None:
        """Have the supervisor end the attempt, and see to it that it does."""
        self._begin_order(attempt, reason)
        if reason not in attempt.insisted and not self._write(attempt, reason):
            attempt.insisted.add(reason)
            self._background(self._insist(attempt, reason), str(attempt.folder.record))

    def _begin_order(self, attempt: _Attempt, reason: Reason) -> None:
        if attempt.order is None:
            attempt.order = reason
            attempt.status = self._own_status(attempt)
            self._background(self._enforce(attempt), f"the order to {attempt.folder.record}")

    @staticmethod
    def _own_status(attempt: _Attempt) -> int | None:
        """Return the wait status of a script that has ended by itself, and whose supervisor is stopped."""
        with suppress(OSError):  # nobody can tell
            supervisor, script = evidence.supervisor_of(attempt.folder), evidence.script_of(attempt.folder)
            if supervisor is not None and script is not None:
                return enforcement.status_of_ended(script, supervisor)
        return None

    def _write(self, attempt: _Attempt, reason: Reason) -> bool:
        """Leave a request, and wake the supervisor. One that starts later looks for requests after its claim."""
        word = attempt.folder.cancel if reason is Reason.CANCELLED_BY_USER else attempt.folder.stop
        try:
            try:
                attempt.folder.make_record()
                write_private(word, b"")
            finally:
                evidence.wake(attempt.folder)  # a running supervisor is woken even if the file could not be written
        except OSError as error:
            if reason not in attempt.insisted:
                _log.error("%s cannot be created, or nobody be told of it: %s; trying again", word, error.strerror)
            return False
        return True

    async def _insist(self, attempt: _Attempt, reason: Reason) -> None:
        while self._is_known(attempt):
            await asyncio.sleep(1)
            if self._write(attempt, reason):
                attempt.insisted.discard(reason)
                return

    def _look_for_start(self, attempt: _Attempt) -> None:
        """Have the time of a script end whose start was never reported, because it has stopped its supervisor."""
        with suppress(OSError):  # it cannot be told now
            supervisor = evidence.supervisor_of(attempt.folder)
            if supervisor is not None and enforcement.is_stopped(supervisor):
                assert attempt.job.timeout_seconds is not None
                self._call_later(attempt, attempt.job.timeout_seconds, self._time_is_up)
                evidence.wake(attempt.folder, signal.SIGCONT)
                return
        self._call_later(attempt, 1, self._look_for_start)

    @staticmethod
    def _call_later(attempt: _Attempt, seconds: float, what: Callable[[_Attempt], None]) -> None:
        attempt.no_longer_timed()
        attempt.timer = asyncio.get_running_loop().call_later(seconds, what, attempt)

    def _time_is_up(self, attempt: _Attempt) -> None:
        """Continue a supervisor that should have ended its script by now. It keeps the time itself, if it is let."""
        self._begin_order(attempt, Reason.TIMEOUT)
        with suppress(OSError):  # the claim cannot be read: once it can be, the order is enforced
            evidence.wake(attempt.folder, signal.SIGCONT)

    async def _enforce(self, attempt: _Attempt) -> None:
        """Kill a supervisor that does not carry out an order, and whatever its script has left running."""
        # A supervisor keeps the grace period of the service that started it.
        grace = max(self._grace_seconds, evidence.grace_of(attempt.folder) or 0)
        await asyncio.sleep(grace + self._margin_seconds)
        while self._is_known(attempt):
            with suppress(OSError):  # it cannot be told now
                supervisor = evidence.supervisor_of(attempt.folder)
                if supervisor is not None and await asyncio.to_thread(enforcement.disobeys, supervisor):
                    _log.warning("%s does not end its script; killing both", attempt.folder.record)
                    attempt.is_enforced = True
                    await asyncio.to_thread(enforcement.kill, supervisor)
            await asyncio.sleep(1)

    def _is_known(self, attempt: _Attempt) -> bool:
        return self._attempts.get(attempt.job.attempt) is attempt

    # The end

    def _watch(self, attempt: _Attempt) -> None:
        if not attempt.is_watched:
            attempt.is_watched = True
            self._background(self._until_the_end(attempt), str(attempt.folder.record))

    async def _until_the_end(self, attempt: _Attempt) -> None:
        """Report the end of an attempt as soon as its record or its supervisor's death shows it."""
        if (reason := evidence.is_asked_to_end(attempt.folder)) is not None:
            self._order(attempt, reason)  # there may have been no supervisor to wake when the request was left
        while (ending := await self._looked_at(attempt)) is None:
            if (started_at := evidence.started_at(attempt.folder)) is not None:
                self._tell_start(attempt, started_at)
            await asyncio.sleep(_POLL_SECONDS)
        if not ending.succeeded:
            text, final_line = await asyncio.to_thread(last_lines, attempt.folder.output)
            ending = dataclasses.replace(ending, last_lines=text, final_line=final_line)
        failpoints.reached("executor.end.before")
        attempt.no_longer_timed()
        del self._attempts[attempt.job.attempt]
        self._listener.on_ended(attempt.job.attempt, ending)

    async def _looked_at(self, attempt: _Attempt) -> Ending | None:
        """Return how an attempt ended, whatever is in the way of looking at it: one watch never ends before that."""
        try:
            return await self._ending(attempt)
        except Exception:  # noqa: BLE001 - whatever a script has left there
            if not attempt.is_doubted:
                attempt.is_doubted = True
                _log.exception("cannot look at %s; trying again", attempt.folder.record)
            return None

    async def _ending(self, attempt: _Attempt) -> Ending | None:
        """Return how an attempt ended; None while it goes on, and while it is not known whether it does."""
        folder = attempt.folder
        try:
            if (ending := self._recorded(attempt)) is not None:
                return ending
            state = evidence.state_of(folder)
            # Checked once more: a supervisor writes the record and then ends.
            if (ending := self._recorded(attempt)) is not None:
                return ending
            is_unclaimed = state is State.UNCLAIMED and attempt.has_run and time.monotonic() >= attempt.lost_after
            is_over = state is State.DEAD or is_unclaimed
            attempt.is_given_up |= is_over
            lost = is_over and not await asyncio.to_thread(evidence.kill_leftovers, folder, attempt.job.attempt)
        except OSError:
            state, lost = State.UNKNOWN, False
        if state is State.UNKNOWN and not attempt.is_doubted:
            _log.warning("cannot tell whether %s is running: it or /proc cannot be read", folder.record)
        attempt.is_doubted = state is State.UNKNOWN
        if lost:
            return attempt.ending_without_record(evidence.started_at(folder))
        if state is State.UNCLAIMED and not attempt.has_run:
            if attempt.is_gone and attempt.times_sent >= _TIMES_SENT:
                error = "the attempt's record cannot be written, or its supervisor was killed"
                return Ending(Reason.START_FAILED, error=error)
            if attempt.is_gone or not attempt.is_handed:
                # Spawned or not, nobody has claimed it: the claim makes sure that it runs only once. But its script may
                # have removed the claim, and it may have met a supervisor of an earlier spawner, which has given up.
                attempt.has_run = await asyncio.to_thread(evidence.has_traces, folder, attempt.job.attempt)
                if attempt.has_run:
                    attempt.lost_after = time.monotonic() + (0 if attempt.is_gone else self._margin_seconds)
                else:
                    self._send(attempt)
        return None

    @staticmethod
    def _recorded(attempt: _Attempt) -> Ending | None:
        """Return the end that is on record, unless that may tell of what was done to processes here."""
        return None if attempt.is_given_up else evidence.ending_of(attempt.folder, attempt.key)

    def _tell_start(self, attempt: _Attempt, started_at: int) -> None:
        if attempt.is_started:
            return
        attempt.is_started = attempt.has_run = True
        if attempt.job.timeout_seconds is not None:
            clock = evidence.started_on_clock(attempt.folder) or time.monotonic()
            left = max(clock + attempt.job.timeout_seconds - time.monotonic(), 0)
            self._call_later(attempt, left, self._time_is_up)
        self._listener.on_started(attempt.job.attempt, started_at)

    def _background(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a fault has ended the watch over %s", task.get_name(), exc_info=error)


@dataclass(slots=True, eq=False)
class _Attempt:
    """What the executor knows about an attempt beyond its record."""

    job: Job
    folder: AttemptFolder
    key: bytes | None
    """What the record of its end must be signed with."""
    has_run: bool = False
    """Whether its script was started, or may have been: it is then never started again, whatever its record says."""
    times_sent: int = 0
    lost_after: float = 0.0
    """When to give it up if it has run and there is no claim, by the monotonic clock."""
    is_handed: bool = False
    """Whether it was sent to the current spawner."""
    spawner: str = ""
    """The spawner that it was sent to."""
    is_gone: bool = False
    """Whether that spawner has reported that its supervisor has ended."""
    is_started: bool = False
    """Whether the listener was told that the script's process exists."""
    is_watched: bool = False
    is_doubted: bool = False
    """Whether the last check could not tell if it is running."""
    is_given_up: bool = False
    """Whether its supervisor is gone, as far as can be told, and what it has left is killed."""
    order: Reason | None = None
    """Why it was first told to end."""
    insisted: set[Reason] = field(default_factory=set)
    """The orders that cannot be delivered now."""
    status: int | None = None
    """The wait status of its script, if that had ended by itself when it was told to end, and nobody had noticed."""
    is_enforced: bool = False
    """Whether its supervisor was killed because it did not carry out the order."""
    timer: asyncio.TimerHandle | None = None
    """Runs out with the script's time."""

    def no_longer_timed(self) -> None:
        """Forget the time-out."""
        if self.timer is not None:
            self.timer.cancel()

    def ending_without_record(self, started_at: int | None) -> Ending:
        """Return how it ended, given that its supervisor is dead and has left no record of that."""
        if not self.is_enforced or self.order is None:
            return Ending(Reason.LOST, started_at=started_at)
        if self.status is None:
            error = "its supervisor did not end it, and was killed together with it"
            return Ending(self.order, error=error, started_at=started_at)
        code = os.waitstatus_to_exitcode(self.status)
        return Ending(
            Reason.EXIT_CODE if code >= 0 else Reason.SIGNAL,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            started_at=started_at,
        )
