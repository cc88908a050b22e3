"""What an attempt's record and the machine's processes tell about it: its supervisor, whether that lives, its end."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import signal
import stat
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from grid.service.executors.protocol import AttemptName, Ending
from grid.service.executors.supervisor.cgroups import Cgroup
from grid.service.executors.supervisor.process_tree import descendants, leftovers
from grid.service.executors.supervisor.signature import LENGTH, signature
from grid.service.system import attempt_files, failpoints
from grid.service.system.machine import boot_time
from grid.service.system.workspace import AttemptFolder
from grid.shared.processes import boot_id, process_start
from grid.shared.wire import Reason

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What the system says where a script has put something else in the place of a record."""

_LARGEST = 2**53
"""More microseconds than there will be for 285 years, and no larger than any database takes."""


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
    except _Missing:
        # If the folder of all records is missing too, that says nothing about this claim.
        around = folder.record.parent if folder.has_room else folder.path.parent.parent
        return State.UNCLAIMED if around.is_dir() else State.UNKNOWN
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
    return _word(folder.started, 1)


def key_of(secret: bytes, attempt: AttemptName) -> bytes:
    """Return the key with which the record of an attempt's end is signed, given the service's secret."""
    return hmac.digest(secret, f"{attempt.experiment_id} {attempt.number}".encode(), hashlib.sha256)


def ending_of(folder: AttemptFolder, key: bytes | None) -> Ending | None:
    """Return how the attempt ended, or None if no end was recorded.

    Parameters
    ----------
    folder
        The attempt's files.
    key
        The key that the record must be signed with; None for records from the time when none was.

    Raises
    ------
    OSError
        If there is a record that cannot be read now.
    """
    try:
        record = os.fsencode(os.readlink(folder.exit))
        if key is not None:
            signed, _, record = record[:LENGTH], record[LENGTH : LENGTH + 1], record[LENGTH + 1 :]
            if not hmac.compare_digest(signed, signature(key, record)):
                return None
        code, number, finished, reason, *error = os.fsdecode(record).split(" ", 4)
        return Ending(
            reason=Reason(reason),
            exit_code=None if code == "-" else _number(code),
            signal=None if number == "-" else _number(number),
            error=_readable(error[0]) if error else None,
            started_at=started_at(folder),
            finished_at=_number(finished),
        )
    except ValueError:
        return None
    except OSError as error:
        if error.errno in _NOT_THERE or error.errno == errno.EINVAL:  # not a link, so no supervisor made it
            return None
        raise


def is_before_boot(at: int | None) -> bool:
    """Return whether a time (microseconds since the epoch) is known to be before this machine was started."""
    return at is not None and at < boot_time() * 1e6


def supervisor_of(folder: AttemptFolder) -> int | None:
    """Return the pid of the attempt's supervisor, or None if there is none that is alive.

    Raises
    ------
    OSError
        If that cannot be told now.
    """
    try:
        claim = _claim(folder)
    except _Missing:
        return None
    # A claim may be forged: what was sent to us, or to what has started us, would end more than an attempt.
    if claim is None or claim.pid in (1, os.getpid(), os.getppid()):
        return None
    return claim.pid if _is_alive(claim) else None


def script_of(folder: AttemptFolder) -> int | None:
    """Return the pid of the attempt's script, as recorded, or None if that was not recorded."""
    return _word(folder.started, 0)


def started_on_clock(folder: AttemptFolder) -> float | None:
    """Return when the script was started by the monotonic clock, in seconds; None if that was not recorded."""
    at = _word(folder.started, 2)
    return None if at is None else at / 1e6


def grace_of(folder: AttemptFolder) -> float | None:
    """Return how long the supervisor lets its script end by itself, in seconds; None if that was not recorded."""
    milliseconds = _word(folder.started, 3)
    return None if milliseconds is None else milliseconds / 1e3


def is_asked_to_end(folder: AttemptFolder) -> Reason | None:
    """Return why the attempt was asked to end, as far as its record says so."""
    for word, reason in ((folder.cancel, Reason.CANCELLED_BY_USER), (folder.stop, Reason.SERVICE_STOPPED)):
        with suppress(OSError):  # it does not exist, or cannot be looked at
            word.lstat()
            return reason
    return None


def has_traces(folder: AttemptFolder, attempt: AttemptName) -> bool:
    """Return whether an attempt was begun although there is no claim: it has a folder, or processes with its mark.

    Only for attempts that have a room: whoever asked an earlier one to end made its folder.
    """
    if not folder.has_room:
        return False
    return (
        os.path.lexists(folder.path) or next(leftovers(None, attempt.experiment_id, str(folder.path)), None) is not None
    )


def wake(folder: AttemptFolder, number: signal.Signals = signal.SIGTERM) -> None:
    """Send the supervisor a signal if it is alive: SIGTERM makes it look into its record for a request to end.

    A script may have stopped it: it is continued.

    Raises
    ------
    OSError
        If it cannot be told whether there is one.
    """
    if (pid := supervisor_of(folder)) is not None:
        failpoints.reached("executor.signal.before")
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
        failpoints.reached("executor.signal.after")


def temporary_files(folder: AttemptFolder, experiment_id: str) -> list[Path]:
    """Return the attempt's temporary folder, and before it the link that leads to it, as far as they are there.

    A record may be forged: only a folder of this user counts, by a name that only this experiment's can have, and a
    link of this user that leads to it.
    """
    try:
        named = Path(os.readlink(folder.tmp))
    except OSError:
        return []
    if not re.fullmatch(rf"grid-{re.escape(experiment_id[:8])}-[0-9a-f]{{8}}", named.name) or not named.is_absolute():
        return []
    found = []
    with suppress(OSError):  # there is none, or none that can be looked at
        link = Path(attempt_files.short_name(str(named)))
        if link.lstat().st_uid == os.getuid() and os.readlink(link) == str(named):
            found.append(link)
    with suppress(OSError):
        status = named.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            found.append(named)
    return found


def kill_leftovers(folder: AttemptFolder, attempt: AttemptName) -> bool:
    """Kill what a dead supervisor has left running; return whether there was anything.

    Nothing can be left from an earlier boot, whichever processes have its pids now.
    """
    try:
        claim = _claim(folder)
    except _Missing:
        claim = None  # a script may have removed it; its processes still bear its mark
    if claim is not None and claim.boot != boot_id():
        return False
    # Not ourselves, in case a script has started the service that looks after it.
    spared = {os.getpid(), os.getppid(), *descendants(os.getpid())}
    found = False
    failpoints.reached("executor.leftovers.before")
    with suppress(FileNotFoundError, NotADirectoryError):
        cgroup = Cgroup(os.readlink(folder.cgroup))
        # A record may be forged: no other group is killed.
        if os.path.basename(cgroup.path) == f"grid-{attempt.experiment_id}-{attempt.number}":
            found = cgroup.kill(spared)
            cgroup.remove()
    for pid in leftovers(None if claim is None else claim.pid, attempt.experiment_id, str(folder.path)):
        if pid not in spared:
            found = True
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return found


class _Missing(Exception):
    """There is no claim."""


def _claim(folder: AttemptFolder) -> Claim | None:
    """Read the claim; None if there is something in its place that cannot be understood.

    Raises
    ------
    _Missing
        If there is none.
    OSError
        If that cannot be told now.
    """
    try:
        pid, start, boot = os.readlink(folder.claim).split(" ")
        return Claim(_number(pid), start, boot)
    except ValueError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a link
            return None
        if error.errno in _NOT_THERE:
            raise _Missing from None
        raise


def _word(link: Path, place: int) -> int | None:
    """Return one of the numbers that a link says, or None if it does not."""
    try:
        return _number(os.readlink(link).split(" ")[place])
    except (OSError, ValueError, IndexError):
        return None


def _number(text: str) -> int:
    """Read a number; only what a supervisor may have written is one, for scripts can write links as well."""
    number = int(text)
    if not 0 <= number <= _LARGEST:
        raise ValueError(text)
    return number


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
