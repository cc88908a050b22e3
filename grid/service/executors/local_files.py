"""The files of attempts on this machine's disk, as `Files`; what of a room is listed is in `room_files`.

Scripts make these trees, and change them while they are read: every folder is opened in the one before it, so that no
link that a script has made leads out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from heapq import merge
from operator import attrgetter
from typing import BinaryIO

from grid.service.executors.protocol import BESIDE, OUTPUT, FileState, Passed, Written
from grid.service.executors.room_files import IfThere, Tree, Walk, opened
from grid.service.system.spelling import unspelled
from grid.service.system.walking import Place
from grid.service.system.workspace import AttemptFolder, Workspace


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
        names = self._names(attempt, path)
        if names is not None:
            with IfThere(), closing(self._place(names[:-1])) as place:
                return opened(place, names[-1], path)
        return None

    def open_all(self, attempt: Written, snapshot: str, paths: Iterable[str]) -> Iterator[tuple[BinaryIO, FileState]]:
        """Open files that `list` yields, leaving out what is not there; each is closed before the next."""
        walk: Walk | None = None
        folder: str | None = None
        tree: Tree | None = None
        try:
            for path in paths:
                above, slash, name = path.rpartition("/")
                if tree is None or above + slash != folder:  # most of them lie in the folder of the one before
                    folder = above + slash
                    if walk is not None:
                        walk.close()
                        walk = None
                    tree = self._tree(attempt, snapshot, path)
                    with IfThere():
                        walk = tree.reach(folder) if self._may_be(attempt, path) else None
                found = None
                if walk is not None:
                    with IfThere():
                        found = tree.open(walk, name, path)
                if found is not None:
                    with found[0]:
                        yield found
        finally:
            if walk is not None:
                walk.close()

    def find(self, attempt: Written, snapshot: str, path: str) -> FileState | None:
        """Return a file that `list` yields; None if it yields none of that path."""
        return self._tree(attempt, snapshot, path).find(path) if self._may_be(attempt, path) else None

    def list(self, attempt: Written, snapshot: str, after: str | None = None) -> Iterator[FileState | Passed]:
        """Yield the files of the room that do not equal the snapshot, in the order of their paths."""
        start = "" if after is None else f"{after}\0"  # the first text that comes after it
        trees = [self._tree(attempt, snapshot, "")]
        if self._folder(attempt).has_room:
            trees.append(self._tree(attempt, snapshot, BESIDE))
        return merge(*(tree.files(start) for tree in trees), key=attrgetter("path"))

    def _may_be(self, attempt: Written, path: str) -> bool:
        return not path.startswith(BESIDE) or self._folder(attempt).has_room

    def _tree(self, attempt: Written, snapshot: str, path: str) -> Tree:
        folder = self._folder(attempt)
        if path.startswith(BESIDE):
            return Tree(lambda: self._place(self._room(folder)), BESIDE, without=folder.work.name)
        source = str(self._workspace.snapshot(snapshot))
        started_at = attempt.started_at if attempt.number == 1 else None
        return Tree(lambda: self._place(self._work(folder)), "", snapshot=source, started_at=started_at)

    def _place(self, names: Sequence[str]) -> Place:
        """Go to a folder, from one that no script has made."""
        place = Place(str(self._workspace.experiments), is_strange=True)
        try:
            for name in names:
                place.down(name)
        except BaseException:
            place.close()
            raise
        return place

    def _names(self, attempt: Written, path: str) -> Sequence[str] | None:
        """Return the names on the way to a file, from the folder of all experiments; None if no file has that path."""
        folder = self._folder(attempt)
        if path == OUTPUT:
            return self._below(folder.output)
        root = self._work(folder)
        if path.startswith(BESIDE):
            path = path.removeprefix(BESIDE)
            root = self._room(folder)
            if not folder.has_room or path.split("/", 1)[0] == folder.work.name:
                return None
        names = [unspelled(part) for part in path.split("/")]
        return None if None in names else [*root, *filter(None, names)]

    def _room(self, folder: AttemptFolder) -> Sequence[str]:
        return self._below(folder.room)

    def _work(self, folder: AttemptFolder) -> Sequence[str]:
        return self._below(folder.work)

    def _below(self, path: os.PathLike[str]) -> Sequence[str]:
        return os.path.relpath(path, self._workspace.experiments).split("/")

    def _folder(self, attempt: Written) -> AttemptFolder:
        return self._workspace.attempt(attempt.experiment_id, attempt.number, attempt.layout)
