"""Control groups, which a script cannot leave by forking, by a new session or by emptying its environment.

Only version 2 is used, in which a group can be killed as a whole, and only if this user may make groups below the one
that the service is in. Everywhere else the supervisor finds its processes without them.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import closing, suppress

from grid.service.system.walking import Place, walk

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

        def enter(place: Place) -> None:
            # A threaded group does not list its processes; the group around it does.
            with suppress(OSError), open(place.open_file("cgroup.procs"), "rb") as file:
                found.extend(map(int, file.read().split()))

        self._walk(enter, lambda *_: None)
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

        def leave(place: Place, name: str) -> None:
            with suppress(OSError):  # a process is in it
                os.rmdir(name, dir_fd=place.folder)

        self._walk(lambda _: None, leave)
        with suppress(OSError):
            os.rmdir(self.path)
        return not os.path.exists(self.path)

    def _walk(self, enter: Callable[[Place], None], leave: Callable[[Place, str], None]) -> None:
        """Go through the group and those below it, which a script may have nested deeper than any path reaches."""
        with suppress(OSError), closing(Place(self.path)) as place:  # it, or one of them, is removed at this moment

            def entered() -> list[str]:
                enter(place)
                return [entry.name for entry in place.entries() if entry.is_dir(follow_symlinks=False)]

            walk([place], entered, lambda name: leave(place, name), refused=lambda *_: None)

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
