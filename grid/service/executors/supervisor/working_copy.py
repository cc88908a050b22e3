"""An attempt's working copy: made from the snapshot and an earlier attempt's files, reduced at its end to changes."""

from __future__ import annotations

import fcntl
import filecmp
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
_CHUNK = 1 << 20


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
        for entry, path in self._entries(snapshot):
            target = f"{work}/{path}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)
            elif entry.is_dir():
                os.mkdir(target, 0o700)
            else:
                self._copy_file(entry.path, target, private=True)

    def overlay(self, earlier: str, work: str) -> None:
        """Put what an earlier attempt left into the working copy, replacing what is there; leave the original as it is.

        Only files, links and folders are copied: a socket or a pipe is of no use without its process.
        """
        folders = []
        for entry, path in self._entries(earlier):
            target, status = f"{work}/{path}", entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                if not _is_folder(target):
                    _remove(target)
                    os.mkdir(target, 0o700)
                folders.append((target, status))
            elif stat.S_ISLNK(status.st_mode):
                _remove(target)
                os.symlink(os.readlink(entry.path), target)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
            elif stat.S_ISREG(status.st_mode):
                _remove(target)
                self._copy_file(entry.path, target, private=False)
        for target, status in reversed(folders):  # only when nothing more is put into them
            os.chmod(target, status.st_mode & 0o777)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _entries(self, root: str) -> Iterator[tuple[os.DirEntry[str], str]]:
        """Yield everything below a folder with its relative path, each folder before its content."""
        pending = [""]
        while pending:
            relative = pending.pop()
            self._check()
            with os.scandir(f"{root}/{relative}") as entries:
                for entry in entries:
                    path = f"{relative}/{entry.name}" if relative else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
                    yield entry, path

    def _copy_file(self, source: str, target: str, *, private: bool) -> None:
        """Copy a file with its modification time; of its mode keep all, or, if `private`, the owner's execute bit."""
        with open(source, "rb") as reader, open(target, "xb") as writer:
            status = os.fstat(reader.fileno())
            if self._clone:
                try:
                    fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
                except OSError:
                    self._clone = False  # nor will it work for the next one
            if not self._clone:
                while chunk := reader.read(_CHUNK):
                    writer.write(chunk)
                    if len(chunk) == _CHUNK:
                        self._check()
            mode = 0o700 if status.st_mode & 0o100 else 0o600
            os.fchmod(writer.fileno(), mode if private else status.st_mode & 0o777)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def remove_unchanged(snapshot: str, work: str) -> None:
    """Remove from the working copy what still equals the snapshot; never follow a link that the script has made."""
    folders, pending = [], [""]
    while pending:
        relative = pending.pop()
        folder = f"{work}{relative}"
        with suppress(OSError):  # the script has changed it, in whatever way
            if not _is_folder(folder):
                continue
            folders.append(folder)
            with os.scandir(f"{snapshot}{relative}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{relative}/{entry.name}")
                    elif _is_unchanged(entry, f"{folder}/{entry.name}"):
                        os.unlink(f"{folder}/{entry.name}")
    for folder in reversed(folders[1:]):
        with suppress(OSError):  # something is left in it
            os.rmdir(folder)


def _is_unchanged(source: os.DirEntry[str], target: str) -> bool:
    with suppress(OSError):
        if source.is_symlink():
            return os.readlink(target) == os.readlink(source.path)
        # Not shallow: a script may restore the modification time of a file that it has changed.
        return stat.S_ISREG(os.lstat(target).st_mode) and filecmp.cmp(source.path, target, shallow=False)
    return False


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _remove(path: str) -> None:
    if _is_folder(path):
        import shutil  # noqa: PLC0415 - large, and hardly ever needed: the spawner must stay small

        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)
