"""Reads a tar archive while it arrives, a member at a time, with memory that no archive makes larger.

It knows what services send and nothing else: regular files, each with a header of the POSIX format (pax) before it.
What becomes of the members is for its caller to say.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Mapping
from typing import Protocol

from grid.chain.receiving import BrokenAnswer
from grid.errors import DownloadFailed

__all__ = ["Member", "TarStream"]

_BLOCK = tarfile.BLOCKSIZE
_LONGEST_HEADER = 1 << 16
_OCTAL = re.compile(rb"[0-7]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ")


class Member(Protocol):
    """Takes the content of one member."""

    def take(self, piece: bytes) -> None:
        """Take the next piece of it."""

    def end(self) -> None:
        """Note that it is complete."""


class TarStream:
    """An archive that arrives in pieces of any size.

    Parameters
    ----------
    begin
        Called with the path, the size and the records of each regular file; returns what takes its content.
    """

    def __init__(self, begin: Callable[[str, int, Mapping[str, str]], Member]) -> None:
        self._begin = begin
        self._waiting = bytearray()
        self._needs = _BLOCK  # bytes until `_go_on` can be called
        self._go_on = self._header
        self._records: dict[str, str] = {}
        self._member: Member | None = None
        self._left = self._padding = 0
        self.is_complete = False
        """Whether the end of the archive has come."""

    def take(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the archive.

        Raises
        ------
        BrokenAnswer
            If it is not such an archive.
        DownloadFailed
            If it has a member that is not a regular file.
        """
        view = memoryview(piece)
        while view and not self.is_complete:
            if self._left:
                assert self._member is not None
                part, view = view[: self._left], view[self._left :]
                self._left -= len(part)
                self._member.take(bytes(part))
                self._end_if_whole()
            elif self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
            else:
                missing = self._needs - len(self._waiting)
                self._waiting += view[:missing]
                view = view[missing:]
                if len(self._waiting) == self._needs:
                    block, self._waiting = bytes(self._waiting), bytearray()
                    self._go_on(block)

    def _header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            self.is_complete = True
            return
        kind, name, size = _read(block)
        if kind == tarfile.XHDTYPE:
            self._expect_records(size)
            return
        records, self._records = self._records, {}
        path = records.pop("path", name)
        if "size" in records:
            size = _number(records.pop("size"))
        if kind not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            message = f"the service offers {path!r}, which is not downloaded: it is not a regular file"
            raise DownloadFailed(message)
        self._member = self._begin(path, size, records)
        self._left, self._padding = size, -size % _BLOCK
        self._end_if_whole()

    def _expect_records(self, size: int) -> None:
        if self._records or not 0 < size <= _LONGEST_HEADER:
            message = "the archive is broken: a header of a header, or one that is too long"
            raise BrokenAnswer(message)

        def read(block: bytes) -> None:
            self._records = _records(block[:size])
            self._needs, self._go_on = _BLOCK, self._header

        self._needs, self._go_on = size + -size % _BLOCK, read

    def _end_if_whole(self) -> None:
        if self._left == 0 and self._member is not None:
            member, self._member = self._member, None
            member.end()


def _read(block: bytes) -> tuple[bytes, str, int]:
    """Return the kind, the name and the size that a header says.

    `tarfile` reads many times as long for all the rest of it, which nobody asks for.
    """
    checksum = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    try:
        said, size = _octal(block[148:156]), _octal(block[124:136])
        name, prefix = (_text(field) for field in (block[:100], block[345:500]))
    except ValueError as error:
        message = f"the archive is broken: {error}"
        raise BrokenAnswer(message) from None
    if said != checksum or block[257:262] != b"ustar":
        message = "the archive is broken: a header that is none"
        raise BrokenAnswer(message)
    return block[156:157], f"{prefix}/{name}" if prefix else name, size


def _octal(field: bytes) -> int:
    digits = field.rstrip(b" \0").lstrip(b" ")
    if not _OCTAL.fullmatch(digits):
        message = "a number that is none"
        raise ValueError(message)
    return int(digits or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode()


def _number(size: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", size):
        message = "the archive is broken: a size that is no number"
        raise BrokenAnswer(message)
    return int(size)


def _records(block: bytes) -> dict[str, str]:
    """Return the records of a header of the POSIX format: each its length, a keyword and a value."""
    found: dict[str, str] = {}
    while block:
        length = _RECORD.match(block)
        end = int(length[1]) if length else 0
        keyword, equals, value = block[length.end() if length else 0 : end - 1].partition(b"=")
        if not equals or block[end - 1 : end] != b"\n":
            message = "the archive is broken: a record that is none"
            raise BrokenAnswer(message)
        try:
            found[keyword.decode()] = value.decode()
        except UnicodeDecodeError:
            message = "the archive is broken: a record that is not text"
            raise BrokenAnswer(message) from None
        block = block[end:]
    return found
