"""The processes between the service and a script: one spawner, and one supervisor for each experiment.

Run as a script by the service's interpreter, with nothing but the standard library: the spawner reads attempt folders from
stdin, one a line, and forks a supervisor for each; what happens is told on stdout. ``docs/lifecycle.md`` says what each
file in an attempt's folder means. Nothing here knows of databases, users or GraphQL.
"""

from __future__ import annotations

import ctypes
import fcntl
import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

JOB = "job.json"
CLAIM = "claim"
CANCEL = "cancel"
STARTED = "started"
EXIT = "exit"
OUTPUT = "output"
WORK = "work"

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
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
    """Fork a supervisor for each attempt folder read from ``commands``, until its end.

    Parameters
    ----------
    commands, reports
        File descriptors of pipes from and to the service.
    """
    # A supervisor must not meet a signal before it has a handler for it: it is born with SIGTERM blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    children: dict[int, str] = {}

    def reap(*_: object) -> None:
        while children:
            pid, _status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            report(reports, "gone", children.pop(pid))

    signal.signal(signal.SIGCHLD, reap)
    with os.fdopen(commands, encoding="utf-8") as lines:
        for line in lines:
            folder = line.rstrip("\n")
            # Between fork and the note of its pid a child may already have ended: it is reaped after the note.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
                os.close(commands)
                code = 1
                try:
                    Supervisor(folder, reports).run()
                    code = 0
                finally:
                    # Not sys.exit: what the spawner had begun is not ours to finish.
                    os._exit(code)
            children[pid] = folder
            report(reports, "forked", folder, str(pid))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def report(reports: int, *words: str) -> None:
    """Tell the service; one that has died hears nothing, and finds it in the folder."""
    with suppress(BrokenPipeError):
        os.write(reports, ("\t".join(words) + "\n").encode())


# --- The supervisor


class Supervisor:
    """Runs one attempt and outlives every process of it."""

    def __init__(self, folder: str, reports: int) -> None:
        self.folder = folder
        self.reports = reports
        self.script: subprocess.Popen[bytes] | None = None
        self.cancelled = False
        self.grace = 0.0

    def run(self) -> None:
        """Claim the attempt, run it and record how it ended; do nothing where another has claimed it."""
        os.setsid()
        _become_subreaper()
        if not self._claim():
            return
        signal.signal(signal.SIGTERM, self._on_cancel)
        signal.signal(signal.SIGALRM, self._on_grace_over)
        with open(self._path(JOB), encoding="utf-8") as file:
            job: dict[str, Any] = json.load(file)
        self.grace = job["grace_seconds"]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        # A cancel that came before the handler left only its file.
        self.cancelled = self.cancelled or os.path.exists(self._path(CANCEL))

        end: dict[str, Any] = {"code": None, "signal": None, "error": None, "finished": None}
        try:
            copied = self._make_working_copy(job["snapshot"])
            if not self.cancelled:
                self._start(job)
        except OSError as error:
            end["error"] = f"{error.strerror}: {os.path.basename(error.filename or '')}"
            copied = []
        if self.script is not None:
            end.update(self._wait())
        end["finished"] = end["finished"] or microseconds()
        self._remove_unchanged(job["snapshot"], copied)
        self._record(EXIT, json.dumps(end))

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _claim(self) -> bool:
        # Written first and linked after: who finds a claim finds all of it.
        written = self._path(f"{CLAIM}.{os.getpid()}")
        with open(written, "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {process_start(os.getpid())} {boot_id()}\n")
        try:
            os.link(written, self._path(CLAIM))
        except FileExistsError:
            return False
        finally:
            os.unlink(written)
        return True

    def _record(self, name: str, content: str) -> None:
        with open(self._path(name + ".tmp"), "w", encoding="utf-8") as file:
            file.write(content + "\n")
        os.rename(self._path(name + ".tmp"), self._path(name))

    # The script

    def _start(self, job: dict[str, Any]) -> None:
        with open(self._path(OUTPUT), "ab", buffering=0) as output:
            self.script = subprocess.Popen(
                job["command"],
                cwd=self._path(WORK),
                env=job["environment"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        started = microseconds()
        self._record(STARTED, f"{self.script.pid} {started}")
        report(self.reports, "started", self.folder, str(started))
        if self.cancelled:
            self._on_cancel()

    def _wait(self) -> dict[str, Any]:
        """Wait for the script and then for everything that it left behind; return how the script ended."""
        assert self.script is not None
        end: dict[str, Any] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                # A subreaper inherits every orphan of its descendants: no child means no process of the experiment.
                break
            if pid != self.script.pid:
                continue
            code = os.waitstatus_to_exitcode(status)
            end = {"code": code} if code >= 0 else {"signal": -code}
            end["finished"] = microseconds()
            if not self.cancelled and _has_children():
                self._end_descendants()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return end

    # Ending

    def _on_cancel(self, *_: object) -> None:
        self.cancelled = True
        # Asked twice, the grace period does not begin again.
        if self.script is not None and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0):
            self._end_descendants()

    def _end_descendants(self) -> None:
        self._signal_descendants(signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, max(self.grace, _KILL_INTERVAL), _KILL_INTERVAL)

    def _on_grace_over(self, *_: object) -> None:
        self._signal_descendants(signal.SIGKILL)

    def _signal_descendants(self, number: int) -> None:
        for pid in _descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                # A stopped process would meet a SIGTERM only when somebody lets it go on.
                os.kill(pid, signal.SIGCONT)

    # The working copy

    def _make_working_copy(self, snapshot: str) -> list[str]:
        """Copy the snapshot, sharing blocks where the file system can; return the relative paths of its files."""
        copied: list[str] = []
        work = self._path(WORK)
        os.mkdir(work, 0o700)
        clone = sys.platform == "linux"
        pending = [""]
        while pending and not self.cancelled:
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
                        copied.append(path)
        return copied

    def _remove_unchanged(self, snapshot: str, copied: list[str]) -> None:
        work = self._path(WORK)
        for path in copied:
            with suppress(OSError):  # whatever the script did to it, it is not as it was
                target = f"{work}/{path}"
                if not os.path.islink(target) and filecmp.cmp(f"{snapshot}/{path}", target):
                    os.unlink(target)
        for folder, folders, names in os.walk(snapshot, topdown=False):
            relative = os.path.relpath(folder, snapshot)
            for name in (*folders, *names):
                source, target = f"{folder}/{name}", os.path.normpath(f"{work}/{relative}/{name}")
                with suppress(OSError):
                    if os.path.islink(source):
                        if os.readlink(target) == os.readlink(source):
                            os.unlink(target)
                    elif os.path.isdir(source):
                        os.rmdir(target)


def _has_children() -> bool:
    try:
        # WNOWAIT: whoever has ended meanwhile is left for the loop that counts.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _become_subreaper() -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
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
