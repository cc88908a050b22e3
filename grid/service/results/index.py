"""The index of an output: how many lines there are up to a place in it, and when they were printed.

A file of entries of one width, which only grows. It is never the truth about text: whatever is wrong with it, it is
made again from the output.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from grid.service.system.workspace import PRIVATE_FILE, PRIVATE_FOLDER

_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_HEADER = b"grid log 1\n".ljust(16, b"\0")
_ENTRY = struct.Struct("<QQqLL")  # lines, offset, time with the mark, the two checksums
_FINGERPRINT = 256
"""How many bytes before an offset tell that it is still the same output."""


class Entry(NamedTuple):
    """A place in an output behind whole lines."""

    lines: int = 0
    """How many lines there are before it."""
    offset: int = 0
    at: int = 0
    """When the output was last written to when the last of them were found, in microseconds since the epoch."""
    is_approximate: bool = False
    """Whether nobody looked on when they were printed."""
    fingerprint: int = 0
    """What tells the output from others."""


class Unfit(Exception):
    """The index is not whole, or is not one of this output."""


class Index(Sequence[Entry]):
    """The entries of an index, in their order; each is read when it is asked for.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Unfit
        If it is none of this version.
    """

    def __init__(self, path: Path) -> None:
        # A script may have put anything in its place: follow no link, and wait for no other end of a pipe.
        self._file = os.fdopen(os.open(path, os.O_RDONLY | _SAFELY), "rb", buffering=0)
        try:
            if self._file.read(len(_HEADER)) != _HEADER:
                raise Unfit
            size = os.fstat(self._file.fileno()).st_size
            self._count = (size - len(_HEADER)) // _ENTRY.size
            # What was being written when the power failed.
            while self._count and not self._is_whole(self._count - 1):
                self._count -= 1
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Entry:  # type: ignore[override]  # no part of it is ever needed
        """Return an entry.

        Raises
        ------
        Unfit
            If it is not as it was written.
        """
        if not 0 <= place < self._count:
            raise IndexError(place)
        content = self._read(place)
        lines, offset, at, fingerprint, checksum = _ENTRY.unpack(content)
        if checksum != zlib.crc32(content[:-4]):
            raise Unfit
        return Entry(lines, offset, at >> 1, bool(at & 1), fingerprint)

    @property
    def last(self) -> Entry:
        """The last entry; one of nothing if there is none."""
        return self[self._count - 1] if self._count else Entry()

    def _is_whole(self, place: int) -> bool:
        content = self._read(place)
        return len(content) == _ENTRY.size and _ENTRY.unpack(content)[-1] == zlib.crc32(content[:-4])

    def _read(self, place: int) -> bytes:
        return os.pread(self._file.fileno(), _ENTRY.size, len(_HEADER) + place * _ENTRY.size)


def append(path: Path, entries: Sequence[Entry], after: int) -> bool:
    """Add entries to an index.

    Parameters
    ----------
    path
        The file; it is made, with its folder, if nothing was written to it before.
    entries
        The entries.
    after
        How many entries were written to it before; what there is beyond them goes.

    Returns
    -------
    bool
        False if it does not have them any longer.

    Raises
    ------
    OSError
        If it cannot be written. It is as before, then.
    """
    flags = os.O_RDWR | _SAFELY
    if not after:
        path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        flags |= os.O_CREAT | os.O_TRUNC
    try:
        file = os.open(path, flags, PRIVATE_FILE)
    except FileNotFoundError:
        if not after:
            raise
        return False
    try:
        place = len(_HEADER) + after * _ENTRY.size if after else 0
        size = os.fstat(file).st_size
        if size < place:
            return False
        content = (b"" if after else _HEADER) + b"".join(map(_packed, entries))
        try:
            written = 0
            while written < len(content):  # where there is no room for the rest, the next step says so
                written += os.pwrite(file, content[written:], place + written)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, place)
            raise
        if size > place + len(content):
            os.ftruncate(file, place + len(content))
    finally:
        os.close(file)
    return True


def remove(path: Path) -> None:
    """Remove an index, and its folder if there is nothing else in it."""
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def fingerprint(output: BinaryIO, offset: int) -> int:
    """Return what tells an output from others by what stands before an offset."""
    start = max(offset - _FINGERPRINT, 0)
    return zlib.crc32(os.pread(output.fileno(), offset - start, start))


def fits(entry: Entry, output: BinaryIO, size: int) -> bool:
    """Return whether an entry is one of this output."""
    return entry.offset <= size and entry.fingerprint == fingerprint(output, entry.offset)


def _packed(entry: Entry) -> bytes:
    content = _ENTRY.pack(entry.lines, entry.offset, entry.at << 1 | entry.is_approximate, entry.fingerprint, 0)[:-4]
    return content + struct.pack("<L", zlib.crc32(content))
