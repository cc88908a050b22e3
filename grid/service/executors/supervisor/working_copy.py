"""An attempt's working copy: made from the snapshot and an earlier attempt's files, reduced at its end to changes.

Links to data are put into it last.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable
from contextlib import closing, suppress

from grid.service.system import removal
from grid.service.system.walking import Place, permit, walk

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
_CHUNK = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Copier:
    """Copies trees, sharing blocks if the file system can.

    Parameters
    ----------
    check
        Called repeatedly during the copying; what it raises ends it.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._clone = sys.platform == "linux"

    def copy(self, snapshot: str, work: str) -> None:
        """Make the working copy from a snapshot."""
        os.mkdir(work, 0o700)
        with closing(Place(snapshot)) as source, closing(Place(work)) as target:

            def enter() -> list[str]:
                self._check()
                folders = []
                for entry in source.entries():
                    if entry.is_symlink():
                        os.symlink(os.readlink(entry.name, dir_fd=source.folder), entry.name, dir_fd=target.folder)
                    elif entry.is_dir():
                        os.mkdir(entry.name, 0o700, dir_fd=target.folder)
                        folders.append(entry.name)
                    else:
                        self._copy_file(source, entry.name, target, private=True)
                return folders

            walk([source, target], enter, lambda _: None, refused=_raise)

    def overlay(self, earlier: str, work: str) -> None:
        """Put what an earlier attempt left into the working copy, replacing what is there; leave the original as it is.

        Only files, links and folders are copied: a socket or a pipe is of no use without its process. What is mounted
        somewhere in the folder is not what the attempt has left: there an empty folder is made.
        """
        with (
            closing(Place(earlier, is_strange=True, is_insisting=True)) as source,
            closing(Place(work)) as target,
        ):
            folders: list[dict[str, os.stat_result]] = []  # of the current folder and those around it

            def enter() -> list[str]:
                self._check()
                folders.append({})
                for entry in source.entries():
                    with suppress(FileNotFoundError):  # something removes it at this moment
                        status = entry.stat(follow_symlinks=False)
                        if self._overlay(source, entry.name, status, target):
                            folders[-1][entry.name] = status
                return list(folders[-1])

            def leave(name: str) -> None:
                folders.pop()
                finish(name)

            def finish(name: str) -> None:
                status = folders[-1][name]  # set only when nothing more is put into it
                os.chmod(name, status.st_mode & 0o777, dir_fd=target.folder)
                os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target.folder)

            def refused(name: str, error: OSError) -> None:
                if error.errno not in (errno.EXDEV, errno.ENOENT):
                    raise error
                finish(name)

            walk([source, target], enter, leave, refused=refused)

    def _overlay(self, source: Place, name: str, status: os.stat_result, target: Place) -> bool:
        """Copy one entry; return whether it is a folder, which then is there without what this copy puts into it."""
        times = (status.st_atime_ns, status.st_mtime_ns)
        if stat.S_ISDIR(status.st_mode):
            if not _is_folder(name, target):
                removal.remove(name, dir_fd=target.folder)
                os.mkdir(name, 0o700, dir_fd=target.folder)
            return True
        if stat.S_ISLNK(status.st_mode):
            text = os.readlink(name, dir_fd=source.folder)
            removal.remove(name, dir_fd=target.folder)
            os.symlink(text, name, dir_fd=target.folder)
            os.utime(name, ns=times, dir_fd=target.folder, follow_symlinks=False)
        elif stat.S_ISREG(status.st_mode):
            self._copy_file(source, name, target, private=False)
        return False

    def _copy_file(self, source: Place, name: str, target: Place, *, private: bool) -> None:
        """Copy a file with its modification time; of its mode keep all, or, if `private`, the owner's execute bit."""
        reader = source.open_file(name)
        try:
            status = os.fstat(reader)
            if not private:
                removal.remove(name, dir_fd=target.folder)
            writer = os.open(name, _NEW, 0o600, dir_fd=target.folder)
            try:
                if not self._is_cloned(reader, writer):
                    while chunk := os.read(reader, _CHUNK):
                        left = memoryview(chunk)
                        while left:
                            left = left[os.write(writer, left) :]
                        if len(chunk) == _CHUNK:
                            self._check()
                mode = 0o700 if status.st_mode & 0o100 else 0o600
                os.fchmod(writer, mode if private else status.st_mode & 0o777)
            finally:
                os.close(writer)
        finally:
            os.close(reader)
        os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=target.folder)

    def _is_cloned(self, reader: int, writer: int) -> bool:
        if self._clone:
            try:
                fcntl.ioctl(writer, _FICLONE, reader)
            except OSError:
                self._clone = False  # nor will it work for the next one
        return self._clone


def put_links(work: str, links: dict[str, str]) -> None:
    """Make links in the working copy or, with a path that begins with `..`, beside it; what is there gives way.

    Nothing is made behind another link, wherever that has come from: folders on the way are made anew.
    """
    for path, target in links.items():
        *around, name = path.split("/")
        root = work
        if around[:1] == [".."]:
            root, around = os.path.dirname(work), around[1:]
        permit(root, 0o700)  # an earlier attempt may have closed it
        with closing(Place(root)) as place:
            for part in around:
                if _is_folder(part, place):
                    permit(part, 0o700, dir_fd=place.folder)
                else:
                    removal.remove(part, dir_fd=place.folder)
                    os.mkdir(part, 0o700, dir_fd=place.folder)
                place.down(part)
            removal.remove(name, dir_fd=place.folder)
            os.symlink(target, name, dir_fd=place.folder)


def enter(work: str, folder: str) -> None:
    """Go to a folder of the working copy; not through a link that an earlier attempt has put in its place."""
    with closing(Place(work)) as place:
        for part in folder.split("/") if folder else ():
            place.down(part)
        os.fchdir(place.folder)


def remove_unchanged(snapshot: str, work: str) -> None:
    """Remove from the working copy what still equals the snapshot; never follow a link that the script has made.

    What it cannot look at stays: the script has changed it, in whatever way. So does what is mounted there.
    """
    with suppress(OSError), closing(Place(snapshot)) as source, closing(Place(work, is_strange=True)) as target:

        def enter() -> list[str]:
            folders = []
            for entry in source.entries():
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif _is_unchanged(source, entry, target):
                    with suppress(OSError):
                        os.unlink(entry.name, dir_fd=target.folder)
            return folders

        def leave(name: str) -> None:
            with suppress(OSError):  # something is left in it
                os.rmdir(name, dir_fd=target.folder)

        walk([source, target], enter, leave, refused=lambda *_: None)


def _is_unchanged(source: Place, entry: os.DirEntry[str], target: Place) -> bool:
    name = entry.name
    with suppress(OSError):
        if entry.is_symlink():
            return os.readlink(name, dir_fd=target.folder) == os.readlink(name, dir_fd=source.folder)
        # Whatever its time says: a script may restore the modification time of a file that it has changed.
        return are_equal(source, target, name)
    return False


def are_equal(source: Place, target: Place, name: str) -> bool:
    """Return whether a regular file of both folders has the same content in both; False if it cannot be read."""
    with (
        suppress(OSError),
        open(source.open_file(name), "rb") as ours,
        open(target.open_file(name), "rb") as theirs,
    ):
        status = os.fstat(theirs.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != os.fstat(ours.fileno()).st_size:
            return False
        while chunk := ours.read(_CHUNK):
            if theirs.read(_CHUNK) != chunk:
                return False
        return True
    return False


def _is_folder(name: str, place: Place) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=place.folder).st_mode)
    except FileNotFoundError:
        return False


def _raise(_: str, error: OSError) -> None:
    raise error
