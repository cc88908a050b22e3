"""Control groups, which a script cannot leave by forking, by a new session or by emptying its environment.

Only version 2 is used, in which a group can be killed as a whole, and only if this user may make groups below the one
that the service is in. Everywhere else the supervisor finds its processes without them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from contextlib import closing, suppress

from grid.service.system import control_groups
from grid.service.system.walking import Place, walk

OFF = "GRID_NO_CGROUPS"
"""The environment variable of the service that turns control groups off."""

LEAF = "service-of-grid"
"""The group of the service itself, beside those of its attempts, where their memory is limited."""


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
        """Move this process back to where the service is, so that it is not killed with the others."""
        above = os.path.dirname(self.path)
        return any(_write(f"{group}/cgroup.procs", b"0") for group in (f"{above}/{LEAF}", above))

    def limit_memory(self, size: int) -> bool:
        """Let the group have no more than that many bytes of memory; return whether that was allowed.

        Swap is none of it: the queue counts memory, and a script that has begun to swap is of no use to anybody. If the
        limit is reached all its processes end at once, for a script whose helpers are gone mostly waits for them.
        """
        for name, value in (("memory.swap.max", b"0"), ("memory.oom.group", b"1")):
            _write(f"{self.path}/{name}", value)  # a kernel without swap, or one before 4.19, has none
        return _write(f"{self.path}/memory.max", b"%d" % size)

    def wanted_more(self) -> bool:
        """Return whether it has reached the limit of its memory."""
        return bool(_count(f"{self.path}/memory.events", "oom"))

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


def own(root: str = "") -> str | None:
    """Return the folder of the group in which attempts have theirs, or None if there are no groups that can be used.

    It is the one that this process is in, or the one above it if that is the service's leaf.

    Parameters
    ----------
    root
        A folder in which to find ``/proc`` and the groups, instead of the machine's own root.
    """
    if os.environ.get(OFF, "0") not in ("", "0"):
        return None
    folder = control_groups.own(control_groups.VERSION_2, root)
    return None if folder is None else folder.removesuffix(f"/{LEAF}")


def are_usable() -> bool:
    """Return whether a group can be made, entered, left and removed: tried once, so no experiment tries in vain."""
    parent = own()
    if parent is None:
        return False
    _sweep(parent)
    trial = Cgroup(f"{parent}/trial-of-grid-{os.getpid()}")
    usable = trial.make() and trial.enter() and trial.leave()
    return trial.remove() and usable


def can_limit_memory(root: str = "") -> bool:
    """Return whether the memory of attempts can be limited; for that, move this process into a leaf if it must.

    No group but the system's root may have both processes and limits for the groups below it. So where the service is
    alone in a group that was delegated to it, it makes way. It does not where somebody else's processes are, and not in
    a unit of systemd's: that could not start it again in a group that has become one for other groups only. There, it
    must have been started in the leaf (``DelegateSubgroup=``).

    Parameters
    ----------
    root
        See `own`.
    """
    parent = own(root)
    if parent is None or not _lists(f"{parent}/cgroup.controllers", "memory"):
        return False
    if not _lists(f"{parent}/cgroup.subtree_control", "memory") and not _delegate_memory(parent):
        return False
    trial = Cgroup(f"{parent}/trial-of-grid-{os.getpid()}")
    can = trial.make() and trial.limit_memory(1 << 30)
    return trial.remove() and can


def _delegate_memory(parent: str) -> bool:
    """Have the groups below one limited in their memory; return whether that was allowed."""
    control, leaf = f"{parent}/cgroup.subtree_control", Cgroup(f"{parent}/{LEAF}")
    if os.path.isdir(leaf.path) and os.getpid() in leaf.members():
        return _write(control, b"+memory")
    is_topmost = not os.path.exists(f"{parent}/cgroup.type")
    if is_topmost or parent.endswith(".service") or _has_others(parent):
        return False
    leaf.make()  # an earlier service may have
    if not leaf.enter():
        return False
    if _write(control, b"+memory"):
        return True
    _write(f"{parent}/cgroup.procs", b"0")
    leaf.remove()
    return False


def _has_others(parent: str) -> bool:
    """Return whether a process other than this one is in a group itself."""
    try:
        with open(f"{parent}/cgroup.procs", encoding="ascii") as file:
            return file.read().split() != [str(os.getpid())]
    except OSError:
        return True


def _sweep(parent: str) -> None:
    """Remove the groups that killed supervisors have left behind and nobody has removed.

    Only an empty group can be removed. One that a supervisor is about to enter may be among them: it makes it again.
    """
    with suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith("grid-") and name.count("-") > 1 and name.rpartition("-")[2].isdecimal():
                with suppress(OSError):
                    os.rmdir(f"{parent}/{name}")


def _lists(path: str, word: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return word in file.read().split()
    except OSError:
        return False


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
