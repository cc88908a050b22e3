"""What has arrived of a large file: in a folder for such, whose files have names that no artifact can have."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from grid.downloads.names import Place, shown
from grid.downloads.target import NEW, NO_FOLDER, PIECE, READ, Target, is_same
from grid.errors import DownloadFailed

__all__ = ["PartFile"]

_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_NOTE = 1_000


class PartFile:
    """An incomplete file; several processes do not write to it at once.

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
        self._target = target
        self._digest = hashlib.sha256()
        self._folder = -1
        with target.opened(place):
            pass  # it can be gone to, before anything is fetched
        with target.naming(place):
            self._descriptor = self._locked()
            try:
                self.size = os.fstat(self._descriptor).st_size
                """How many bytes it has."""
                self._has_note = self.size > 0  # the note is written before the first byte
            except BaseException:
                self._shut()
                raise

    def _locked(self) -> int:
        while True:
            try:
                descriptor, folder = self._target.part(self._name, _PART)
            except OSError as error:
                if error.errno not in NO_FOLDER:
                    raise
                self._target.remove_part(self._name)  # a link, which is not followed
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_same(descriptor, folder, self._name):
                    self._folder = os.dup(folder)
                    return descriptor
                # A second name may be that of a file elsewhere. If there is none, somebody else has completed it.
                with suppress(FileNotFoundError):
                    if os.path.samestat(
                        os.fstat(descriptor), os.stat(self._name, dir_fd=folder, follow_symlinks=False)
                    ):
                        os.unlink(self._name, dir_fd=folder)
            except BlockingIOError:
                os.close(descriptor)
                message = f"{shown(self._target.path(self.place))} is being downloaded by another process: wait for it"
                raise DownloadFailed(message) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def read_note(self) -> str:
        """Return what it is a part of, as it was noted; empty if that is not known."""
        try:
            descriptor = os.open(self._note_name, READ, dir_fd=self._folder)
        except OSError:
            return ""
        try:
            return os.read(descriptor, _LONGEST_NOTE).decode(errors="replace")
        finally:
            os.close(descriptor)

    def read_on(self) -> bool:
        """Read a bounded part of what it has, for its SHA-256; return whether there is more."""
        piece = os.read(self._descriptor, PIECE)
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
                descriptor = os.open(self._note_name, NEW, 0o666, dir_fd=self._folder)
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
        self._target.put(self.place, self._folder, self._name, self._descriptor)
        with self._target.naming(self.place):
            self._forget_note()
        self._shut()
        return self._target.path(self.place)

    def discard(self) -> None:
        """Remove it, and close it."""
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)
        self._forget_note()
        self._shut()

    def close(self) -> None:
        """Close it; what it has stays, if it has anything."""
        if self._descriptor >= 0 and not self.size:
            self.discard()
        self._shut()

    def _shut(self) -> None:
        for descriptor in (self._descriptor, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._folder = -1

    def _forget_note(self) -> None:
        if self._has_note:
            with suppress(FileNotFoundError):
                os.unlink(self._note_name, dir_fd=self._folder)
            self._has_note = False
