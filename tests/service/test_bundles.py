"""Many files as one archive, of which some are overwritten while they are read."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from grid.service.executors.protocol import FileState, Written
from grid.service.executors.room_files import state_of
from grid.service.results.artifacts import Attempt
from grid.service.results.bundles import archive

ATTEMPT = Attempt(Written("0" * 32, 1, 1), "", has_ended=False)


class Overwritten(io.FileIO):
    """An open file that another program writes to after every time that somebody has read of it."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(-1 if size is None else size)
        now = os.fstat(self.fileno()).st_mtime_ns + 1_000_000
        with open(self.name, "r+b") as theirs:
            theirs.write(now.to_bytes(8, "big"))
        os.utime(self.name, ns=(now, now))
        return content


class Files:
    """The files of one folder, opened as an executor does it."""

    def __init__(self, folder: Path, restless: str) -> None:
        self._folder = folder
        self._restless = restless

    def open_all(self, attempt: Written, snapshot: str, paths: Iterable[str]) -> Iterator[tuple[BinaryIO, FileState]]:
        for path in paths:
            kind = Overwritten if path == self._restless else io.FileIO
            with kind(str(self._folder / path), "rb") as file:
                yield cast("BinaryIO", file), state_of(path, os.fstat(file.fileno()))


@pytest.mark.parametrize("restless", ["a", "b", "c"])
def test_small_file_that_is_overwritten_each_time(tmp_path: Path, restless: str) -> None:
    """It is left out, wherever it stands, and all others are there, whole."""
    contents = {name: name.encode() * 100_000 for name in "abc"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files: Any = Files(tmp_path, restless)
    nowhere: Any = None  # while an attempt goes on, no digest is kept
    body = b"".join(archive(files, nowhere, ATTEMPT, "abc"))
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert found == {name: content for name, content in contents.items() if name != restless}
