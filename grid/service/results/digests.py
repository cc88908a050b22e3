"""The SHA-256 of artifacts: each is computed once, in one of a few threads, and kept with what tells its content.

They are kept in the attempt's folder below ``results``, a line for each. A line is found by the file's path, inode,
size and times, so that it is not found once the file is another. What cannot be kept is computed again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from grid.service.executors.protocol import Files, FileState, Written
from grid.service.system.workspace import PRIVATE_FILE, PRIVATE_FOLDER, Workspace

_log = logging.getLogger(__name__)

_NAME = "sha256"
_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{64})\n")
_THREADS = 2
_CHUNK = 1 << 20
_ATTEMPTS = 16
"""Of how many attempts the kept digests are held in memory."""


class Digests:
    """Computes digests of files of attempts that have ended, and keeps them.

    Parameters
    ----------
    files
        Where the files lie.
    workspace
        Where digests are kept.
    """

    def __init__(self, files: Files, workspace: Workspace) -> None:
        self._files = files
        self._workspace = workspace
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="grid-digests")
        self._computing: dict[tuple[Written, FileState], _Task] = {}
        self._known: dict[Written, _Known] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Compute no more."""
        self._is_closed = True
        self._threads.shutdown(cancel_futures=True)

    def kept(self, attempt: Written, states: Iterable[FileState]) -> list[str | None]:
        """Return the digest of each of these files, None where none is kept for it as it is. Blocks."""
        with self._lock:
            known = self._known.pop(attempt, None) or _Known()
            with suppress(OSError), self._path(attempt).open("rb") as file:
                known.read(file)
            self._known[attempt] = known
            while len(self._known) > _ATTEMPTS:
                self._known.pop(next(iter(self._known)))
            return [known.digests.get(_key(state)) for state in states]

    async def computed(self, attempt: Written, state: FileState, seconds: float) -> str | None:
        """Return the digest of a file; None if it takes longer than that, or the file is not there as it was."""
        key = (attempt, state)
        task = self._computing.get(key)
        if task is None:
            task = self._computing[key] = _Task(self._threads.submit(self._compute, attempt, state))
        task.waiting += 1
        try:
            done, _ = await asyncio.wait([asyncio.wrap_future(task.future)], timeout=seconds)
        finally:
            task.waiting -= 1
            if not task.waiting and (task.future.done() or task.future.cancel()):  # what has begun goes on
                self._computing.pop(key, None)
        return task.future.result() if done else None

    def keep(self, attempt: Written, digests: Mapping[FileState, str]) -> None:
        """Keep the digests of files as they were in these states, unless the attempt is being deleted. Blocks."""
        states = [state for state, digest in zip(digests, self.kept(attempt, digests), strict=True) if digest is None]
        if not states:
            return
        path = self._path(attempt)
        lines = b"".join(b"%s %s\n" % (_key(state), digests[state].encode()) for state in states)
        try:
            path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, PRIVATE_FILE)
            try:
                os.write(descriptor, lines)
            finally:
                os.close(descriptor)
            if self._files.state(attempt, states[0].path) is None:
                # It may have been deleted: what was made of it before is gone, and nothing may be left of this either.
                path.unlink(missing_ok=True)
                path.parent.rmdir()
        except OSError as error:  # a full disk costs time, and nothing else
            _log.debug("digests cannot be kept: %s", error)

    def _compute(self, attempt: Written, state: FileState) -> str | None:
        (known,) = self.kept(attempt, [state])
        if known is not None:
            return known
        found = self._files.open(attempt, state.path)
        if found is None:
            return None
        hasher, left = hashlib.sha256(), state.size
        with found[0] as file:
            while found[1] == state and left and (piece := file.read(min(_CHUNK, left))):
                hasher.update(piece)
                left -= len(piece)
                if self._is_closed:
                    return None
        if left or self._files.state(attempt, state.path) != state:
            return None
        self.keep(attempt, {state: hasher.hexdigest()})
        return hasher.hexdigest()

    def _path(self, attempt: Written) -> Path:
        return self._workspace.result(attempt.experiment_id, attempt.number) / _NAME


@dataclass(slots=True)
class _Task:
    """A digest that is computed."""

    future: Future[str | None]
    waiting: int = 0
    """How many wait for it."""


@dataclass(slots=True)
class _Known:
    """The digests that are kept of an attempt, as far as they were read."""

    digests: dict[bytes, str] = field(default_factory=dict)
    offset: int = 0

    def read(self, file: BinaryIO) -> None:
        """Read what has come since."""
        if os.fstat(file.fileno()).st_size < self.offset:  # it was made anew
            self.digests.clear()
            self.offset = 0
        file.seek(self.offset)
        whole, end, _ = file.read().rpartition(b"\n")
        self.offset += len(whole) + len(end)
        self.digests |= {key: digest.decode() for key, digest in _LINE.findall(whole + end)}


def _key(state: FileState) -> bytes:
    text = repr((state.path, state.inode, state.size, state.modified_at, state.changed_at))
    return hashlib.sha256(text.encode()).hexdigest()[:32].encode()
