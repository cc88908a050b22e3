"""An artifact as a file that is open for reading: each read asks for a range."""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grid.chain import loop
from grid.downloads.receivers import Changed, RangeReceiver

if TYPE_CHECKING:
    from grid.downloads.remote import Remote
    from grid.models import ArtifactRecord

__all__ = ["RemoteFile"]


class RemoteFile(io.RawIOBase):
    """An open artifact; without a buffer, so that each read is a request.

    Parameters
    ----------
    remote
        Where it is.
    record
        What it was when it was opened. While its script runs, what it is when it is first read counts: if it has
        changed after that, nothing more is read of it.
    """

    def __init__(self, remote: Remote, record: ArtifactRecord) -> None:
        super().__init__()
        self._remote = remote
        self._record = record
        self._size = int(record.size)
        self._etag = record.etag if remote.had_ended else ""
        self._place = 0

    @property
    def name(self) -> str:
        """The path of the artifact."""
        return self._record.path

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file, and return it."""
        self._check_open()
        if whence == os.SEEK_END and not self._etag:
            self._etag = self._record.etag  # from here on its size is known to whoever reads it
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}.get(whence)
        if start is None or start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place in the file."""
        self._check_open()
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read what fits."""
        view = memoryview(buffer).cast("B")
        content = self._read(len(view))
        view[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        """Read the rest with one request."""
        return bytes(self._read(None))

    def _read(self, count: int | None) -> bytes | bytearray:
        self._check_open()
        if self._etag:
            count = min(self._size - self._place, self._size if count is None else count)
        if count is not None and count <= 0:
            return b""
        last = None if count is None else self._place + count - 1
        receiver = RangeReceiver(self._place, last, self._etag)
        with suppress(Changed):
            if not loop.run(self._remote.receive(self._record, receiver)):
                raise FileNotFoundError(errno.ENOENT, "it was removed while it was read", self.name)
        if receiver.has_changed and self._etag:
            raise OSError(errno.ESTALE, "it was changed while it was read", self.name)
        if receiver.has_changed:  # nothing is there yet
            return b""
        self._etag, self._size = receiver.etag, receiver.size
        self._place += len(receiver.content)
        return receiver.content

    def _check_open(self) -> None:
        if self.closed:
            message = "I/O operation on closed file"
            raise ValueError(message)
