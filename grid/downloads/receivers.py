"""What takes a file, or many small ones, while they arrive, and knows how to ask for what is missing.

They work in threads, see :class:`grid.chain.receiving.Receiver`. Who decides what to do with what has arrived is
:mod:`grid.downloads.download`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

import orjson

from grid.chain.receiving import BrokenAnswer, StreamRequest
from grid.downloads.tar_stream import TarStream
from grid.errors import DownloadFailed, InvalidResponse

__all__ = ["BundleReceiver", "Changed", "FileReceiver", "Memory", "RangeReceiver", "Restless", "Sink", "TooLarge"]

_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")
_PARTIAL = 206
_TAR = "application/x-tar"
_STARTS = 10
"""How often a file is begun anew because it has become another."""


class TooLarge(Exception):
    """More comes of a file than the service has listed, and no more is taken."""


class Changed(Exception):
    """There is another file at the path by now, and nothing of it is taken."""


class Restless(Exception):
    """A file was overwritten so often while it was sent that there is no hope of ever having it whole."""


class Sink(Protocol):
    """Where the bytes of one file go."""

    @property
    def size(self) -> int:
        """How many it has."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of all of them."""

    def begin(self, note: str = "") -> None:
        """Empty it, and note what it will hold."""

    def write(self, piece: bytes | memoryview) -> None:
        """Append to it."""


_S = TypeVar("_S", bound=Sink)


class Memory:
    """A file that is kept in memory."""

    def __init__(self) -> None:
        self.content = bytearray()

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.content)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all of them."""
        return hashlib.sha256(self.content).hexdigest()

    def begin(self, note: str = "") -> None:  # noqa: ARG002 - what is lost with the process needs none
        """Empty it."""
        self.content.clear()

    def write(self, piece: bytes | memoryview) -> None:
        """Append to it."""
        self.content += piece


class FileReceiver:
    """Takes one file, from where it broke off if it is still the same file.

    Parameters
    ----------
    sink
        Where it goes.
    etag
        The `ETag` of what the sink has already; empty to begin anew.
    arrived
        Told how many bytes have arrived; fewer than none where they have to come again.
    most
        How many bytes it can have at most; None for as many as the head of the answer says.
    """

    def __init__(
        self,
        sink: Sink,
        etag: str = "",
        arrived: Callable[[int], None] = lambda _: None,
        *,
        most: int | None = None,
    ) -> None:
        self._sink = sink
        self._arrived = arrived
        self._most = most
        self.etag = etag
        """Tells the content that has arrived from any other at the same path."""
        self._length: int | None = None
        self._changes = self._in_vain = 0

    @property
    def received(self) -> int:
        """How many bytes have come, those of contents that are no more included: they are no fault of the line."""
        return self._in_vain + self._sink.size

    def request(self) -> StreamRequest:
        """Ask for all of it, or for what is missing of it."""
        if not self.etag or not self._sink.size:
            return StreamRequest()
        return StreamRequest({"Range": f"bytes={self._sink.size}-", "If-Range": _sendable(self.etag)})

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """See how much of it comes."""
        etag = headers.get("ETag", "")
        if not etag:
            message = "the answer has no ETag, so it is not the file"
            raise BrokenAnswer(message)
        if status == _PARTIAL:
            first, last, self._length = _range_of(headers)
            if etag != self.etag or first != self._sink.size or last != self._length - 1:
                self.begin_anew()
                message = "the answer is another part than was asked for"
                raise BrokenAnswer(message)
            self._check()
            return
        if self.etag not in {"", etag}:
            self._changes += 1
            self._in_vain += self._sink.size + 1
            if self._changes > _STARTS:
                raise Restless
        self._arrived(-self._sink.size)
        self.etag, self._length = etag, _number(headers.get("Content-Length"))
        self._sink.begin(etag)
        self._check()

    def _check(self) -> None:
        if self._most is not None and (self._length or 0) > self._most:
            raise TooLarge
        if self._most is None and self._length is None:
            message = "the answer does not say how long it is"
            raise BrokenAnswer(message)

    def take(self, piece: bytes | memoryview) -> None:
        """Append to it, unless it is more than there can be."""
        size = self._sink.size + len(piece)
        if self._length is not None and size > self._length:
            message = f"more than the {self._length} bytes of the file have arrived"
            self.begin_anew()
            raise BrokenAnswer(message)
        if self._most is not None and size > self._most:
            raise TooLarge
        self._sink.write(piece)
        self._arrived(len(piece))

    def end(self) -> None:
        """See that all of it is there."""
        if self._length is not None and self._sink.size != self._length:
            message = f"{self._sink.size} bytes of {self._length} have arrived"
            raise BrokenAnswer(message)

    def begin_anew(self) -> None:
        """Forget what has arrived."""
        self._arrived(-self._sink.size)
        self.etag = ""
        self._sink.begin()


class RangeReceiver:
    """Takes one part of a file into memory, if it is still the same file.

    Parameters
    ----------
    first, last
        The places of its first and its last byte; None for all that comes after the first.
    etag
        Tells the file from what may be at its path meanwhile; empty for whatever is there, as far as that goes.
    """

    def __init__(self, first: int, last: int | None, etag: str = "") -> None:
        self.content = bytearray()
        self.etag = etag
        self.has_changed = False
        """Whether there is another file at the path by now, or no such part of it."""
        self.size = 0
        """How many bytes the whole file has, once some of it has come."""
        self._first, self._last, self._end = first, last, None if last is None else last + 1
        self._is_any = not etag

    @property
    def received(self) -> int:
        """How many bytes there are."""
        return len(self.content)

    def request(self) -> StreamRequest:
        """Ask for what is missing of the part."""
        last = "" if self._end is None else self._end - 1
        wanted = f"bytes={self._first + len(self.content)}-{last}"
        return StreamRequest({"Range": wanted, "If-Range": _sendable(self.etag)} if self.etag else {"Range": wanted})

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """See which part comes."""
        etag = headers.get("ETag", "")
        if not etag:
            message = "the answer has no ETag, so it is not the file"
            raise BrokenAnswer(message)
        if self.etag and etag != self.etag and self._is_any:
            # Nobody has got anything of what it was before.
            self.etag, self._end = "", None if self._last is None else self._last + 1
            self.content.clear()
            message = "the file has become another since a part of it came"
            raise BrokenAnswer(message)
        if self._is_any and status != _PARTIAL:
            message = "the answer is not a part, although one was asked for"
            raise BrokenAnswer(message)
        if etag != (self.etag or etag) or status != _PARTIAL:
            self.has_changed = True
            raise Changed
        first, last, size = _range_of(headers)
        if first != self._first + len(self.content):
            message = "the answer is another part than was asked for"
            raise BrokenAnswer(message)
        if self._is_any and not self.etag:
            # It may have become shorter since it was listed.
            self._end = size if self._end is None else min(self._end, size)
        if last + 1 != self._end:
            message = "the answer is another part than was asked for"
            raise BrokenAnswer(message)
        self.etag, self.size = etag, size

    def take(self, piece: bytes | memoryview) -> None:
        """Append to it, but no more than was asked for."""
        if self._end is not None and self._first + len(self.content) + len(piece) > self._end:
            message = "the answer is longer than what was asked for"
            raise BrokenAnswer(message)
        self.content += piece

    def end(self) -> None:
        """See that nothing is missing."""
        if self._end is None or self._first + len(self.content) != self._end:
            message = "the answer is another part than was asked for"
            raise BrokenAnswer(message)

    def begin_anew(self) -> None:
        """Note that the file is shorter than that."""
        self.has_changed = True
        raise Changed


class BundleReceiver(Generic[_S]):
    """Takes many small files that come as one archive, and those again that did not come whole.

    Parameters
    ----------
    most
        Their paths, as the service has them, and how many bytes each can have at most.
    open_sink
        Called with a path and its records; returns where that file goes.
    close_sink
        Called with a path and whether the file is complete.
    """

    def __init__(
        self,
        most: Mapping[str, int],
        open_sink: Callable[[str, Mapping[str, str]], _S],
        close_sink: Callable[[str, _S, bool], None],
        arrived: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._missing = dict(most)
        self.too_large: list[str] = []
        """Those that have more bytes than they can have; they are not taken."""
        self._open_sink, self._close_sink = open_sink, close_sink
        self._arrived = arrived
        self._archive: TarStream | None = None
        self._open: _Member[_S] | None = None
        self.received = 0
        """How many files need not be asked for any more."""

    @property
    def missing(self) -> list[str]:
        """The paths of those that have not come."""
        return list(self._missing)

    def request(self) -> StreamRequest:
        """Ask for the files that are missing."""
        self.settle()
        return StreamRequest({"Content-Type": "application/json"}, orjson.dumps(self.missing))

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """See whether it is an archive."""
        given = headers.get("Content-Type", "")
        if status == _PARTIAL or given.partition(";")[0].strip() != _TAR:
            message = f"the answer is {given or 'nothing'}, and not an archive"
            raise BrokenAnswer(message)
        self._archive = TarStream(self._begin_member)

    def take(self, piece: bytes | memoryview) -> None:
        """Unpack what has arrived."""
        assert self._archive is not None
        self._archive.take(piece)

    def end(self) -> None:
        """See that it was all; files that are not in it do not exist any more, or cannot be read."""
        if self._archive is None or not self._archive.is_complete:
            message = "the archive has no end"
            raise BrokenAnswer(message)

    def begin_anew(self) -> None:
        """Do nothing: only ranges can be out of reach."""

    def settle(self) -> None:
        """Close the file that broke off, if there is one."""
        member, self._open = self._open, None
        if member is not None:
            self._arrived(-member.sink.size)
            self._close_sink(member.path, member.sink, False)  # noqa: FBT003 - it is not complete

    def _begin_member(self, path: str, size: int, records: Mapping[str, str]) -> _Member[_S]:
        most = self._missing.get(path)
        if most is None:
            message = f"the service offers {path!r}, which is not downloaded: it was not asked for"
            raise DownloadFailed(message)
        if size > most:
            del self._missing[path]
            self.too_large.append(path)
            self.received += 1
            message = f"{path!r} has more bytes than it can have"
            raise BrokenAnswer(message)  # so that the rest is asked for without it
        self._open = _Member(self, path, self._open_sink(path, records))
        return self._open

    def _end_member(self, member: _Member[_S]) -> None:
        self._open = None
        del self._missing[member.path]
        self.received += 1
        self._close_sink(member.path, member.sink, True)  # noqa: FBT003 - it is complete

    def _take(self, member: _Member[_S], piece: bytes) -> None:
        member.sink.write(piece)
        self._arrived(len(piece))


class _Member(Generic[_S]):
    """One file of a bundle."""

    def __init__(self, bundle: BundleReceiver[_S], path: str, sink: _S) -> None:
        self._bundle = bundle
        self.path = path
        self.sink = sink

    def take(self, piece: bytes) -> None:
        self._bundle._take(self, piece)  # noqa: SLF001 - of this file

    def end(self) -> None:
        self._bundle._end_member(self)  # noqa: SLF001 - as above


def _range_of(headers: Mapping[str, str]) -> tuple[int, int, int]:
    """Return the first and the last place of what comes, and the size of the whole file."""
    numbers = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if numbers is None:
        message = "the answer does not say which part of the file it is"
        raise BrokenAnswer(message)
    return int(numbers[1]), int(numbers[2]), int(numbers[3])


def _sendable(etag: str) -> str:
    if not etag.isprintable():
        message = f"the service says {etag!r} as the ETag of a file, which no header can hold"
        raise InvalidResponse(message)
    return etag


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
