"""What an attempt's folder and the machine's processes say of it: who claimed it, whether that lives, how it ended."""

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
    """What is known of an attempt's supervisor. Not being able to tell is no proof of death."""

    UNCLAIMED = "unclaimed"
    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Claim:
    """Which process has claimed an attempt: a pid means one only together with its start and the machine's boot."""

    pid: int
    start: str
    boot: str


def state_of(folder: AttemptFolder) -> State:
    """Say what is known of the supervisor of an attempt."""
    try:
        claim = _claim(folder)
    except FileNotFoundError:
        # Where the folder of all experiments is missing too, it is not this claim that is not there.
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
    """When the script was started, or None where nobody has written it down."""
    try:
        return int(os.readlink(folder.started).split(" ")[1])
    except (OSError, ValueError, IndexError):
        return None


def ending_of(folder: AttemptFolder) -> Ending | None:
    """Return how the attempt ended, or None where nobody has written it down.

    Raises
    ------
    OSError
        Where something is written and cannot be read now.
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
        if error.errno == errno.EINVAL:  # not a link, and so of no supervisor
            return None
        raise


def is_before_boot(at: int | None) -> bool:
    """Whether a time (microseconds since the epoch) is known to be before this machine was started."""
    return at is not None and at < boot_time() * 1e6


def wake(folder: AttemptFolder) -> None:
    """Let the supervisor look for a word in its folder, if it lives."""
    with suppress(OSError):
        claim = _claim(folder)
        if claim is not None and _is_alive(claim):
            failpoints.reached("executor.signal.before")
            os.kill(claim.pid, signal.SIGTERM)
            failpoints.reached("executor.signal.after")


def kill_leftovers(folder: AttemptFolder) -> bool:
    """Kill what a supervisor that has died has left running; return whether there was something.

    Of another boot nothing can be left, whoever has its numbers now.
    """
    claim = _claim(folder)
    if claim is None or claim.boot != boot_id():
        return False
    # Not ourselves, where a script has started the service that looks after it.
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
    """Read the claim; None where something is there that says nothing."""
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
    """Decide by other facts where a disk has lost what the claim said.

    An end, readable or not, is the last thing that a supervisor makes. And a claim from before the machine started is
    of nobody who lives. Otherwise there is no telling.
    """
    if os.path.lexists(folder.exit) or os.lstat(folder.claim).st_ctime < boot_time():
        return State.DEAD
    return State.UNKNOWN


def _readable(text: str) -> str:
    # A file's name may hold bytes that are no UTF-8, and no database takes those.
    return text.encode("utf-8", "backslashreplace").decode()
