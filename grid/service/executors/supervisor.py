"""The processes between the service and a script: one spawner, and one supervisor for each experiment.

Run as a script by the service's interpreter, with nothing but the standard library: the spawner reads jobs from stdin,
one a line, and forks a supervisor for each; what happens is told on stdout. ``docs/lifecycle.md`` says what each file
in an attempt's folder means. Nothing here knows of databases, users or GraphQL.

All of it is paid once for each experiment, so it counts how often the disk and the kernel are asked.
"""

from __future__ import annotations

import ctypes
import fcntl
import filecmp
import functools
import gc
import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

CLAIM = "claim"
CANCEL = "cancel"
STARTED = "started"
EXIT = "exit"
OUTPUT = "output"
WORK = "work"

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
_AWAITED = frozenset({signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD})  # a cancel, the end of grace, a process's end
_KILL_INTERVAL = 0.02  # seconds between two rounds of SIGKILL, for processes that fork faster than one round


def process_start(pid: int) -> str | None:
    """When a process started, in a form that is only good for comparing, or None where there is none such alive.

    With the boot id this tells a process from a later one that was given the same pid.
    """
    if not os.path.isdir("/proc/self"):
        listing = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return "-".join(listing.stdout.split()) or None
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The command, in parentheses, may hold anything: what follows the last one is what can be split.
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


@functools.cache
def boot_id() -> str:
    """Which boot of the machine this is; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def microseconds() -> int:
    """Now, in microseconds since the epoch."""
    return time.time_ns() // 1000


# --- The spawner


def spawn(commands: int, reports: int) -> None:
    """Fork a supervisor for each job read from ``commands``, until its end.

    Parameters
    ----------
    commands, reports
        File descriptors of pipes from and to the service.
    """
    # Signals arrive on a pipe: one that came just before the spawner begins to wait would otherwise wake nobody.
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Nor must a supervisor miss one that comes before it waits for it: it is born with them blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED - {signal.SIGCHLD})
    children: dict[int, str] = {}
    # What a child never writes to, it need not copy: neither to count references nor to look for garbage.
    boot_id()
    _libc()
    gc.disable()
    gc.freeze()
    unread = b""
    while True:
        ready, _, _ = select.select([commands, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid in _reap()[0]:
                report(reports, "gone", children.pop(pid))
        if commands in ready:
            received = os.read(commands, 1 << 16)
            if not received:
                return
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                job = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    os.close(commands)
                    code = 1
                    try:
                        Supervisor(job, reports).run()
                        code = 0
                    finally:
                        # Not sys.exit: what the spawner had begun is not ours to finish.
                        os._exit(code)
                children[pid] = job["folder"]
                report(reports, "forked", job["folder"], str(pid))


def report(reports: int, *words: str) -> None:
    """Tell the service; one that has died hears nothing, and finds it in the folder."""
    with suppress(BrokenPipeError):
        os.write(reports, os.fsencode("\t".join(words) + "\n"))


# --- The supervisor


class Supervisor:
    """Runs one attempt and outlives every process of it.

    Parameters
    ----------
    job
        ``folder`` of the attempt, ``snapshot`` to copy, ``command`` (its first word a path), ``environment``, and
        ``grace_seconds``.
    reports
        File descriptor of the pipe to the service.
    """

    def __init__(self, job: dict[str, Any], reports: int) -> None:
        self.job = job
        self.folder: str = job["folder"]
        self.grace: float = job["grace_seconds"]
        self.reports = reports
        self.script: int | None = None
        self.cancelled = False

    def run(self) -> None:
        """Claim the attempt, run it and record how it ended; do nothing where another has claimed it."""
        # Awaited, never handled: a handler does not run while a call blocks that was begun just after the signal came.
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        os.setsid()
        # What is written here is this user's alone; what the script writes is as it would be without us.
        umask = os.umask(0o077)
        _become_subreaper()
        self._make_folder()
        if not self._claim():
            return
        # A cancel that came before there was anybody to tell left only its file.
        self.cancelled = os.path.exists(self._path(CANCEL))

        end: dict[str, Any] = {"code": None, "signal": None, "error": None, "finished": None}
        try:
            self._make_working_copy(self.job["snapshot"])
            if not self._is_cancelled():
                self._start(umask)
        except OSError as error:
            end["error"] = f"{error.strerror}: {os.path.basename(error.filename or '')}"
        except ValueError as error:  # text that this system cannot hand to a process
            end["error"] = str(error)
        if self.script is not None:
            end.update(self._wait())
        end["finished"] = end["finished"] or microseconds()
        self._remove_unchanged(self.job["snapshot"])
        self._record(EXIT, json.dumps(end))

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

    def _record(self, name: str, content: str) -> None:
        with open(self._path(name + ".tmp"), "w", encoding="utf-8") as file:
            file.write(content + "\n")
        os.rename(self._path(name + ".tmp"), self._path(name))

    # The script

    def _start(self, umask: int) -> None:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self._path(OUTPUT), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = self.job["command"]
        os.chdir(self._path(WORK))
        before = os.umask(umask)
        try:
            self.script = os.posix_spawn(
                command[0],
                command,
                self.job["environment"],
                file_actions=actions,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python itself ignores
            )
        finally:
            os.umask(before)
        started = microseconds()
        with suppress(OSError):  # it runs, even where the disk is full
            os.symlink(f"{self.script} {started}", self._path(STARTED))
        report(self.reports, "started", self.folder, str(started))

    def _wait(self) -> dict[str, Any]:
        """Wait for the script and then for everything that it left behind; return how the script ended."""
        end: dict[str, Any] = {}
        while True:
            number = signal.sigwait(_AWAITED)
            if number == signal.SIGTERM:
                self._end_descendants()
            elif number == signal.SIGALRM:
                self._signal_descendants(signal.SIGKILL)
            else:
                ended, left = _reap()
                if self.script in ended:
                    code = os.waitstatus_to_exitcode(ended[self.script])
                    end = {"code": code} if code >= 0 else {"signal": -code}
                    end["finished"] = microseconds()
                # A subreaper inherits every orphan of its descendants: no child means no process of the experiment.
                if not left:
                    break
                if end:
                    self._end_descendants()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return end

    # Ending

    def _is_cancelled(self) -> bool:
        return self.cancelled or signal.SIGTERM in signal.sigpending()

    def _end_descendants(self) -> None:
        # Asked twice, the grace period does not begin again.
        if signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0):
            self._signal_descendants(signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, max(self.grace, _KILL_INTERVAL), _KILL_INTERVAL)

    def _signal_descendants(self, number: int) -> None:
        for pid in _descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                # A stopped process would meet a SIGTERM only when somebody lets it go on.
                os.kill(pid, signal.SIGCONT)

    # The working copy

    def _make_working_copy(self, snapshot: str) -> None:
        """Copy the snapshot, sharing blocks where the file system can."""
        work = self._path(WORK)
        os.mkdir(work, 0o700)
        clone = sys.platform == "linux"
        pending = [""]
        while pending and not self._is_cancelled():
            relative = pending.pop()
            with os.scandir(f"{snapshot}/{relative}") as entries:
                for entry in entries:
                    path = f"{relative}/{entry.name}" if relative else entry.name
                    target = f"{work}/{path}"
                    if entry.is_symlink():
                        os.symlink(os.readlink(entry.path), target)
                    elif entry.is_dir():
                        os.mkdir(target, 0o700)
                        pending.append(path)
                    else:
                        clone = _copy(entry.path, target, clone=clone)

    def _remove_unchanged(self, snapshot: str) -> None:
        """Remove from the working copy what still equals the snapshot; nothing that a link of the script leads to."""
        folders, pending = [], [""]
        while pending:
            relative = pending.pop()
            work = f"{self._path(WORK)}{relative}"
            with suppress(OSError):  # whatever the script did to it, it is not as it was
                if not stat.S_ISDIR(os.lstat(work).st_mode):
                    continue
                folders.append(work)
                with os.scandir(f"{snapshot}{relative}") as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(f"{relative}/{entry.name}")
                        elif _is_unchanged(entry, f"{work}/{entry.name}"):
                            os.unlink(f"{work}/{entry.name}")
        for folder in reversed(folders[1:]):
            with suppress(OSError):  # something is left in it
                os.rmdir(folder)


def _reap() -> tuple[dict[int, int], bool]:
    """Return the statuses of the children that have ended, by pid, and whether there are others."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended[pid] = status


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _become_subreaper() -> None:
    if sys.platform == "linux":
        if _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _copy(source: str, target: str, *, clone: bool) -> bool:
    """Copy a file with its times and mode; return whether cloning is worth a try for the next one."""
    with open(source, "rb") as reader, open(target, "xb") as writer:
        status = os.fstat(reader.fileno())
        if clone:
            try:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            except OSError:
                clone = False
        if not clone:
            while chunk := reader.read(1 << 20):
                writer.write(chunk)
        os.fchmod(writer.fileno(), 0o700 if status.st_mode & 0o100 else 0o600)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    return clone


def _is_unchanged(source: os.DirEntry[str], target: str) -> bool:
    with suppress(OSError):
        if source.is_symlink():
            return os.readlink(target) == os.readlink(source.path)
        # Not shallow: a script may give a file that it has written the time that it had.
        return stat.S_ISREG(os.lstat(target).st_mode) and filecmp.cmp(source.path, target, shallow=False)
    return False


def leftovers(supervisor: int, experiment_id: str) -> list[int]:
    """Return what is left of an experiment whose supervisor has died: with it went the knowledge of what was below it.

    Parameters
    ----------
    supervisor
        The pid that it had, in this boot of the machine.
    experiment_id
        What the environment of its processes says.

    Returns
    -------
    list of int
        Processes of its session, processes that carry the id, and everything below both. Empty where the system has no
        ``/proc``.
    """
    mark = f"GRID_EXPERIMENT_ID={experiment_id}".encode()
    # A session without its leader is still the old one: its number is not given away while it has members.
    session = str(supervisor).encode() if process_start(supervisor) is None else None
    found: list[int] = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if not name.isdigit():
            continue
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as status:
            fields = status.read().rpartition(b")")[2].split()
            if fields[0] in b"ZX":
                continue
            with open(f"/proc/{name}/environ", "rb") as environment:
                if fields[3] == session or mark in environment.read().split(b"\0"):
                    found += [int(name), *_descendants(int(name))]
    # Not ourselves, where a script has started the service that looks after it.
    return [pid for pid in found if pid not in (os.getpid(), os.getppid())]


def _descendants(root: int) -> list[int]:
    """Return the pids of every process below ``root``, nearest first."""
    children: dict[int, list[int]] = {}
    if os.path.isdir("/proc/self"):
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(name))
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        for line in listing.stdout.splitlines():
            pid, parent = map(int, line.split())
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


if __name__ == "__main__":
    spawn(sys.stdin.fileno(), sys.stdout.fileno())
