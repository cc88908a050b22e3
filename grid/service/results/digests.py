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
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grid.service.executors.protocol import Files, FileState, Written
from grid.service.system.workspace import PRIVATE_FILE, PRIVATE_FOLDER, Workspace

if TYPE_CHECKING:
    from _hashlib import HASH

_log = logging.getLogger(__name__)

_NAME = "sha256"
_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{64})\n")
_THREADS = 2
_CHUNK = 1 << 20


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
        self._is_closed = False

    def close(self) -> None:
        """Compute no more."""
        self._is_closed = True
        self._threads.shutdown(cancel_futures=True)

    def kept(self, attempt: Written, states: Iterable[FileState]) -> list[str | None]:
        """Return the digest of each of these files, None where none is kept for it as it is. Blocks."""
        content = b""
        with suppress(OSError):
            content = self._path(attempt).read_bytes()
        known = {key: digest.decode() for key, digest in _LINE.findall(content)}
        return [known.get(_key(state)) for state in states]

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

    def keep(self, attempt: Written, state: FileState, hasher: HASH) -> None:
        """Keep the digest of a file as it was in that state, unless the attempt is being deleted. Blocks."""
        path = self._path(attempt)
        line = b"%s %s\n" % (_key(state), hasher.hexdigest().encode())
        try:
            path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, PRIVATE_FILE)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
            if self._files.state(attempt, state.path) is None:
                # Deleted meanwhile, and what is made of it before or after: nothing may be left.
                path.unlink(missing_ok=True)
                path.parent.rmdir()
        except OSError as error:  # a full disk costs time, and nothing else
            _log.debug("a digest cannot be kept: %s", error)

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
        self.keep(attempt, state, hasher)
        return hasher.hexdigest()

    def _path(self, attempt: Written) -> Path:
        return self._workspace.result(attempt.experiment_id, attempt.number) / _NAME


@dataclass(slots=True)
class _Task:
    """A digest that is computed."""

    future: Future[str | None]
    waiting: int = 0
    """How many wait for it."""


def _key(state: FileState) -> bytes:
    text = repr((state.path, state.inode, state.size, state.modified_at, state.changed_at))
    return hashlib.sha256(text.encode()).hexdigest()[:32].encode()
