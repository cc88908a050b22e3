"""What of a script's room counts as a file that it has made or changed, in the order of paths.

A script may change the tree while it is walked through: whatever is no longer as it was is left out, and the walk goes
on behind it.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from io import FileIO
from types import TracebackType
from typing import BinaryIO, cast

from grid.service.executors.protocol import FileState, Passed
from grid.service.executors.supervisor.working_copy import are_equal
from grid.service.system.spelling import spelled, unspelled
from grid.service.system.walking import Place

_CACHE = "__pycache__"
_AT_ONCE = 2_000
"""How many entries of a folder are taken up at a time: it may have a million, and a page has room for a thousand."""
_IN_ALL = 50_000
"""How many entries are held at a time, of all folders on the way to where the walk is."""
_PATIENCE = 1_000
"""After how many folders and other files a walk says where it is: there may be any number of them on the way."""
_LONGEST = 16 << 10
"""The bytes of the longest path that is listed. In an address each may take three, and an address ends at 64 KiB."""
_TICK = 10_000
"""By how many microseconds at most the times of files are behind the clock, on Linux."""
_AFTER_SLASH = chr(ord("/") + 1)
_FAULTS = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What says nothing about the tree, but that it cannot be read now."""


class IfThere(suppress):
    """Leaves out what is not there, may not be read or changes meanwhile; raises what is wrong with this machine."""

    def __init__(self) -> None:
        super().__init__(OSError)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Go on after an error that tells about the tree."""
        return getattr(error, "errno", None) not in _FAULTS and super().__exit__(kind, error, trace)


def opened(place: Place, name: str, path: str) -> tuple[BinaryIO, FileState] | None:
    """Open a regular file of a folder, and return it with its state; None if it is none, or something is mounted there.

    Raises
    ------
    OSError
        If it is not there, or cannot be opened.
    """
    descriptor = place.open_file(name)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or place.is_mounted(descriptor):
            os.close(descriptor)
            return None
    except BaseException:
        os.close(descriptor)
        raise
    return cast("BinaryIO", FileIO(descriptor, "rb")), state_of(path, status)


def state_of(path: str, status: os.stat_result) -> FileState:
    """Return the state of the file of that path."""
    return FileState(
        path, status.st_size, status.st_mtime_ns // 1000, status.st_ino, changed_at=status.st_ctime_ns // 1000
    )


class Tree:
    """A tree of files, and the snapshot that it was made from.

    Parameters
    ----------
    enter
        Opens its root.
    prefix
        What the paths of all of its files begin with.
    without
        An entry of the root that does not belong to it.
    snapshot
        The path of the snapshot; None if it was not made from one.
    started_at
        When the first script was started that may have changed it, in microseconds since the epoch; None if not known,
        or if more scripts than one may have: then contents are compared.
    """

    def __init__(
        self,
        enter: Callable[[], Place],
        prefix: str,
        *,
        without: str | None = None,
        snapshot: str | None = None,
        started_at: int | None = None,
    ) -> None:
        self._enter = enter
        self._prefix = prefix
        self._without = without
        self._snapshot = snapshot
        self._started_at = started_at

    def find(self, path: str) -> FileState | None:
        """Return the file of that path; None if there is none, or it is not one that `files` yields."""
        above, slash, name = path.rpartition("/")
        with IfThere():
            walk = self.reach(above + slash)
            if walk is not None:
                with closing(walk):
                    found = self.open(walk, name, path)
                    if found is not None:
                        found[0].close()
                        return found[1]
        return None

    def reach(self, folder: str) -> Walk | None:
        """Go to a folder, given as the paths of its files begin; None if none is listed that does.

        Raises
        ------
        OSError
            If it is not there, or cannot be opened.
        """
        names = [unspelled(part) for part in folder.removeprefix(self._prefix).split("/")[:-1]]
        if None in names or _CACHE in names or names[:1] == [self._without] or _is_too_long(folder):
            return None
        walk = Walk(self._enter(), self._snapshot)
        try:
            for name in filter(None, names):
                walk.down(name)
        except BaseException:
            walk.close()
            raise
        return walk

    def open(self, walk: Walk, name: str, path: str) -> tuple[BinaryIO, FileState] | None:
        """Open a file of the folder that a walk has reached, if `files` yields it. Its name is spelled as in its path.

        Raises
        ------
        OSError
            If it is not there, or cannot be opened.
        """
        known = unspelled(name)
        if known is None or _is_too_long(path) or path == f"{self._prefix}{self._without}":
            return None
        status = os.stat(known, dir_fd=walk.place.folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or self._is_unchanged(walk, known, status):
            return None
        return opened(walk.place, known, path)

    def files(self, start: str = "") -> Iterator[FileState | Passed]:
        """Yield its files whose paths are not before `start`, in the order of their paths, and how far it has come."""
        place = _Start(start)
        is_lost = True
        while is_lost:
            try:
                is_lost = False
                with IfThere():
                    yield from self._files(place)
            except _Lost:  # a folder was moved away, and with it the way back: go on behind it
                is_lost = True

    def _files(self, start: _Start) -> Iterator[FileState | Passed]:
        with closing(Walk(self._enter(), self._snapshot)) as walk:
            way = _Way(self._prefix)
            fruitless = 0
            while way.folders:
                folder = way.folders[-1]
                if folder.waiting is None:
                    self._look(walk, way, start)
                    way.limit()
                if not folder.waiting:
                    if folder.has_more:
                        folder.waiting = None
                        continue
                    left = way.leave()
                    if way.folders:
                        start.path = left[:-1] + _AFTER_SLASH
                        walk.up()
                    continue
                key, name = way.next()
                path = way.prefix + key
                if key.endswith("/"):
                    start.path = max(start.path, path)
                    with IfThere():  # and nothing is mounted on it
                        walk.down(name)
                        way.enter(path)
                else:
                    start.path = f"{path}\0"
                    state = self._state(walk, name, path)
                    if state is not None:
                        yield state
                        continue
                fruitless += 1
                if fruitless % _PATIENCE == 0:
                    yield Passed(path)

    def _look(self, walk: Walk, way: _Way, start: _Start) -> None:
        """Take up the first entries of a folder that are not done with."""
        prefix, is_root = way.prefix, len(way.folders) == 1

        def entries() -> Iterator[tuple[str, str]]:
            with os.scandir(walk.place.folder) as found:
                for entry in found:
                    if entry.is_symlink() or (is_root and entry.name == self._without):
                        continue
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder and entry.name == _CACHE:
                        continue
                    # As it stands in the paths of what is in it, so that these come where the folder comes.
                    key = spelled(entry.name) + ("/" if is_folder else "")
                    path = prefix + key
                    if _is_too_long(path):
                        continue
                    if path >= start.path or (is_folder and start.path.startswith(path)):
                        yield key, entry.name

        first: list[tuple[str, str]] = []
        with IfThere():
            first = heapq.nsmallest(_AT_ONCE + 1, entries())
        way.take_up(first[:_AT_ONCE][::-1], has_more=len(first) > _AT_ONCE)

    def _state(self, walk: Walk, name: str, path: str) -> FileState | None:
        """Return the state of a file that is to be listed: one that can be fetched, which only opening it tells."""
        with IfThere():
            status = os.stat(name, dir_fd=walk.place.folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and not self._is_unchanged(walk, name, status):
                found = opened(walk.place, name, path)
                if found is not None:
                    found[0].close()
                    return found[1]
        return None

    def _is_unchanged(self, walk: Walk, name: str, status: os.stat_result) -> bool:
        if walk.source is None:
            return False
        try:
            source = os.stat(name, dir_fd=walk.source.folder, follow_symlinks=False)
        except OSError:
            return False
        if not stat.S_ISREG(source.st_mode) or source.st_size != status.st_size:
            return False
        # The copy was given the time of its source. A script may give it that time again, but not change it unnoticed.
        is_copy = self._started_at is not None and status.st_ctime_ns // 1000 < self._started_at - _TICK
        if source.st_mtime_ns == status.st_mtime_ns and is_copy:
            return True
        return are_equal(walk.source, walk.place, name)


@dataclass(slots=True)
class _Start:
    """Where to begin: paths before it are done with."""

    path: str


@dataclass(slots=True)
class _Folder:
    """A folder on the way to where a walk is."""

    length: int
    """How much of the path to where the walk is what is in it begins with."""
    waiting: list[tuple[str, str]] | None = None
    """Its next entries, the first one last, each with its part of the path; None if it must be looked at (again)."""
    has_more: bool = False
    """Whether it has more entries than these."""


class _Way:
    """The folders on the way to where a walk is: however many there are, a step takes no longer."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        """What the paths of what is in the last one begin with."""
        self.folders = [_Folder(len(prefix))]
        self._held = 0
        self._forgotten = 0  # how many of the outer folders hold nothing

    def enter(self, prefix: str) -> None:
        """Go on in a folder of the last one."""
        self.prefix = prefix
        self.folders.append(_Folder(len(prefix)))

    def leave(self) -> str:
        """Go back from the last one, of which nothing is waiting; return what its paths began with."""
        left = self.prefix
        self.folders.pop()
        self._forgotten = min(self._forgotten, max(len(self.folders) - 1, 0))
        self.prefix = left[: self.folders[-1].length] if self.folders else ""
        return left

    def take_up(self, entries: list[tuple[str, str]], *, has_more: bool) -> None:
        """Note the next entries of the last one."""
        self.folders[-1].waiting, self.folders[-1].has_more = entries, has_more
        self._held += len(entries)

    def next(self) -> tuple[str, str]:
        """Return the next entry of the last one, which has one."""
        waiting = self.folders[-1].waiting
        assert waiting
        self._held -= 1
        return waiting.pop()

    def limit(self) -> None:
        """Forget entries of outer folders if all together are too many: they are looked at again on the way back."""
        while self._held > _IN_ALL and self._forgotten < len(self.folders) - 1:
            folder = self.folders[self._forgotten]
            self._held -= len(folder.waiting or ())
            folder.waiting = None
            self._forgotten += 1


def _is_too_long(path: str) -> bool:
    return len(path) > _LONGEST or (not path.isascii() and len(path.encode()) > _LONGEST)


class _Lost(Exception):
    """There is no way back to the folder above."""


class Walk:
    """A walk through a tree, and through a snapshot as far as that has the same folders."""

    def __init__(self, place: Place, snapshot: str | None) -> None:
        self.place = place
        self._source: Place | None = None
        self._beyond = 0
        """How many folders deep it is in what the snapshot does not have."""
        if snapshot is not None:
            with IfThere():
                self._source = Place(snapshot)

    @property
    def source(self) -> Place | None:
        """The same folder of the snapshot, if it has it."""
        return None if self._beyond else self._source

    def down(self, name: str) -> None:
        """Go to a folder in this one."""
        self.place.down(name)
        if self._beyond or self._source is None:
            self._beyond += 1
            return
        try:
            self._source.down(name)
        except OSError:
            self._beyond += 1

    def up(self) -> None:
        """Go back to the folder around this one."""
        try:
            self.place.up()
            if self._beyond:
                self._beyond -= 1
            elif self._source is not None:
                self._source.up()
        except OSError as error:
            if error.errno in _FAULTS:
                raise
            raise _Lost from error

    def close(self) -> None:
        """Leave both."""
        self.place.close()
        if self._source is not None:
            self._source.close()
