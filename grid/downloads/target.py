"""The folder that files are downloaded to: opened one folder after the other, without following links.

What is there already, and how a complete file takes its place. Where each file goes is decided in
:mod:`grid.downloads.names`; what is incomplete is for :mod:`grid.downloads.parts`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from grid.downloads.names import PARTS, Place, shown
from grid.errors import DownloadFailed

__all__ = ["NEW", "NO_FOLDER", "PIECE", "READ", "Existing", "Target", "is_same"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NO_FOLDER = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
"""What systems say of a link, or a file, in the place of a folder."""
PIECE = 1 << 22
"""How many bytes are hashed at once: between two such pieces a download can be interrupted."""

_PARTS = Place((PARTS,), "")


class _Kept(threading.local):
    """The folder that a thread has opened last: most files lie in that of the one before."""

    folders: tuple[str, ...] | None = None
    descriptor = -1


class Target:
    """A folder that files are downloaded to; it is made if it is not there.

    Parameters
    ----------
    folder
        Its path. It may lead through links, as its user wishes; what lies in it may not.

    Raises
    ------
    OSError
        If it cannot be made or opened.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._open: set[int] = set()
        self._kept, self._parts = _Kept(), _Kept()
        self._descriptor = os.open(folder, _FOLDER & ~os.O_NOFOLLOW)
        self._open.add(self._descriptor)

    def close(self) -> None:
        """Close it, and remove the folder for what is incomplete if nothing is; no thread may work in it any more."""
        if self._open:
            with suppress(OSError):  # it holds what is incomplete, or was not made
                os.rmdir(PARTS, dir_fd=self._descriptor)
        while self._open:
            os.close(self._open.pop())

    def path(self, place: Place) -> Path:
        """Return the path of a file, as its user would write it."""
        return self.folder.joinpath(*place.folders, place.name)

    def is_case_sensitive(self) -> bool:
        """Whether it can hold two names that differ by case alone; tries."""
        name = f"case-{secrets.token_hex(8)}.part"
        descriptor, parts = self.part(name, NEW)
        os.close(descriptor)
        try:
            os.stat(name.upper(), dir_fd=parts, follow_symlinks=False)
        except FileNotFoundError:
            return True
        finally:
            os.unlink(name, dir_fd=parts)
        return False

    @contextmanager
    def opened(self, place: Place, *, make: bool = True) -> Iterator[int]:
        """Yield the descriptor of the folder of a file, which stays open until the same thread asks for another one.

        Raises
        ------
        DownloadFailed
            If one of its folders is a link, or no folder.
        FileNotFoundError
            If it is not there and is not to be made.
        """
        yield self._last(self._kept, place, make=make)

    def _last(self, kept: _Kept, place: Place, *, make: bool) -> int:
        if kept.folders != place.folders or (make and not os.fstat(kept.descriptor).st_nlink):  # removed meanwhile
            here = self._entered(place, make=make)
            self._open.add(here)
            if kept.folders is not None:
                self._open.discard(kept.descriptor)
                os.close(kept.descriptor)
            kept.folders, kept.descriptor = place.folders, here
        return kept.descriptor

    def _entered(self, place: Place, *, make: bool) -> int:
        here = os.dup(self._descriptor)
        try:
            for depth, name in enumerate(place.folders, 1):
                with self.naming(place, depth):
                    inside = _entered(here, name, make=make)
                os.close(here)
                here = inside
        except BaseException:
            os.close(here)
            raise
        return here

    def part(self, name: str, flags: int) -> tuple[int, int]:
        """Open a file in the folder for what is incomplete; return its descriptor, and that of the folder.

        The file is for the caller to close. The folder stays open until the same thread comes again and it is gone.
        """
        while True:
            folder = self._last(self._parts, _PARTS, make=True)
            try:
                return os.open(name, flags, 0o666, dir_fd=folder), folder
            except FileNotFoundError:
                # Another download has just ended, and has removed the folder, because it was empty.
                if os.fstat(folder).st_nlink:
                    raise

    def remove_part(self, name: str) -> None:
        """Remove what lies in the folder for what is incomplete."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._last(self._parts, _PARTS, make=True))

    @contextmanager
    def naming(self, place: Place, depth: int | None = None) -> Iterator[None]:
        """Give errors of the system the path of the file, or of one of its folders."""
        try:
            yield
        except OSError as error:
            where = self.path(place) if depth is None else self.folder.joinpath(*place.folders[:depth])
            if depth is not None and error.errno in NO_FOLDER:
                message = (
                    f"{shown(self.path(place))} is not downloaded: {shown(where)} is a link, or not a folder, and "
                    "nothing is written through it; move it away"
                )
                raise DownloadFailed(message) from None
            if isinstance(error, IsADirectoryError):
                raise self._is_folder(place) from None
            raise OSError(error.errno, error.strerror, str(where)) from None

    def _is_folder(self, place: Place) -> DownloadFailed:
        message = f"{shown(self.path(place))} is not downloaded: there is a folder of that name; move it away"
        return DownloadFailed(message)

    def has(self, place: Place, size: int) -> bool:
        """Whether there is a file of that size at a place already.

        Raises
        ------
        DownloadFailed
            If one of its folders is a link, or no folder; or if there is a folder at the place itself.
        """
        try:
            with self.opened(place, make=False) as folder, self.naming(place):
                status = os.stat(place.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(status.st_mode):
            raise self._is_folder(place)
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    def existing(self, place: Place) -> Existing | None:
        """Open the file that is at a place already; None if it is gone, or cannot be read."""
        try:
            with self.opened(place, make=False) as folder:
                return Existing(os.open(place.name, READ, dir_fd=folder))
        except OSError:
            return None

    def digest(self, place: Place) -> str | None:
        """Return the SHA-256 of the small file that is at a place already; None as above."""
        existing = self.existing(place)
        if existing is None:
            return None
        try:
            while existing.read_on():
                pass
        finally:
            existing.close()
        return existing.sha256

    def write(self, place: Place, content: bytes | bytearray) -> Path:
        """Write a small file, which takes its place when all of it is written; return its path."""
        name = f"{secrets.token_hex(16)}.part"  # nobody else has it, so that it need not be locked
        with self.naming(place):
            descriptor, parts = self.part(name, NEW)
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(descriptor, view) :]
                self.put(place, parts, name, descriptor)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=parts)
                raise
            finally:
                os.close(descriptor)
        return self.path(place)

    def put(self, place: Place, parts: int, name: str, descriptor: int) -> None:
        """Let a complete file take its place.

        Parameters
        ----------
        place
            Where to.
        parts, name
            The folder where it lies, and how it is called there.
        descriptor
            The file itself: nothing else of that name takes the place.

        Raises
        ------
        DownloadFailed
            If there is a folder at its place, or one on the way is none; or if it is another file by now.
        """
        with self.opened(place) as folder, self.naming(place):
            if not is_same(descriptor, parts, name):
                message = f"{shown(self.path(place))} is not downloaded: somebody has replaced what had arrived of it"
                raise DownloadFailed(message)
            os.rename(name, place.name, src_dir_fd=parts, dst_dir_fd=folder)


def is_same(descriptor: int, folder: int, name: str) -> bool:
    """Whether an open file is what a folder has by that name, is a regular file, and has no other name."""
    status = os.fstat(descriptor)
    try:
        named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, named) and stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _entered(folder: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # made by another file's download meanwhile
        os.mkdir(name, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)


class Existing:
    """An open file that may be what would be downloaded."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()

    def read_on(self) -> bool:
        """Read a bounded part of it; return whether there is more."""
        piece = os.read(self._descriptor, PIECE)
        self._digest.update(piece)
        return bool(piece)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read."""
        return self._digest.hexdigest()
