"""Whether a ``GRID_HOME`` may be used by a service of this machine, and the names in it that client and service know.

Used by both, so that they judge alike. A file lock alone is not enough: on many network file systems it says nothing
about other machines.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from grid.shared import locks
from grid.shared.file_systems import network_file_system
from grid.shared.holder import Holder

LOCK = "service.lock"
"""Held by a service for as long as it lives. It holds the home's own lock as well, which nobody can remove."""
OWNER = "owner"
"""Which process has the lock."""
RECORD = "service.json"
"""Where the service listens."""
KEY = "api-key"
"""The key of the home's own user."""
KEEPER = "keeper"
"""Which process starts the embedded service again; once it is removed, none does."""
SERVED = "served"
"""Exists once the service that was started last has served."""
LOG = "service.log"
"""The log of the embedded service."""
MAX_LOG_BYTES = 5 * 1024**2
"""A log that is longer is kept under another name, in place of the one before, and a new one is begun."""
START_LOCK = "start.lock"
"""Held while a process starts the embedded service, or makes sure that there is none."""

_ELSEWHERE = "choose another folder, one that you can write to: GRID_HOME=/folder/on/this/machine"
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_OF_FILES = _NO_SPACE | {
    errno.EACCES,
    errno.EEXIST,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOLCK,
    errno.ENOTDIR,
    errno.ENOTSUP,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}


class HomeRefused(RuntimeError):
    """A home cannot be used here; the message says why, and what to do."""


class NoSpace(HomeRefused):
    """Its disk is full; a later try may succeed."""


def service_folder(home: Path) -> Path:
    """Return the folder of a home that holds the files named above, whether it exists or not."""
    return home / "service"


def prepare(home: Path) -> Path:
    """Make a home and its folder ``service``, readable only by their user; return the latter.

    Parameters
    ----------
    home
        The folder of everything that is kept on this machine.

    Raises
    ------
    HomeRefused
        If it is not a folder, does not belong to this user, or cannot be written to; if its path is not UTF-8; if it is
        on a network file system; or if a service of another machine uses it.
    """
    refuse_not_utf8(home)
    system = network_file_system(home)
    if system is not None:
        message = (
            f"GRID_HOME {home} is on a network file system ({system}), where a database and the locks that a service "
            f"needs are not safe; {_ELSEWHERE}"
        )
        raise HomeRefused(message)
    service = service_folder(home)
    try:
        if home.exists() and not home.is_dir():
            message = f"GRID_HOME {home} is a file, not a folder; {_ELSEWHERE}"
            raise HomeRefused(message)
        service.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = home.stat().st_uid
        if owner != os.geteuid():
            raise _of_somebody_else(home, owner)
        home.chmod(0o700)
    except OSError as error:
        raise explained(error, home) from error
    refuse_elsewhere(home)
    return service


def refuse_not_utf8(home: Path) -> None:
    """Refuse a home whose path is not UTF-8: it could be written neither into JSON nor into a message.

    Raises
    ------
    HomeRefused
        If it is not.
    """
    path = os.fsencode(home)
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        message = f"the path of GRID_HOME is not UTF-8: {path!r}; {_ELSEWHERE}"
        raise HomeRefused(message) from None


def is_taken(home: Path) -> bool:
    """Return whether a service has a home. One whose lock file was removed has it until it notices, and ends.

    A command that makes the database holds the lock of the file alone, and has no home.

    Raises
    ------
    OSError
        If that cannot be read.
    """
    if locks.is_held(home):
        return True
    owner = Holder.read(service_folder(home) / OWNER)
    return owner is not None and owner.is_alive() and locks.is_held(service_folder(home) / LOCK)


def read_record(home: Path) -> dict[str, Any] | None:
    """Return what the service that has this home says about itself; None if none has it, or it has not said so yet.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    folder = service_folder(home)
    if not (locks.is_held(folder / LOCK) and is_taken(home)):
        return None
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        process = (record["pid"], record["start"], record["boot"])
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None  # damaged is as good as none: the service writes it again
    # A service that has just taken the lock may not have removed the record of a killed one yet. Whether that process
    # lives is not asked: from another container that shares the home it cannot be seen.
    owner = Holder.read(folder / OWNER)
    return record if owner is not None and process == (owner.pid, owner.start, owner.boot) else None


def refuse_elsewhere(home: Path, holder: Holder | None = None) -> None:
    """Refuse a home that a service of another machine uses, as far as that can be known.

    Parameters
    ----------
    home
        The home.
    holder
        Who has it, if that has been read already.

    Raises
    ------
    HomeRefused
        If one does.
    """
    path = service_folder(home) / OWNER
    holder = holder or Holder.read(path)
    if holder is not None and holder.is_elsewhere():
        message = (
            f"GRID_HOME {home} is in use by a service of another machine: host {holder.host}, process {holder.pid}. "
            f"Stop it there (python -m grid.service stop). If that machine is gone for good, remove {path}. "
            f"Or {_ELSEWHERE}"
        )
        raise HomeRefused(message)


def explained(error: OSError, home: Path) -> HomeRefused:
    """Turn an error of the operating system into one that tells the user what it means for a home.

    Parameters
    ----------
    error
        What was raised. It is raised again if it is not about a file.
    home
        The home.

    Returns
    -------
    HomeRefused
        The error to raise.
    """
    if error.errno not in _OF_FILES:
        raise error
    path = error.filename or home
    owner = _owner(home) if isinstance(error, PermissionError) else None
    if owner is not None and owner != os.geteuid():
        return _of_somebody_else(home, owner)
    if error.errno in _NO_SPACE:
        return NoSpace(f"cannot write {path}: there is no space left on its disk; make room there, or {_ELSEWHERE}")
    return HomeRefused(f"cannot use {path}: {error.strerror}; {_ELSEWHERE}")


def _of_somebody_else(home: Path, owner: int) -> HomeRefused:
    message = f"GRID_HOME {home} belongs to the user {_user(owner)}, but you are {_user(os.geteuid())}; {_ELSEWHERE}"
    return HomeRefused(message)


def _owner(home: Path) -> int | None:
    try:
        return home.stat().st_uid
    except OSError:  # it does not exist, or we have no access
        return None


def is_no_space(error: OSError) -> bool:
    """Return whether an error says that a disk has no room for what was to be written."""
    return error.errno in _NO_SPACE


def _user(number: int) -> str:
    import pwd  # noqa: PLC0415 - not everywhere

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
