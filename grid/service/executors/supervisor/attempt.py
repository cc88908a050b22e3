"""A supervisor: runs one attempt, outlives every process of it, and records how it ended."""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress

from grid.service.executors.supervisor.cgroups import Cgroup, oom_kills_of_machine, own
from grid.service.executors.supervisor.points import reached
from grid.service.executors.supervisor.process_tree import become_subreaper, children, descendants, reap
from grid.service.executors.supervisor.working_copy import Copier, remove_unchanged
from grid.service.system.attempt_files import CANCEL, CGROUP, CLAIM, EXIT, OUTPUT, STARTED, STOP, WORK
from grid.shared.processes import boot_id, process_start
from grid.shared.wire import Reason

TYPE_CHECKING = False  # type checkers know the name; `typing` would be a twentieth of the spawner's memory
if TYPE_CHECKING:
    from typing import Any

AWAITED = frozenset({signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD})
"""What wakes a supervisor: a word for it, a time that has come, a process that has ended."""

_NOT_EXECUTABLE = frozenset(
    {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG}
)
_SHUT_DOWN = frozenset({signal.SIGTERM, signal.SIGKILL, signal.SIGHUP})  # how a machine that shuts down ends processes
_KILL_INTERVAL = 0.02  # seconds between two rounds of SIGKILL
_SWEEPS = 50  # how often, in a round, those are looked for that were forked meanwhile
_MAX_ALARM = 3600.0  # seconds; longer ones are set again, for a timer has a largest number
_RECORD_SECONDS = 24 * 3600.0  # for how long a disk may refuse the record of the end
_MAX_ERROR = 400  # characters


class _ToldToEnd(Exception):
    """The attempt is to end before its script was started."""


class _NotExecutable(Exception):
    """What shall run the script cannot."""


class Supervisor:
    """Runs one attempt.

    Parameters
    ----------
    job
        ``folder`` of the attempt, ``name`` of it on the whole machine, ``snapshot`` to copy, ``earlier`` to put over
        that or None, ``command`` (its first word a path), ``environment``, ``grace_seconds``, and ``timeout_seconds``
        or None.
    reports
        File descriptor of the pipe to the service.
    cgroups
        Whether there can be a control group for the attempt.
    """

    def __init__(self, job: dict[str, Any], reports: int, *, cgroups: bool) -> None:
        self.job = job
        self.folder: str = job["folder"]
        self.grace: float = job["grace_seconds"]
        self.timeout: float | None = job["timeout_seconds"]
        self.reports = reports
        self.cgroups = cgroups
        self.cgroup: Cgroup | None = None
        self.script: int | None = None
        # Monotonic times: when the script has had its time, and when what is left of it meets SIGKILL.
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
        """Claim the attempt, run it and record how it ended; do nothing where another has claimed it."""
        # Awaited, never handled: a handler does not run while a call blocks that was begun just after the signal came.
        signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
        os.setsid()
        # What is written here is this user's alone; what the script writes is as it would be without us.
        umask = os.umask(0o077)
        become_subreaper()
        self._make_folder()
        reached("supervisor.claim.before")
        if not self._claim():
            return
        reached("supervisor.claim.after")
        try:
            # A word that came before there was anybody to tell left only its file.
            self.reason = self._word()
            self._check()
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
        remove_unchanged(self.job["snapshot"], self._path(WORK))
        self._record_end()

    def _described(self, error: OSError) -> str:
        """Say what the system says, without the service's folders."""
        path = (error.filename or "").rstrip("/")
        name = "the run's source code" if path == self.job["snapshot"] else os.path.basename(path)
        return f"{error.strerror}: {name}" if name else str(error.strerror)

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _make_folder(self) -> None:
        for folder in (os.path.dirname(self.folder), self.folder):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)

    def _claim(self) -> bool:
        # A link that leads nowhere: made only where there is none, and with all that it says, in one step.
        try:
            os.symlink(f"{os.getpid()} {process_start(os.getpid())} {boot_id()}", self._path(CLAIM))
        except FileExistsError:
            return False
        return True

    # The script

    def _make_working_copy(self) -> None:
        copier = Copier(self._check)
        copier.copy(self.job["snapshot"], self._path(WORK))
        if self.job["earlier"] is not None:
            copier.overlay(self.job["earlier"], self._path(WORK))

    def _start(self, umask: int) -> None:
        output = os.open(self._path(OUTPUT), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.chdir(self._path(WORK))
        self._check()
        self._enter_cgroup()
        reached("supervisor.script.before")
        before = os.umask(umask)
        try:
            self.script = self._spawn(self.job["command"], output)
        finally:
            os.umask(before)
            os.close(output)
            if self.cgroup is not None:
                self.cgroup.leave()
        started = time.time_ns() // 1000
        reached("supervisor.script.after")
        if self.timeout is not None:
            self.deadline = time.monotonic() + self.timeout
        with suppress(OSError):  # it runs, even where the disk is full
            os.symlink(f"{self.script} {started}", self._path(STARTED))
        reached("supervisor.started.after")
        report(self.reports, "started", self.folder, str(started))

    def _enter_cgroup(self) -> None:
        """Make a control group and go into it, so that the script is born there; without one where that cannot be."""
        parent = own() if self.cgroups else None
        if parent is not None:
            cgroup = Cgroup(f"{parent}/grid-{self.job['name']}")
            with suppress(OSError):
                # First the name: whoever looks for what a dead supervisor has left must find all of it.
                os.symlink(cgroup.path, self._path(CGROUP))
                if not cgroup.make():
                    os.unlink(self._path(CGROUP))
                # An empty one may be swept away before it is entered.
                elif cgroup.enter() or (cgroup.make() and cgroup.enter()):
                    self.cgroup = cgroup
                else:
                    cgroup.remove()
        if self.cgroup is None or self.cgroup.oom_kills() is None:
            self.oom_kills = oom_kills_of_machine()

    def _spawn(self, command: list[str], output: int) -> int:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        try:
            if "/" not in command[0]:  # it was not found on the PATH
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
            return os.posix_spawn(
                command[0],
                command,
                self.job["environment"],
                file_actions=actions,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python itself ignores
            )
        except OSError as error:
            if error.errno in _NOT_EXECUTABLE:
                message = f"cannot run the script with {command[0]}: {error.strerror}"
                raise _NotExecutable(message) from error
            raise

    def _wait(self) -> None:
        """Wait for the script, and for everything that it leaves behind."""
        while True:
            self._set_alarm()
            number = signal.sigwait(AWAITED)
            self.asked |= number == signal.SIGTERM
            # Whatever woke it: a script that is over by now has ended by itself.
            if not self._reap():
                break
            now = time.monotonic()
            if self.finished is not None:
                self._end(self.reason)
            elif number == signal.SIGTERM:
                self._end(*self._who_asked())
            elif self.deadline is not None and now >= self.deadline:
                self._end(Reason.TIMEOUT, f"it had not ended after {self.timeout:g} s")
            if self.kill_at is not None and now >= self.kill_at:
                self._kill()

    def _set_alarm(self) -> None:
        """Be woken when the next time has come."""
        at = self.deadline if self.kill_at is None else self.kill_at
        if at is not None:
            signal.setitimer(signal.ITIMER_REAL, min(max(at - time.monotonic(), 0.001), _MAX_ALARM))

    def _reap(self) -> bool:
        """Take note of who has ended; return whether a process is left.

        A subreaper inherits every orphan of its descendants: no child means no process of the experiment.
        """
        ended, left = reap()
        if self.script in ended:
            code = os.waitstatus_to_exitcode(ended[self.script])
            self.code, self.signal = (code, None) if code >= 0 else (None, -code)
            self.finished = time.time_ns() // 1000
            if self.reason is None and self._was_out_of_memory():
                self.reason = Reason.OUT_OF_MEMORY
        return left

    # Ending

    def _word(self) -> Reason | None:
        """Why somebody wants the attempt to end, as far as the folder says so."""
        for name, reason in ((CANCEL, Reason.CANCELLED_BY_USER), (STOP, Reason.SERVICE_STOPPED)):
            if os.path.exists(self._path(name)):
                return reason
        return None

    def _check(self) -> None:
        """Go no further where the attempt is to end."""
        if self.reason is not None or signal.SIGTERM in signal.sigpending():
            raise _ToldToEnd

    def _who_asked(self) -> tuple[Reason, str]:
        """Return the reason of an end that was asked for, and more about it."""
        reason = self.reason or self._word()
        if reason is not None:
            return reason, ""
        # Nobody of ours: a machine that shuts down asks every process.
        return Reason.LOST, "its processes were ended from outside, as by a machine that shuts down"

    def _end(self, reason: Reason | None, error: str = "") -> None:
        """Begin to end every process. Asked again, neither the grace period nor the reason begins anew."""
        if self.kill_at is None:
            self.reason, self.error = reason, error
            self.kill_at = time.monotonic() + max(self.grace, _KILL_INTERVAL)
            self._signal_all(signal.SIGTERM)

    def _kill(self) -> None:
        """Kill whoever is left: once more after a while, for some fork faster than they can be found."""
        self.killing = True
        if self.cgroup is not None:
            self.cgroup.kill(spared={os.getpid()})
        self._signal_all(signal.SIGKILL)
        # The orphans of those that were killed are our children now.
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
                # A stopped process would meet a SIGTERM only when somebody lets it go on.
                os.kill(pid, signal.SIGCONT)
        reached("supervisor.signal.after")

    def _leave_nothing(self) -> None:
        """Remove the control group, and kill who has got into it without being a descendant."""
        if self.cgroup is None:
            return
        pause = 0.001
        while not self.cgroup.remove():
            # One whose last process has ended just now may be busy for a moment yet.
            if not self.cgroup.kill(spared={os.getpid()}) and pause > 1:
                break
            time.sleep(pause)
            pause *= 2

    def _was_out_of_memory(self) -> bool:
        """Whether it was the kernel that killed the script, and for want of memory.

        Its group tells that of its own processes. Where nobody counts for the group, the machine's counter proves less:
        that some process was killed for want of memory while the script ran. But the script has met a SIGKILL that was
        not ours, and who else sends one to a process that has done nothing?
        """
        if self.signal != signal.SIGKILL or self.killing:
            return False
        kills = None if self.cgroup is None else self.cgroup.oom_kills()
        before, after = (0, kills) if kills is not None else (self.oom_kills, oom_kills_of_machine())
        return before is not None and after is not None and after > before

    def _record_end(self) -> None:
        """Make the link that says how it ended; try again for as long as the disk does not take it."""
        asked = self.asked or signal.SIGTERM in signal.sigpending()
        if asked and self.reason is None and self.signal in _SHUT_DOWN and self._word() is None:
            # The machine shuts down, and the script was told before we were.
            self.reason, self.error = self._who_asked()
        reason = self.reason or (Reason.EXIT_CODE if self.signal is None else Reason.SIGNAL)
        code = "-" if self.code is None else self.code
        number = "-" if self.signal is None else self.signal
        record = f"{code} {number} {self.finished or time.time_ns() // 1000} {reason}"
        text = f"{record} {self.error[:_MAX_ERROR]}".rstrip().encode("utf-8", "backslashreplace")
        pause, deadline = 0.01, time.monotonic() + _RECORD_SECONDS
        while not (self._link(text) or self._link(record.encode())) and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _link(self, text: bytes) -> bool:
        # What is short is kept within the folder's own entry by file systems like ext4: there is room on a full disk.
        reached("supervisor.exit.before")
        try:
            os.symlink(text, self._path(EXIT))
        except (FileExistsError, FileNotFoundError):  # it is there, or there is no attempt any more
            return True
        except OSError:
            return False
        reached("supervisor.exit.after")
        return True


def report(reports: int, *words: str) -> None:
    """Tell the service; one that has died hears nothing, and finds it in the folder."""
    with suppress(BrokenPipeError):
        os.write(reports, os.fsencode("\t".join(words) + "\n"))
