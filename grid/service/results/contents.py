"""The content of artifacts, as it is sent: read in threads, piece by piece, and never more of it than there was."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Self

from grid.service.executors.protocol import Files, FileState
from grid.service.results.artifacts import Attempt
from grid.service.results.bundles import Changed, archive, is_whole
from grid.service.results.digests import Digests

_THREADS = 8
_PIECE = 1 << 20
"""How many bytes are read at once. Two pieces are held for each file that is sent: one on its way, and the next."""


class Contents:
    """Opens artifacts for sending.

    Parameters
    ----------
    files
        Where they lie.
    digests
        Where the digest of one that was sent whole is kept.
    """

    def __init__(self, files: Files, digests: Digests) -> None:
        self._files = files
        self._digests = digests
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="grid-contents")

    def close(self) -> None:
        """Read no more."""
        self._threads.shutdown(cancel_futures=True)

    async def open(self, attempt: Attempt, path: str) -> Content | None:
        """Open the file of that path; None if it is not there, or cannot be read."""
        loop = asyncio.get_running_loop()

        def find() -> Content | None:
            found = self._files.open(attempt.written, path)
            if found is None:
                return None
            is_hashed = attempt.has_ended and self._digests.kept(attempt.written, [found[1]]) == [None]
            return Content(self._threads, self._digests if is_hashed else None, attempt, *found)

        return await loop.run_in_executor(self._threads, find)

    async def bundle(self, attempt: Attempt, paths: Sequence[str]) -> AsyncIterator[bytes]:
        """Yield an archive of the files of these paths, as `bundles.archive` does; the next piece is made meanwhile."""
        loop = asyncio.get_running_loop()
        pieces = archive(self._files, self._digests, attempt, paths)
        making = loop.run_in_executor(self._threads, next, pieces, None)
        try:
            while (piece := await asyncio.shield(making)) is not None:
                making = loop.run_in_executor(self._threads, next, pieces, None)
                yield piece
        finally:
            await asyncio.wait([making])
            await loop.run_in_executor(self._threads, pieces.close)


class Content:
    """An open file, which somebody must close.

    Parameters
    ----------
    threads
        Where it is read.
    digests
        Where its digest is kept; None if it is not computed: it is known, or the attempt goes on.
    attempt
        Whose it is.
    file
        The open file.
    state
        How it was when it was opened.
    """

    def __init__(
        self, threads: ThreadPoolExecutor, digests: Digests | None, attempt: Attempt, file: BinaryIO, state: FileState
    ) -> None:
        self._threads = threads
        self._digests = digests
        self._attempt = attempt
        self._file = file
        self.state = state

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._file.close()

    async def pieces(self, part: range) -> AsyncIterator[bytes]:
        """Yield a part of it, piece by piece; the next piece is read while one is used.

        Raises
        ------
        Changed
            If it was overwritten meanwhile, or there is less of it: the last piece is then not yielded.
        """
        loop = asyncio.get_running_loop()
        hasher = hashlib.sha256() if part == range(self.state.size) and self._digests is not None else None

        def read(left: int) -> bytes:
            piece = self._file.read(min(left, _PIECE))
            if hasher is not None:
                hasher.update(piece)
            return b"" if len(piece) == left and not is_whole(self._file, self.state) else piece

        left = len(part)
        self._file.seek(part.start)
        reading = loop.run_in_executor(self._threads, read, left)
        try:
            while left:
                piece = await asyncio.shield(reading)
                if not piece:
                    raise Changed
                left -= len(piece)
                if left:
                    reading = loop.run_in_executor(self._threads, read, left)
                yield piece
        finally:
            await asyncio.wait([reading])  # nobody may read from a closed file, which may be another one by then
        if hasher is not None and self._digests is not None:
            digests = {self.state: hasher.hexdigest()}
            await loop.run_in_executor(self._threads, self._digests.keep, self._attempt.written, digests)
