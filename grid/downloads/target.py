"""The folder that files are downloaded to: opened one folder after the other, without following links.

What is there already, what is incomplete, and how a complete file takes its place. Where each file goes is decided in
:mod:`grid.downloads.names`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from grid.downloads.names import Place
from grid.errors import DownloadFailed

__all__ = ["PartFile", "Target"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FOLDER = frozenset(
    {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}
)  # what systems say of a link, or a file, in its place
_PIECE = 1 << 22  # bytes that are hashed at once: between two such pieces a download can be interrupted
_LONGEST_NOTE = 1_000


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
        self._descriptor = os.open(folder, _FOLDER & ~os.O_NOFOLLOW)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def path(self, place: Place) -> Path:
        """Return the path of a file, as its user would write it."""
        return self.folder.joinpath(*place.folders, place.name)

    def is_case_sensitive(self) -> bool:
        """Whether it can hold two names that differ by case alone; looks at what is there, and else tries."""
        name = f".grid-case-{os.getpid()}.part"
        os.close(os.open(name, _PART, 0o600, dir_fd=self._descriptor))
        try:
            os.stat(name.upper(), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return True
        finally:
            with suppress(FileNotFoundError):  # another thread of this process has tried it as well
                os.unlink(name, dir_fd=self._descriptor)
        return False

    @contextmanager
    def opened(self, place: Place, *, make: bool = True) -> Iterator[int]:
        """Yield the descriptor of the folder of a file.

        Raises
        ------
        DownloadFailed
            If one of its folders is a link, or no folder.
        FileNotFoundError
            If it is not there and is not to be made.
        """
        here = os.dup(self._descriptor)
        try:
            for depth, name in enumerate(place.folders, 1):
                with self.naming(place, depth):
                    inside = _entered(here, name, make=make)
                os.close(here)
                here = inside
            yield here
        finally:
            os.close(here)

    @contextmanager
    def naming(self, place: Place, depth: int | None = None) -> Iterator[None]:
        """Give errors of the system the path of the file, or of one of its folders."""
        try:
            yield
        except OSError as error:
            where = self.path(place) if depth is None else self.folder.joinpath(*place.folders[:depth])
            if depth is not None and error.errno in _NO_FOLDER:
                message = (
                    f"{self.path(place)} is not downloaded: {where} is a link, or not a folder, and nothing is written "
                    "through it; move it away"
                )
                raise DownloadFailed(message) from None
            if isinstance(error, IsADirectoryError):
                raise self._is_folder(place) from None
            raise OSError(error.errno, error.strerror, str(where)) from None

    def _is_folder(self, place: Place) -> DownloadFailed:
        return DownloadFailed(f"{self.path(place)} is not downloaded: there is a folder of that name; move it away")

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
                return Existing(os.open(place.name, _READ, dir_fd=folder))
        except OSError:
            return None


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
        piece = os.read(self._descriptor, _PIECE)
        self._digest.update(piece)
        return bool(piece)

    def close(self) -> str:
        """Close it, and return the SHA-256 of what was read."""
        os.close(self._descriptor)
        return self._digest.hexdigest()


class PartFile:
    """An incomplete file beside the place that it is for; several processes do not write to it at once.

    Parameters
    ----------
    target
        Where it lies.
    place
        The place that it is for.

    Raises
    ------
    DownloadFailed
        If another download writes to it, or one of its folders is a link.
    OSError
        If it cannot be opened or made.
    """

    def __init__(self, target: Target, place: Place) -> None:
        self.place = place
        self._name, self._note_name = place.part, place.note
        self._has_note = True
        self._target = target
        self._digest = hashlib.sha256()
        self._descriptor = -1
        with target.opened(place) as folder, target.naming(place):
            self._folder = os.dup(folder)
            try:
                self._descriptor = self._locked()
                self.size = os.fstat(self._descriptor).st_size
                """How many bytes it has."""
                self._has_note = self.size > 0  # the note is written before the first byte
            except BaseException:
                self.close()
                raise

    def _locked(self) -> int:
        while True:
            try:
                descriptor = os.open(self._name, _PART, 0o666, dir_fd=self._folder)
            except OSError as error:
                if error.errno not in _NO_FOLDER:
                    raise
                os.unlink(self._name, dir_fd=self._folder)  # a link, which is not followed
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(descriptor)
                with suppress(FileNotFoundError):
                    if os.path.samestat(status, os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)):
                        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                            return descriptor
                        # A second name may be that of a file elsewhere.
                        os.unlink(self._name, dir_fd=self._folder)
                # Somebody else has completed it, or it was removed.
            except BlockingIOError:
                os.close(descriptor)
                message = f"{self._target.path(self.place)} is being downloaded by another process: wait for it"
                raise DownloadFailed(message) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def read_note(self) -> str:
        """Return what it is a part of, as it was noted; empty if that is not known."""
        try:
            descriptor = os.open(self._note_name, _READ, dir_fd=self._folder)
        except OSError:
            return ""
        try:
            return os.read(descriptor, _LONGEST_NOTE).decode(errors="replace")
        finally:
            os.close(descriptor)

    def read_on(self) -> bool:
        """Read a bounded part of what it has, for its SHA-256; return whether there is more."""
        piece = os.read(self._descriptor, _PIECE)
        self._digest.update(piece)
        return bool(piece)

    def begin(self, note: str = "") -> None:
        """Empty it, and note what it will be a part of; without a note it is never continued."""
        with self._target.naming(self.place):
            if self.size:
                os.ftruncate(self._descriptor, 0)
                os.lseek(self._descriptor, 0, os.SEEK_SET)
                self.size, self._digest = 0, hashlib.sha256()
            self._has_note |= bool(note)  # perhaps that of a process that was ended before the first byte
            self._forget_note()
            if note:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(self._note_name, flags, 0o666, dir_fd=self._folder)
                try:
                    os.write(descriptor, note.encode())
                finally:
                    os.close(descriptor)
                self._has_note = True

    def write(self, piece: bytes | memoryview[Any]) -> None:
        """Append to it."""
        self._digest.update(piece)
        self.size += len(piece)
        view = memoryview(piece)
        with self._target.naming(self.place):
            while view:
                view = view[os.write(self._descriptor, view) :]

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that it has."""
        return self._digest.hexdigest()

    def complete(self) -> Path:
        """Let it take its place, and close it; return the path."""
        with self._target.naming(self.place):
            name = {"src_dir_fd": self._folder, "dst_dir_fd": self._folder}
            os.rename(self._name, self.place.name, **name)  # noqa: PTH104 - Path has no folders that are open
            self._forget_note()
        self.close()
        return self._target.path(self.place)

    def discard(self) -> None:
        """Remove it, and close it."""
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)
        self._forget_note()
        self.close()

    def close(self) -> None:
        """Close it; what it has stays."""
        for descriptor in (self._descriptor, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._folder = -1

    def _forget_note(self) -> None:
        if self._has_note:
            with suppress(FileNotFoundError):
                os.unlink(self._note_name, dir_fd=self._folder)
            self._has_note = False
