"""The supervisor: runs one attempt, outlives all of its processes, and records how it ended."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from contextlib import suppress

from grid.service.executors.supervisor.cgroups import Cgroup, oom_kills_of_machine, own
from grid.service.executors.supervisor.points import reached
from grid.service.executors.supervisor.process_tree import become_subreaper, children, descendants, reap
from grid.service.executors.supervisor.record import PRIVATE, Record
from grid.service.executors.supervisor.signature import signature
from grid.service.executors.supervisor.working_copy import Copier, enter, put_links, remove_unchanged
from grid.service.system import removal
from grid.service.system.attempt_files import (
    CANCEL,
    CGROUP,
    CLAIM,
    EXIT,
    LONGEST_TMP,
    STARTED,
    STOP,
    TMP,
    short_name,
)
from grid.shared.processes import boot_id, process_start
from grid.shared.wire import Reason, memory_text

TYPE_CHECKING = False  # type checkers know the name; importing `typing` would take a twentieth of the spawner's memory
if TYPE_CHECKING:
    from typing import Any

AWAITED = frozenset({signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD})
"""What wakes a supervisor: a request to end, a timer that has run out, a process that has ended."""

_NOT_EXECUTABLE = frozenset(
    {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG}
)
_SHUT_DOWN = frozenset({signal.SIGTERM, signal.SIGKILL, signal.SIGHUP})  # what a machine sends when it shuts down
_KILL_INTERVAL = 0.02  # seconds between two rounds of SIGKILL
_SWEEPS = 50  # how many times a round looks for processes that were forked meanwhile
_LOOK_SECONDS = 5.0  # between two looks whether the home still exists
_RECORD_SECONDS = 24 * 3600.0  # how long to retry if the disk refuses the record of the end
_MAX_ERROR = 400  # characters


class _ToldToEnd(Exception):
    """The attempt must end before its script was started."""


class _NotExecutable(Exception):
    """The program that should run the script cannot be executed."""


class Supervisor:
    """Runs one attempt.

    Parameters
    ----------
    job
        The ``experiment`` and the ``attempt``, as reports name them; the ``spawner``; the ``home``, and the ``record``
        in it; ``folders`` to make, the file for the ``output``, the ``snapshot`` to copy to ``work``; in ``earlier``
        what an earlier attempt left and what to lay it over, or None; the ``folder`` of the working copy where the
        script starts, empty for the copy itself, and the ``links`` to put there, from path to target; ``temporary``,
        below which the script gets a folder of its own, or None; ``command`` (its first word is a path),
        ``environment``, ``grace_seconds``, ``timeout_seconds`` or None; ``memory_bytes``, 0 for no limit; and the
        ``key`` that signs the record of the end, in hexadecimal, or None if that is not signed.
    reports
        File descriptor of the pipe to the service.
    cgroups
        Whether there can be a control group for the attempt.
    """

    def __init__(self, job: dict[str, Any], reports: int, *, cgroups: bool) -> None:
        self.job = job
        self.name = f"{job['experiment']}-{job['attempt']}"
        self.grace: float = job["grace_seconds"]
        self.timeout: float | None = job["timeout_seconds"]
        self.reports = reports
        self.cgroups = cgroups
        self.cgroup: Cgroup | None = None
        self.claim = self.started = ""
        self.script: int | None = None
        self.temporary: str | None = None
        # Monotonic times: when the script's time is up, and when what is left of it gets SIGKILL.
        self.deadline: float | None = None
        self.kill_at: float | None = None
        self.killing = False
        self.asked = False
        self.oom_kills: int | None = None
        # How it ended.
        self.code: int | None = None
        self.signal: int | None = None
        self.finished: int | None = None
        self.reason: Reason | None = None
        self.error = ""

    def run(self) -> None:
        """Claim the attempt, run it and record how it ended; do nothing if another supervisor has claimed it."""
        # Awaited, never handled: a handler does not run if the signal comes just before a call that blocks.
        signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
        os.setsid()
        # Only this user can read what is written here; the script gets the umask that it would have without us.
        umask = os.umask(0o077)
        become_subreaper()
        self.record = Record(self.job["home"], self.job["record"])
        self.claim = f"{os.getpid()} {process_start(os.getpid())} {boot_id()}"
        reached("supervisor.claim.before")
        self.record.make()
        if not self.record.claim(CLAIM, self.claim):
            return
        reached("supervisor.claim.after")
        # Asked after the claim: a service that names another spawner and then looks at claims sees this one, or the
        # name is seen here. Otherwise the attempt may have been run meanwhile, and its record removed.
        if self.record.spawner() not in (None, self.job["spawner"]):
            self.record.give_up(CLAIM)
            return
        try:
            # A request that came before there was a supervisor to wake left only its file.
            self.reason = self._word()
            self._check()
            self._make_folders()
            self._make_working_copy()
            self._start(umask)
        except _ToldToEnd:
            self.reason, self.error = self._who_asked()
        except _NotExecutable as error:
            self.reason, self.error = Reason.ENVIRONMENT, str(error)
        except OSError as error:
            self.reason, self.error = Reason.START_FAILED, self._described(error)
        except ValueError as error:  # text that this system cannot hand to a process
            self.reason, self.error = Reason.START_FAILED, str(error)
        if self.script is not None:
            self._wait()
        self._leave_nothing()
        if self.record.has_home():
            remove_unchanged(self.job["snapshot"], self.job["work"])
            self._record_end()
        else:
            self._remove_temporary()

    def _described(self, error: OSError) -> str:
        """Return the system's message, without the service's folders."""
        path = (error.filename or "").rstrip("/")
        name = "the run's source code" if path == self.job["snapshot"] else os.path.basename(path)
        return f"{error.strerror}: {name}" if name else str(error.strerror)

    def _make_folders(self) -> None:
        for folder in self.job["folders"]:
            with suppress(FileExistsError):
                os.mkdir(folder, PRIVATE)

    # The script

    def _make_working_copy(self) -> None:
        copier = Copier(self._check)
        copier.copy(self.job["snapshot"], self.job["work"])
        if self.job["earlier"] is not None:
            copier.overlay(*self.job["earlier"])
        put_links(self.job["work"], self.job["links"])

    def _start(self, umask: int) -> None:
        output = os.open(self.job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self.job["folder"]:
            enter(self.job["work"], self.job["folder"])
        else:
            os.chdir(self.job["work"])
        environment = self._environment()
        self._check()
        self._enter_cgroup()
        reached("supervisor.script.before")
        before = os.umask(umask)
        try:
            self.script = self._spawn(self.job["command"], environment, output)
        finally:
            os.umask(before)
            os.close(output)
            if self.cgroup is not None:
                self.cgroup.leave()
        self._limit_memory()
        started, clock = time.time_ns() // 1000, time.monotonic()
        reached("supervisor.script.after")
        if self.timeout is not None:
            self.deadline = clock + self.timeout
        self.started = f"{self.script} {started} {int(clock * 1e6)} {int(self.grace * 1e3)}"
        with suppress(OSError):  # the script runs, even if the disk is full
            self.record.put(STARTED, self.started)
        reached("supervisor.started.after")
        report(self.reports, "started", self.job, at=started)

    def _environment(self) -> dict[str, str]:
        """Return the script's environment, with a temporary folder of its own."""
        environment: dict[str, str] = self.job["environment"]
        if self.job["temporary"] is None:
            return environment
        # First its name: whoever removes what is left must find all of it.
        self.temporary = f"{self.job['temporary']}/grid-{self.job['experiment'][:8]}-{os.urandom(4).hex()}"
        self.record.put(TMP, self.temporary)
        os.mkdir(self.temporary, PRIVATE)
        named = self.temporary
        if len(os.fsencode(named)) > LONGEST_TMP:
            # The path of a socket has 107 bytes, and programs put sockets some folders deep into it.
            with suppress(OSError):  # where that cannot be, a long one is better than none
                os.symlink(self.temporary, short_name(self.temporary))
                named = short_name(self.temporary)
        return {**environment, "TMPDIR": named}

    def _remove_temporary(self) -> None:
        """Remove the temporary folder: there is no service that would."""
        if self.temporary is not None:
            for left in (short_name(self.temporary), self.temporary):
                with suppress(OSError):
                    removal.remove(left)

    def _enter_cgroup(self) -> None:
        """Make a control group and enter it, so that the script starts in it; do without if that is not possible."""
        parent = own() if self.cgroups else None
        if parent is not None:
            cgroup = Cgroup(f"{parent}/grid-{self.name}")
            with suppress(OSError):
                # First its name: a search for what a dead supervisor has left behind must find all of it.
                self.record.put(CGROUP, cgroup.path)
                if not cgroup.make():
                    self.record.drop(CGROUP)
                # A spawner that starts now may remove an empty group before it is entered.
                elif cgroup.enter() or (cgroup.make() and cgroup.enter()):
                    self.cgroup = cgroup
                else:
                    cgroup.remove()
        if self.cgroup is None or self.cgroup.oom_kills() is None:
            self.oom_kills = oom_kills_of_machine()

    def _limit_memory(self) -> None:
        # Only now: this process was in the group, and must not be ended with it.
        size = self.job.get("memory_bytes", 0)
        if size and not (self.cgroup is not None and self.cgroup.limit_memory(size)):
            with suppress(OSError):
                os.write(2, f"{self.name} runs without a limit to its memory\n".encode())

    def _spawn(self, command: list[str], environment: dict[str, str], output: int) -> int:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        try:
            if "/" not in command[0]:  # the service did not find it on the PATH
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
            return os.posix_spawn(
                command[0],
                command,
                environment,
                file_actions=actions,
                # A group of its own: what it sends to its group does not reach us. Not a session of its own: then it
                # could never leave its group again, and what it leaves behind is looked for by our session.
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these itself
            )
        except OSError as error:
            if error.errno in _NOT_EXECUTABLE:
                message = f"cannot run the script with {command[0]}: {error.strerror}"
                raise _NotExecutable(message) from error
            raise

    def _wait(self) -> None:
        """Wait for the script and for every process that it leaves behind; end them when it is time."""
        while True:
            self._set_alarm()
            number = signal.sigwait(AWAITED)
            self.asked |= number == signal.SIGTERM
            # Whatever the signal was: a script that has ended by now has ended by itself.
            if not self._reap():
                break
            now = time.monotonic()
            if self.finished is not None:
                self._end(self.reason, self.error)
            elif number == signal.SIGTERM:
                self._end(*self._who_asked())
            elif self.deadline is not None and now >= self.deadline:
                self._end(Reason.TIMEOUT, f"it had not ended after {self.timeout:g} s")
            elif number == signal.SIGALRM:
                self._look()
            if self.kill_at is not None and now >= self.kill_at:
                self._kill()

    def _look(self) -> None:
        """See to it that service and supervisor can find each other, whatever the script has removed."""
        if not self.record.has_home():
            self._end(Reason.LOST, "the service's home was removed")
        elif (reason := self._word()) is not None:  # an order that could not be delivered
            self._end(reason)
        elif not self.record.says(CLAIM, self.claim):
            with suppress(OSError):
                self.record.put(CLAIM, self.claim)
                self.record.put(STARTED, self.started)

    def _set_alarm(self) -> None:
        """Have SIGALRM wake this process at the next deadline, and to look at the home."""
        at = self.deadline if self.kill_at is None else self.kill_at
        left = _LOOK_SECONDS if at is None else at - time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, min(max(left, 0.001), _LOOK_SECONDS))

    def _reap(self) -> bool:
        """Note which processes have ended; return whether any is left.

        A subreaper inherits every orphan of its descendants: without a child there is no process of the experiment.
        """
        ended, left = reap()
        if self.script in ended:
            code = os.waitstatus_to_exitcode(ended[self.script])
            self.code, self.signal = (code, None) if code >= 0 else (None, -code)
            self.finished = time.time_ns() // 1000
            if self.reason is None and self._was_out_of_memory():
                self.reason = Reason.OUT_OF_MEMORY
                if (size := self.job.get("memory_bytes", 0)) and self.cgroup is not None and self.cgroup.wanted_more():
                    self.error = f"it used more than its {memory_text(size)} of memory"
        return left

    # Ending

    def _word(self) -> Reason | None:
        """Return why the attempt was asked to end, as far as the record says so."""
        for name, reason in ((CANCEL, Reason.CANCELLED_BY_USER), (STOP, Reason.SERVICE_STOPPED)):
            if self.record.has(name):
                return reason
        return None

    def _check(self) -> None:
        """Raise an exception if the attempt must end."""
        if self.reason is not None or signal.SIGTERM in signal.sigpending():
            raise _ToldToEnd

    def _who_asked(self) -> tuple[Reason, str]:
        """Return the reason of an end that was asked for, and more about it."""
        reason = self.reason or self._word()
        if reason is not None:
            return reason, ""
        # Not the service: a machine that shuts down sends SIGTERM to every process.
        return Reason.LOST, "its processes were ended from outside, as when a machine shuts down"

    def _end(self, reason: Reason | None, error: str = "") -> None:
        """Begin to end every process. A second call changes neither the grace period nor the reason."""
        if self.kill_at is None:
            self.reason, self.error = reason, error
            self.kill_at = time.monotonic() + max(self.grace, _KILL_INTERVAL)
            self._signal_all(signal.SIGTERM)

    def _kill(self) -> None:
        """Kill every process that is left, and set the time for another round: some fork faster than they are found."""
        self.killing = True
        if self.cgroup is not None:
            self.cgroup.kill(spared={os.getpid()})
        self._signal_all(signal.SIGKILL)
        # The orphans of the killed processes are our children now.
        for _ in range(_SWEEPS):
            for pid in children(os.getpid()):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        self.kill_at = time.monotonic() + _KILL_INTERVAL

    def _signal_all(self, number: int) -> None:
        reached("supervisor.signal.before")
        members = [] if self.cgroup is None else self.cgroup.members()
        for pid in {*descendants(os.getpid()), *members} - {os.getpid()}:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                # A stopped process receives SIGTERM only when it is continued.
                os.kill(pid, signal.SIGCONT)
        reached("supervisor.signal.after")

    def _leave_nothing(self) -> None:
        """Remove the control group, and kill any process that has got into it without being a descendant."""
        if self.cgroup is None:
            return
        pause = 0.001
        while not self.cgroup.remove():
            # A group whose last process has only just ended may stay busy for a moment.
            if not self.cgroup.kill(spared={os.getpid()}) and pause > 1:
                break
            time.sleep(pause)
            pause *= 2

    def _was_out_of_memory(self) -> bool:
        """Return whether the kernel killed the script for want of memory.

        The control group counts that for its own processes. If it does not, the machine's counter proves less: that
        some process was killed for want of memory while the script ran. But the script got a SIGKILL that was not ours,
        and hardly anything else sends one.
        """
        if self.signal != signal.SIGKILL or self.killing:
            return False
        kills = None if self.cgroup is None else self.cgroup.oom_kills()
        before, after = (0, kills) if kills is not None else (self.oom_kills, oom_kills_of_machine())
        return before is not None and after is not None and after > before

    def _record_end(self) -> None:
        """Make the link that says how the attempt ended; try again while the disk refuses it and there is a home."""
        asked = self.asked or signal.SIGTERM in signal.sigpending()
        if asked and self.reason is None and self.signal in _SHUT_DOWN and self._word() is None:
            # The machine is shutting down, and the script got its signal before we did.
            self.reason, self.error = self._who_asked()
        reason = self.reason or (Reason.EXIT_CODE if self.signal is None else Reason.SIGNAL)
        code = "-" if self.code is None else self.code
        number = "-" if self.signal is None else self.signal
        record = f"{code} {number} {self.finished or time.time_ns() // 1000} {reason}"
        text = f"{record} {self.error[:_MAX_ERROR]}".rstrip().encode("utf-8", "backslashreplace")
        if self.temporary is not None and not self.record.says(TMP, self.temporary):
            with suppress(OSError):  # whoever removes the record removes that folder, too
                self.record.put(TMP, self.temporary)
        pause, deadline = 0.01, time.monotonic() + _RECORD_SECONDS
        while not (self._link(text) or self._link(record.encode())) and time.monotonic() < deadline:
            if not self.record.has_home():
                break
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _link(self, record: bytes) -> bool:
        # File systems like ext4 store a link of up to 59 bytes in its inode: that works even on a full disk.
        key: str | None = self.job["key"]
        text = record if key is None else signature(bytes.fromhex(key), record) + b" " + record
        reached("supervisor.exit.before")
        try:
            self.record.put(EXIT, text)
        except OSError:
            return False
        reached("supervisor.exit.after")
        return True


def report(reports: int, event: str, job: dict[str, Any], **more: int) -> None:
    """Report to the service, in one line of JSON. If it has died, the next one finds the same in the record.

    Several processes write to the pipe, and only what is short is written in one piece: POSIX promises 512 bytes.
    """
    line = {"event": event, "experiment": job["experiment"], "attempt": job["attempt"], **more}
    with suppress(BrokenPipeError):
        os.write(reports, json.dumps(line).encode() + b"\n")
