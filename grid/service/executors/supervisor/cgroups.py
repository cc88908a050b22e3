"""Control groups, which a script cannot leave by forking, by a new session or by emptying its environment.

Only version 2 is used, in which a group can be killed as a whole, and only if this user may make groups below the one
that the service is in. Everywhere else the supervisor finds its processes without them.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Collection
from contextlib import suppress

OFF = "GRID_NO_CGROUPS"
"""The environment variable of the service that turns control groups off."""


class Cgroup:
    """One control group.

    Parameters
    ----------
    path
        Its folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def make(self) -> bool:
        """Make the group; return whether that was allowed."""
        try:
            os.mkdir(self.path)
        except OSError:  # whatever the reason: the supervisor does without
            return False
        return True

    def enter(self) -> bool:
        """Move this process into the group, so that what it starts begins there; return whether that was allowed."""
        return _write(f"{self.path}/cgroup.procs", b"0")

    def leave(self) -> bool:
        """Move this process into the group above, so that it is not killed with the others."""
        return _write(f"{os.path.dirname(self.path)}/cgroup.procs", b"0")

    def members(self) -> list[int]:
        """Return the pids in the group and in the groups that the script has made below it."""
        found: list[int] = []
        for folder, _, _ in os.walk(self.path):
            # A threaded group does not list its processes; the group around it does.
            with suppress(OSError), open(f"{folder}/cgroup.procs", "rb") as file:
                found += map(int, file.read().split())
        # Processes of another pid namespace are shown as 0, and a signal to 0 would go to our own process group.
        return [pid for pid in found if pid != 0]

    def kill(self, spared: Collection[int]) -> bool:
        """Kill every process in the group; return whether there was one.

        Parameters
        ----------
        spared
            The pids of processes that are left alone.
        """
        members = set(self.members())
        found = members.difference(spared)
        # In one step, with whatever is forked meanwhile (since Linux 5.14); but that spares no process.
        if found and not (found == members and _write(f"{self.path}/cgroup.kill", b"1")):
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        return bool(found)

    def remove(self) -> bool:
        """Remove the group and those below it; return whether it is gone: it stays while a process is in it."""
        with suppress(OSError):
            os.rmdir(self.path)
            return True
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        return not os.path.exists(self.path)

    def oom_kills(self) -> int | None:
        """Return how many of its processes the kernel has killed for want of memory; None if that is not counted."""
        return _count(f"{self.path}/memory.events", "oom_kill")


def oom_kills_of_machine() -> int | None:
    """Return how many processes the kernel has killed for want of memory on the whole machine, in any group."""
    return _count("/proc/vmstat", "oom_kill")


def own() -> str | None:
    """Return the folder of the group that this process is in, or None if there are no groups that can be used."""
    place = _mount()
    if place is None or os.environ.get(OFF, "0") not in ("", "0"):
        return None
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            path = next((line[3:-1] for line in file if line.startswith("0::")), None)
    except (OSError, ValueError):
        return None
    mounted, root = place
    root = root.rstrip("/")
    if path is None or ".." in path or not f"{path}/".startswith(f"{root}/"):
        return None
    return (mounted + path[len(root) :]).rstrip("/")


def are_usable() -> bool:
    """Return whether a group can be made, entered, left and removed: tried once, so no experiment tries in vain."""
    parent = own()
    if parent is None:
        return False
    _sweep(parent)
    trial = Cgroup(f"{parent}/trial-of-grid-{os.getpid()}")
    usable = trial.make() and trial.enter() and trial.leave()
    return trial.remove() and usable


def _sweep(parent: str) -> None:
    """Remove the groups that killed supervisors have left behind and nobody has removed.

    Only an empty group can be removed. One that a supervisor is about to enter may be among them: it makes it again.
    """
    with suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith("grid-"):
                with suppress(OSError):
                    os.rmdir(f"{parent}/{name}")


@functools.cache
def _mount() -> tuple[str, str] | None:
    """Return where groups are mounted, and which group is the root there."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            for line in file:
                mounted, _, kind = line.partition(" - ")
                if kind.split(" ", 1)[0] == "cgroup2":
                    _, _, _, root, point, *_ = mounted.split(" ")
                    return None if "\\" in point else (point, root)  # an escaped blank in the path: not worth decoding
    except (OSError, ValueError):
        return None
    return None


def _write(path: str, content: bytes) -> bool:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(file, content) == len(content)
    except OSError:
        return False
    finally:
        os.close(file)


def _count(path: str, name: str) -> int | None:
    try:
        with open(path, "rb") as file:
            for line in file.read().splitlines():
                key, _, value = line.partition(b" ")
                if key == name.encode():
                    return int(value)
    except OSError:
        return None
    return None
