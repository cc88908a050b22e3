"""The files of attempts on this machine's disk, as `Files`; what of a room is listed is in `room_files`.

Scripts make these trees, and change them while they are read: every folder is opened in the one before it, so that no
link that a script has made leads out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import BinaryIO

from grid.service.executors.protocol import OUTPUT, FileState, Written
from grid.service.system.walking import Place
from grid.service.system.workspace import AttemptFolder, Workspace

WORK, BESIDE = "work", "beside"
"""What a path in the working copy begins with, and one in the room around it."""


class LocalFiles:
    """The files of attempts below the service's home.

    Parameters
    ----------
    workspace
        Where attempts have their files.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def state(self, attempt: Written, path: str) -> FileState | None:
        """Return how a file is now; None if there is none."""
        found = self.open(attempt, path)
        if found is None:
            return None
        found[0].close()
        return found[1]

    def read(self, attempt: Written, path: str, offset: int, limit: int) -> bytes:
        """Return at most `limit` bytes of a file from an offset on; fewer at its end, none if it is not there."""
        found = self.open(attempt, path)
        if found is None:
            return b""
        with found[0] as file:
            return os.pread(file.fileno(), limit, offset)

    def open(self, attempt: Written, path: str) -> tuple[BinaryIO, FileState] | None:
        """Open a file for reading, and return it with its state; None if there is none."""
        root, *parts = self._parts(attempt, path)
        descriptor = None
        with suppress(OSError), closing(Place(root, is_strange=True)) as place:
            for part in parts[:-1]:
                place.down(part)
            descriptor = place.open_file(parts[-1])
        if descriptor is None:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        file = os.fdopen(descriptor, "rb", buffering=0)
        return file, FileState(path, status.st_size, status.st_mtime_ns // 1000, status.st_ino)

    def list(self, attempt: Written, snapshot: str, after: str | None = None) -> Iterator[FileState]:
        """Yield the files of the room that do not equal the snapshot, in the order of their paths."""
        raise NotImplementedError

    def _parts(self, attempt: Written, path: str) -> Sequence[str]:
        folder = self._folder(attempt)
        if path == OUTPUT:
            return [str(folder.path), folder.output.name]
        first, *parts = path.split("/")
        root = {WORK: folder.work, BESIDE: folder.room}[first]
        return [str(root), *parts]

    def _folder(self, attempt: Written) -> AttemptFolder:
        return self._workspace.attempt(*attempt)
