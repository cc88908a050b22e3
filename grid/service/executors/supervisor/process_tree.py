"""Families of processes: the descendants of one, and what is left of an experiment whose supervisor has died."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

from grid.service.system.attempt_files import OUTPUT
from grid.shared.processes import ps, status_fields

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_MAX_LISTS = 100  # of processes: how often new ones are looked for that others left behind when they ended


def become_subreaper() -> None:
    """Inherit every orphan below this process from now on; do nothing if the system has no subreapers."""
    if sys.platform == "linux" and libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@functools.cache
def libc() -> ctypes.CDLL:
    """Return the C library of this process, for calls that Python does not offer."""
    return ctypes.CDLL(None, use_errno=True)


def reap() -> tuple[dict[int, int], bool]:
    """Return the exit statuses of the children that have ended, by pid, and whether there are other children."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended[pid] = status


def children(pid: int) -> list[int]:
    """Return the pids of a process's children quickly, before they change; none if the system does not list them.

    One may be missed while others end: only for callers that ask again.
    """
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def descendants(root: int) -> list[int]:
    """Return the pids of every process below ``root``, nearest first."""
    below: dict[int, list[int]] = {}
    if sys.platform == "linux":
        for pid in _pids():
            with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat", errors="replace") as file:
                below.setdefault(int(status_fields(file.read())[1]), []).append(pid)
    else:
        for line in ps("-A", "-o", "pid=,ppid=").splitlines():
            pid, parent = map(int, line.split())
            below.setdefault(parent, []).append(pid)
    found: list[int] = []
    pending = [root]
    while pending:
        nearest = below.get(pending.pop(), [])
        found += nearest
        pending += nearest
    return found


def leftovers(supervisor: int | None, experiment_id: str, folder: str) -> Iterator[int]:
    """Yield the processes that provably belong to an experiment whose supervisor has died, and with it what it knew.

    A process belongs to it if it has the experiment's id in its environment, if it writes to the attempt's output, or
    if it is in the supervisor's session and its working directory is in the attempt's folder. The session alone proves
    nothing: its number is used again when all its processes are gone. Nor does the folder: users may look around there.

    Parameters
    ----------
    supervisor
        The pid that it had since the machine was booted; None if that is not known.
    experiment_id
        The id that its processes have in their environment.
    folder
        The attempt's folder.

    Yields
    ------
    int
        The pid of each of those processes as soon as it is found, after those of its descendants. Nothing if the system
        has no ``/proc``.
    """
    if sys.platform != "linux":
        return
    mark = f"GRID_EXPERIMENT_ID={experiment_id}".encode()
    inside = os.path.realpath(folder)
    output = _identity(f"{folder}/{OUTPUT}")
    seen: set[int] = set()
    for _ in range(_MAX_LISTS):
        has_missed = False
        for pid in _pids():
            if pid in seen:
                continue
            seen.add(pid)
            try:
                belongs = _belongs(pid, supervisor, mark, inside, output)
            except (FileNotFoundError, ProcessLookupError):
                has_missed = True
                continue
            except OSError:  # it is another user's
                continue
            if belongs:
                yield from _below(pid)
                yield pid
        # A process that had ended when it was looked at may have forked after the list was made.
        if not has_missed:
            return


def _belongs(pid: int, supervisor: int | None, mark: bytes, inside: str, output: tuple[int, int] | None) -> bool:
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        fields = status_fields(file.read())
    if fields[0] in "ZX":
        raise ProcessLookupError
    with open(f"/proc/{pid}/environ", "rb") as environment:
        if mark in environment.read().split(b"\0"):
            return True
    if output is not None and output in (_identity(f"/proc/{pid}/fd/1"), _identity(f"/proc/{pid}/fd/2")):
        return True
    in_session = fields[3] == str(supervisor)
    return in_session and f"{os.readlink(f'/proc/{pid}/cwd')}/".startswith(f"{inside}/")


def _below(pid: int) -> list[int]:
    found, pending = [], [pid]
    while pending:
        nearest = children(pending.pop())
        found += nearest
        pending += nearest
    return found


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
