"""Walks over trees that scripts have made: however deep, whatever they are named, and never through a link or a mount.

A place in a tree is an open folder: a walk goes down by the name of a folder in it and up by ``..``, so that no path
is ever too long, nothing calls itself, and a tree takes one descriptor. `removal` is what removes trees. Supervisors
import both: they need hardly anything of the standard library.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened."""
_MOUNT = re.compile(rb"^mnt_id:.*", re.MULTILINE)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LIST = stat.S_IRUSR | stat.S_IXUSR

_Entered = Callable[[], list[str]]
_Named = Callable[[str], None]


class Place:
    """A place in a tree.

    Parameters
    ----------
    root
        The path of the tree.
    is_strange
        Whether somebody else has made the tree: what is mounted in it then does not belong to it.
    is_insisting
        Whether to read what its owner has no right to read. Modes are changed for as long as that takes.
    """

    def __init__(self, root: str, *, is_strange: bool = False, is_insisting: bool = False) -> None:
        self._is_insisting = is_insisting
        self._modes: list[int | None] = []
        self._above: list[tuple[int, int]] = []
        self.folder = self._opened(root, None)
        """The descriptor of the folder that this place is."""
        self._mount = mount_of(self.folder) if is_strange else None

    def close(self) -> None:
        """Leave the tree as it was."""
        with suppress(OSError):  # it is no longer what it was
            while any(mode is not None for mode in self._modes[1:]):
                self.up()
        self._restore()
        os.close(self.folder)

    def entries(self) -> list[os.DirEntry[str]]:
        """Return what is in the folder."""
        try:
            with os.scandir(self.folder) as entries:
                return list(entries)
        except OSError as error:  # which names the descriptor
            raise OSError(error.errno, error.strerror) from error

    def down(self, name: str) -> None:
        """Go to a folder in this one.

        Raises
        ------
        OSError
            If it is not a folder or cannot be opened; with EXDEV if something is mounted there. The place is then as
            before.
        """
        here = _identity(os.fstat(self.folder))
        folder = self._opened(name, self.folder)
        try:
            if self._mount is not None and mount_of(folder) != self._mount:
                raise OSError(errno.EXDEV, "something is mounted there", name)
            if _identity(os.stat("..", dir_fd=folder)) != here:  # or there is no right to look, and no way back
                raise OSError(errno.ESTALE, "it was moved meanwhile", name)
        except OSError:
            self._restore(folder)
            os.close(folder)
            raise
        self._above.append(here)
        os.close(self.folder)
        self.folder = folder

    def up(self) -> None:
        """Go back to the folder around this one.

        Raises
        ------
        OSError
            With ESTALE if that is another one by now: somebody has moved this one elsewhere.
        """
        folder = os.open("..", FOLDER, dir_fd=self.folder)
        if _identity(os.fstat(folder)) != self._above[-1]:
            os.close(folder)
            raise OSError(errno.ESTALE, "a folder was moved meanwhile")
        self._above.pop()
        self._restore()
        os.close(self.folder)
        self.folder = folder

    def open_file(self, name: str) -> int:
        """Open a file of the folder for reading; follow no link, and wait for no other end of a pipe."""
        try:
            return os.open(name, _FILE, dir_fd=self.folder)
        except PermissionError:
            if not self._is_insisting:
                raise
            mode = permit(name, stat.S_IRUSR, dir_fd=self.folder)
        try:
            file = os.open(name, _FILE, dir_fd=self.folder)
        finally:
            permit(name, mode, dir_fd=self.folder, is_exact=True)
        return file

    def is_mounted(self, descriptor: int) -> bool:
        """Return whether what was opened in this folder does not belong to the tree: it is mounted there."""
        return self._mount is not None and mount_of(descriptor) != self._mount

    def _opened(self, path: str, dir_fd: int | None) -> int:
        mode = None
        try:
            folder = os.open(path, FOLDER, dir_fd=dir_fd)
        except PermissionError:
            if not self._is_insisting:
                raise
            mode = permit(path, _LIST, dir_fd=dir_fd)
            try:
                folder = os.open(path, FOLDER, dir_fd=dir_fd)
            except OSError:
                permit(path, mode, dir_fd=dir_fd, is_exact=True)
                raise
        if self._is_insisting and mode is None:
            found = stat.S_IMODE(os.fstat(folder).st_mode)
            if found & _LIST != _LIST:  # it can be opened, and nothing in it
                with suppress(PermissionError):  # somebody else's, which need not mean that it cannot be read
                    os.fchmod(folder, found | _LIST)
                    mode = found
        self._modes.append(mode)
        return folder

    def _restore(self, folder: int | None = None) -> None:
        mode = self._modes.pop()
        if mode is not None:
            os.fchmod(self.folder if folder is None else folder, mode)


def walk(places: list[Place], enter: _Entered, leave: _Named, *, refused: Callable[[str, OSError], None]) -> None:
    """Go through trees side by side, each folder before what is in it.

    Parameters
    ----------
    places
        The root of each tree. They move together.
    enter
        Called in each folder: does what there is to do, and returns the names of the folders to go on with.
    leave
        Called with a folder's name when everything in it is done, in the folder around it.
    refused
        Called with a folder's name and the error, in the folder around it, if it cannot be entered in one of the trees.
    """
    names: list[str] = []
    waiting = [enter()]
    while True:
        if waiting[-1]:
            name = waiting[-1].pop()
            if _go_down(places, name, refused):
                names.append(name)
                waiting.append(enter())
            continue
        waiting.pop()
        if not waiting:
            return
        for place in places:
            place.up()
        leave(names.pop())


def permit(path: str, mode: int, *, dir_fd: int | None = None, is_exact: bool = False) -> int:
    """Give the owner of a file or a folder rights to it; never to what a link leads to. Return its mode before.

    Parameters
    ----------
    path
        Its name.
    mode
        The rights that are added, or, if `is_exact`, all that it gets.
    dir_fd
        The descriptor of the folder that it is in; None if `path` says that.
    """
    if sys.platform != "linux":
        before = stat.S_IMODE(os.lstat(path, dir_fd=dir_fd).st_mode)
        os.chmod(path, mode if is_exact else before | mode, dir_fd=dir_fd, follow_symlinks=False)
        return before
    # This needs no right to what it opens. Nor can fchmod use it, though it has a path of its own.
    found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        status = os.fstat(found)
        before = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        os.chmod(f"/proc/self/fd/{found}", mode if is_exact else before | mode)
    except FileNotFoundError:
        # Where /proc is missing this cannot be done; what it is about is there.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None
    finally:
        os.close(found)
    return before


def mount_of(folder: int) -> object:
    """Return what tells a folder's disk from what is mounted below it, be that another part of the same disk."""
    try:
        told = os.open(f"/proc/self/fdinfo/{folder}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # It stands in one of the first lines; `open` takes twice as long, and this is done for each file.
            found = _MOUNT.search(os.read(told, 512))
        finally:
            os.close(told)
        if found is not None:
            return found[0]
    except FileNotFoundError:  # there is no such file on macOS
        pass
    return os.fstat(folder).st_dev


def _go_down(places: list[Place], name: str, refused: Callable[[str, OSError], None]) -> bool:
    gone: list[Place] = []
    for place in places:
        try:
            place.down(name)
        except OSError as error:
            for each in gone:
                each.up()
            refused(name, error)
            return False
        gone.append(place)
    return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
