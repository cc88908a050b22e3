"""Locks on files and folders: one process has such a lock at a time, and the kernel takes it back when it ends.

They are those of ``flock``. Each belongs to an open file, so that two threads exclude each other as two processes
do, and a forked child has the locks of its parent. The files stay: if one were removed, two processes could hold its
lock.
Which locks a home has, and what they mean, is in :mod:`grid.shared.homes`.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

__all__ = ["Lock", "StillHeld", "Unsupported", "acquire", "is_held", "require_support"]

_PRIVATE_FILE = 0o600
_POLL_SECONDS = 0.01


class Unsupported(Exception):
    """There are no such locks on this system."""


class StillHeld(Exception):
    """Another process still holds a lock at the end of the wait for it."""


class Lock:
    """A lock that this process holds until it is closed or the `with` block ends."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock. The file stays."""
        os.close(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor of what is locked, which stays the same, whatever its path leads to by now."""
        return self._descriptor

    def is_lost(self) -> bool:
        """Return whether others can take this lock, too: what is locked was removed, or its path leads to another one.

        That the path leads nowhere, or cannot be read, does not count: it may be back in a moment.
        """
        ours = os.fstat(self._descriptor)
        if ours.st_nlink == 0:
            return True
        try:
            there = self._path.stat()
        except OSError:
            return False
        return not os.path.samestat(ours, there)


def acquire(path: Path, *, seconds: float | None = None, unless: Callable[[], bool] | None = None) -> Lock:
    """Take the lock of a file, which is created if it does not exist; wait while another process holds it.

    Parameters
    ----------
    path
        The file, whose folder must exist; or a folder.
    seconds
        How long to wait: 0 to try once, None for as long as it takes.
    unless
        Asked between two tries, if `seconds` is given: waiting is pointless as soon as this returns True.

    Returns
    -------
    Lock
        The lock. Use it in a `with` statement, or close it.

    Raises
    ------
    StillHeld
        If another process still holds the lock when the time is over, or when `unless` returns True.
    Unsupported
        If this system has no such locks.
    """
    fcntl = _fcntl()
    descriptor = _open(path)
    try:
        if seconds is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + seconds
            while not _try(descriptor):
                if (unless is not None and unless()) or time.monotonic() >= deadline:
                    raise StillHeld(f"another process holds the lock {path}")
                time.sleep(_POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor, path)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock of a file or a folder.

    Creates nothing; any number of processes may ask at once.

    Raises
    ------
    Unsupported
        If this system has no such locks.
    """
    fcntl = _fcntl()
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        # Shared, so that two processes that ask do not take each other for a holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def require_support() -> None:
    """Do nothing if this system has such locks.

    Raises
    ------
    Unsupported
        If this system has no such locks: Windows.
    """
    _fcntl()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
    except IsADirectoryError:
        return os.open(path, os.O_RDONLY)


def _try(descriptor: int) -> bool:
    fcntl = _fcntl()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fcntl() -> Any:
    try:
        import fcntl  # noqa: PLC0415 - not everywhere
    except ImportError:
        raise Unsupported(f"there are no locks on files on {sys.platform}") from None
    return fcntl
