"""What an attempt's folder and the machine's processes tell about it: its supervisor, whether that lives, its end."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from grid.service.executors.protocol import Ending
from grid.service.executors.supervisor.cgroups import Cgroup
from grid.service.executors.supervisor.process_tree import descendants, leftovers
from grid.service.system import failpoints
from grid.service.system.machine import boot_time
from grid.service.system.workspace import AttemptFolder
from grid.shared.processes import boot_id, process_start
from grid.shared.wire import Reason


class State(Enum):
    """What is known about an attempt's supervisor. Not being able to tell does not prove that it is dead."""

    UNCLAIMED = "unclaimed"
    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Claim:
    """Which process has claimed an attempt: a pid identifies one only with its start time and the machine's boot id."""

    pid: int
    start: str
    boot: str


def state_of(folder: AttemptFolder) -> State:
    """Return what is known about the supervisor of an attempt."""
    try:
        claim = _claim(folder)
    except FileNotFoundError:
        # If the folder of all experiments is missing too, that says nothing about this claim.
        return State.UNCLAIMED if folder.path.parent.parent.is_dir() else State.UNKNOWN
    except OSError:
        return State.UNKNOWN
    try:
        if claim is None:
            return _without_words(folder)
        return State.ALIVE if _is_alive(claim) else State.DEAD
    except OSError:
        return State.UNKNOWN


def started_at(folder: AttemptFolder) -> int | None:
    """Return when the script was started, or None if that was not recorded."""
    try:
        return int(os.readlink(folder.started).split(" ")[1])
    except (OSError, ValueError, IndexError):
        return None


def ending_of(folder: AttemptFolder) -> Ending | None:
    """Return how the attempt ended, or None if no end was recorded.

    Raises
    ------
    OSError
        If there is a record that cannot be read now.
    """
    try:
        code, number, finished, reason, *error = os.readlink(folder.exit).split(" ", 4)
        return Ending(
            reason=Reason(reason),
            exit_code=None if code == "-" else int(code),
            signal=None if number == "-" else int(number),
            error=_readable(error[0]) if error else None,
            started_at=started_at(folder),
            finished_at=int(finished),
        )
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a link, so no supervisor made it
            return None
        raise


def is_before_boot(at: int | None) -> bool:
    """Return whether a time (microseconds since the epoch) is known to be before this machine was started."""
    return at is not None and at < boot_time() * 1e6


def wake(folder: AttemptFolder) -> None:
    """Make the supervisor, if it is alive, look into its folder for a request to end."""
    with suppress(OSError):
        claim = _claim(folder)
        if claim is not None and _is_alive(claim):
            failpoints.reached("executor.signal.before")
            os.kill(claim.pid, signal.SIGTERM)
            failpoints.reached("executor.signal.after")


def kill_leftovers(folder: AttemptFolder) -> bool:
    """Kill what a dead supervisor has left running; return whether there was anything.

    Nothing can be left from an earlier boot, whichever processes have its pids now.
    """
    claim = _claim(folder)
    if claim is None or claim.boot != boot_id():
        return False
    # Not ourselves, in case a script has started the service that looks after it.
    spared = {os.getpid(), os.getppid(), *descendants(os.getpid())}
    found = False
    failpoints.reached("executor.leftovers.before")
    with suppress(FileNotFoundError):
        cgroup = Cgroup(os.readlink(folder.cgroup))
        found = cgroup.kill(spared)
        cgroup.remove()
    for pid in leftovers(claim.pid, folder.path.parent.name, str(folder.path)):
        if pid not in spared:
            found = True
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return found


def _claim(folder: AttemptFolder) -> Claim | None:
    """Read the claim; None if there is something in its place that cannot be understood."""
    try:
        pid, start, boot = os.readlink(folder.claim).split(" ")
        return Claim(int(pid), start, boot)
    except ValueError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a link
            return None
        raise


def _is_alive(claim: Claim) -> bool:
    return claim.boot == boot_id() and process_start(claim.pid) == claim.start


def _without_words(folder: AttemptFolder) -> State:
    """Decide by other facts if a disk has lost the content of the claim.

    The record of the end, readable or not, is the last thing that a supervisor makes. And a claim from before the
    machine started cannot belong to a living process. Otherwise there is no telling.
    """
    if os.path.lexists(folder.exit) or os.lstat(folder.claim).st_ctime < boot_time():
        return State.DEAD
    return State.UNKNOWN


def _readable(text: str) -> str:
    # A file's name may contain bytes that are not UTF-8, and no database accepts those.
    return text.encode("utf-8", "backslashreplace").decode()
