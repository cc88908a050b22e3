"""Removes trees that scripts have made: however deep, whatever they are named, and never through a link or a mount.

Nothing here calls itself, holds more than a few descriptors, or builds a path: folders are opened by name from the
folder around them, and what lies in a folder is first hoisted, by renaming, to the top of the tree. The kernel refuses
to rename what something is mounted on, so that nothing of another disk is removed. Supervisors import this module too:
it needs hardly anything of the standard library.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from grid.service.system.walking import FOLDER, mount_of, permit

PRIVATE_FOLDER = 0o700

_TRIES = 3
"""How often to look into a folder again that something is put into meanwhile."""
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})


def remove(path: str, *, dir_fd: int | None = None) -> None:
    """Remove a file, a link or a tree; do nothing if there is none.

    Parameters
    ----------
    path
        Its name.
    dir_fd
        The descriptor of the folder that it is in; None if `path` says that.

    Raises
    ------
    OSError
        If something of it cannot be removed: the first of these errors. Everything else is gone. With EBUSY, and with
        nothing removed, if something is mounted there.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path, dir_fd=dir_fd).st_mode):
            os.unlink(path, dir_fd=dir_fd)
            return
        folder = open_folder(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        if _is_mounted(folder):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        empty(folder)
    finally:
        os.close(folder)
    with suppress(FileNotFoundError):
        os.rmdir(path, dir_fd=dir_fd)


def empty(folder: int) -> None:
    """Remove everything that is in a folder.

    Parameters
    ----------
    folder
        Its descriptor.

    Raises
    ------
    OSError
        If something cannot be removed: the first of these errors. Everything else is gone.
    """
    failures: list[OSError] = []
    waiting = _clear(folder, folder, failures)
    while waiting:
        name = waiting.pop()
        try:
            inner = open_folder(name, dir_fd=folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(error)
            continue
        try:
            waiting += _leave_nothing(inner, name, folder, failures)
        finally:
            os.close(inner)
    if failures:
        raise failures[0]


def move(path: str, to: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
    """Rename a file or a folder, whatever mode it has.

    Raises
    ------
    OSError
        If it cannot be moved; with EBUSY if something is mounted on it.
    """
    try:
        os.rename(path, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    except PermissionError:
        # A folder that gets another parent must be writable itself: it holds a name for its parent.
        permit(path, PRIVATE_FOLDER, dir_fd=src_dir_fd)
        os.rename(path, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def open_folder(path: str, *, dir_fd: int | None = None) -> int:
    """Open a folder that can then be listed and changed, whatever mode it had; never through a link.

    Parameters
    ----------
    path
        Its name.
    dir_fd
        The descriptor of the folder that it is in; None if `path` says that.
    """
    try:
        folder = os.open(path, FOLDER, dir_fd=dir_fd)
    except PermissionError:
        permit(path, PRIVATE_FOLDER, dir_fd=dir_fd)
        folder = os.open(path, FOLDER, dir_fd=dir_fd)
    with suppress(PermissionError):  # somebody else's: then what is in it cannot be removed, and that is said there
        if os.fstat(folder).st_mode & PRIVATE_FOLDER != PRIVATE_FOLDER:
            os.fchmod(folder, PRIVATE_FOLDER)
    return folder


def _is_mounted(folder: int) -> bool:
    """Return whether a folder is where another disk, or another part of the same one, is mounted."""
    around = os.open("..", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return mount_of(around) != mount_of(folder)
    finally:
        os.close(around)


def _leave_nothing(inner: int, name: str, top: int, failures: list[OSError]) -> list[str]:
    """Remove a folder of the top; return the names that its folders have there now."""
    hoisted: list[str] = []
    for _ in range(_TRIES):
        before = len(failures)
        hoisted += _clear(inner, top, failures)
        try:
            os.rmdir(name, dir_fd=top)
        except FileNotFoundError:
            break
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                failures.append(error)
                break
            if len(failures) > before:  # which says why there is something left in it
                break
            last = error
        else:
            break
    else:
        failures.append(last)
    return hoisted


def _clear(folder: int, top: int, failures: list[OSError]) -> list[str]:
    """Remove what is in a folder, but for folders that are not empty: hoist these, and return their new names."""
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    else:
                        os.unlink(entry.name, dir_fd=folder)
                except FileNotFoundError:
                    pass  # somebody else has removed it
                except OSError as error:
                    failures.append(error)
    except OSError as error:  # it cannot be listed, or not to its end
        failures.append(error)
    hoisted = []
    for name in folders:
        try:
            new = _hoist(name, folder, top)
        except FileNotFoundError:
            pass  # as above
        except OSError as error:
            failures.append(error)
        else:
            hoisted += [] if new is None else [new]
    return hoisted


def _hoist(name: str, folder: int, top: int) -> str | None:
    """Remove an empty folder, or move it to the top; return its name there."""
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
    else:
        return None
    new = os.urandom(16).hex()
    move(name, new, src_dir_fd=folder, dst_dir_fd=top)
    return new
