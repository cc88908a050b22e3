"""Many files as one tar archive, made while it is sent.

Each member has its time to the microsecond in a header of the POSIX format (pax), and unless it is large its SHA-256 in
a record of ours. What is not there, or not any more, is left out; so is a small file that never is of one content while
it is read.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from grid.service.executors.protocol import Files, FileState
from grid.service.results.artifacts import Attempt
from grid.service.results.digests import Digests

DIGEST = "GRID.sha256"
"""The record with the SHA-256 of a member."""

_SMALL = 1 << 20
"""How large a member may be to be read before its header is sent, which so can say its SHA-256."""
_PIECE = 1 << 18
_TRIES = 5
"""How often a small file is read that is overwritten meanwhile. Then it is left out, and stops no other, as nothing
of it was sent."""
_SECOND = 1_000_000
_NAME = 100
"""How many bytes of its path a header has, as far as programs go that do not know records."""
_OWNER = b"0000000\0" * 2
_SUM = 148
"""Where the sum of a header stands."""
_REST = bytes(_NAME) + b"ustar\x0000" + bytes(2 * 32) + b"0000000\0" * 2 + bytes(155 + 12)
_MOST_OCTAL = 8**11 - 1
"""The largest number that a header has room for."""


class Changed(Exception):
    """A file was overwritten or has become shorter while it was sent: what was read may be of two contents."""


def is_whole(file: BinaryIO, state: FileState) -> bool:
    """Return whether what was read of an open file is of one content: it is as it was, or has only grown."""
    status = os.fstat(file.fileno())
    is_same = status.st_size == state.size and status.st_mtime_ns // 1000 == state.modified_at
    return is_same or status.st_size > state.size


def archive(files: Files, digests: Digests, attempt: Attempt, paths: Iterable[str]) -> Generator[bytes]:
    """Yield an archive of an attempt's files of these paths, in pieces of some 256 KiB. Blocks.

    Raises
    ------
    Changed
        If a large file was overwritten or has become shorter while it was read: what was yielded is no archive then.
    """
    waiting = bytearray()
    known: dict[FileState, str] = {}
    for file, state in files.open_all(attempt.written, attempt.snapshot, paths):
        for part in _small(file, state, known) if state.size <= _SMALL else _large(file, state):
            waiting += part
            if len(waiting) >= _PIECE:
                yield bytes(waiting)
                waiting.clear()
    if attempt.has_ended:
        digests.keep(attempt.written, known)
    waiting += bytes(2 * tarfile.BLOCKSIZE)
    yield bytes(waiting)


def _small(file: BinaryIO, state: FileState, known: dict[FileState, str]) -> Iterator[bytes]:
    for _ in range(_TRIES):
        content = b"".join(_pieces(file, state.size))
        if len(content) == state.size and is_whole(file, state):
            break
        status = os.fstat(file.fileno())
        state = replace(state, size=min(status.st_size, state.size), modified_at=status.st_mtime_ns // 1000)
        file.seek(0)
    else:
        return
    digest = hashlib.sha256(content).hexdigest()
    known[state] = digest
    yield _header(state, len(content), digest)
    yield content
    yield _padding(len(content))


def _large(file: BinaryIO, state: FileState) -> Iterator[bytes]:
    yield _header(state, state.size)
    left = state.size
    for piece in _pieces(file, state.size):
        left -= len(piece)
        yield piece
    if left or not is_whole(file, state):
        raise Changed
    yield _padding(state.size)


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (piece := file.read(min(size, _PIECE))):
        size -= len(piece)
        yield piece


def _header(state: FileState, size: int, digest: str | None = None) -> bytes:
    """Return what stands before a member: its records, with a header of their own, and its header.

    `tarfile` would do it, and take longer than reading a small file.
    """
    seconds, rest = divmod(abs(state.modified_at), _SECOND)
    sign = "-" if state.modified_at < 0 else ""
    records = _record("mtime", f"{sign}{seconds}.{rest:06d}") + _record("path", state.path)
    if digest is not None:
        records += _record(DIGEST, digest)
    if size > _MOST_OCTAL:
        records += _record("size", f"{size}")
    length = len(records)
    name = state.path.encode()[:_NAME].decode(errors="ignore").encode()
    return b"".join(
        (
            _block(b"././@PaxHeader", 0, length, 0, b"x"),
            records,
            _padding(length),
            _block(name, 0o600, size if size <= _MOST_OCTAL else 0, 0 if sign else min(seconds, _MOST_OCTAL), b"0"),
        )
    )


def _record(keyword: str, value: str) -> bytes:
    """Return a record, which begins with its length, the digits of that included."""
    text = f" {keyword}={value}\n".encode()
    length = len(text) + 1
    while len(text) + len(str(length)) != length:
        length = len(text) + len(str(length))
    return str(length).encode() + text


def _block(name: bytes, mode: int, size: int, time: int, kind: bytes) -> bytes:
    """Return a header as POSIX.1-1988 has it (ustar), with its sum, which counts its own place as blanks."""
    block = b"%b%07o\0%b%011o\0%011o\0        %b%b" % (name.ljust(_NAME, b"\0"), mode, _OWNER, size, time, kind, _REST)
    return block[:_SUM] + b"%06o\0 " % sum(block) + block[_SUM + 8 :]


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
