"""What lies beside a script and is not part of its run: data that git does not hold, and what an ignore file excludes.

Caches, environments and what version control itself keeps are nobody's data, and are not told.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.shared.wire import grid_home

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from grid.source.finding import Source

_SECONDS = 0.5
_FILES_SHOWN = 3
"""How many files of one folder are told one by one."""
_FOLDERS_SHOWN = 10
"""How many folders of one folder are told one by one."""
_SHOWN_IN_ROOT = 100
_AT_ONCE = 64
_STEP = 256
"""How many files of a folder are looked at between two looks at the clock."""
_REST = "…"
_KILO = 1000
_ONE_DIGIT = 10

_NOT_TOLD = frozenset(
    (
        ".bzr .cache .coverage .direnv .DS_Store .eggs .git .hg .hypothesis .idea .ipynb_checkpoints .mypy_cache .nox "
        ".pixi .pytest_cache .pytype .ruff_cache .svn .tox .venv .vscode __pycache__ __pypackages__ node_modules "
        "Thumbs.db venv"
    ).split()
)
_ENDS_NOT_TOLD = (".pyc", ".egg-info", ".swp", "~")
_SIGNS = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")
"""What makes a folder an environment of Python, one of conda, or a cache, whatever its name is."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is not part of a run.

    Attributes
    ----------
    path
        Below the root of the source code. A folder, of which nothing is part of the run, ends with ``/``; ``folder/*``
        stands for several things in a folder of which other things are part; ``…`` for what was not looked at in time.
    size
        In bytes.
    is_at_least
        Whether the time was up before all of it was sized.
    """

    path: str
    size: int
    is_at_least: bool = False

    def __str__(self) -> str:
        return f"{self.path} ({'at least ' if self.is_at_least else ''}{size_text(self.size)})"


def size_text(size: float) -> str:
    """Return a number of bytes as people read it, in powers of 1000, as disks are sold."""
    if size < _KILO:
        return f"{size:.0f} byte{'s' * (size != 1)}"
    units = iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    size /= _KILO
    while size >= _KILO and unit != "TB":
        unit = next(units)
        size /= _KILO
    return f"{size:.{1 if size < _ONE_DIGIT else 0}f}".removesuffix(".0") + f" {unit}"


def left_out(
    source: Source, *, below: str = "", seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic
) -> list[LeftOut]:
    """Find what lies below the root of some source code and is not part of it, the largest first.

    Parameters
    ----------
    source
        The source code.
    below
        The folder, of which something is part of it, that is looked into; all of it if this is left out.
    seconds
        How long this may take. What is not sized by then says so.
    clock
        Tells the time, in seconds.
    """
    deadline = clock() + seconds
    found: list[_Sizing] = []
    search = _search(source, below, found)
    is_whole = all(clock() < deadline for _ in search)
    search.close()
    waiting, active = deque(found), deque[_Sizing]()
    while clock() < deadline:
        # In turns, so that the small ones get their size however large another one is. Each has a folder open.
        while waiting and len(active) < _AT_ONCE:
            active.append(waiting.popleft())
        if not active:
            break
        sizing = active.popleft()
        if next(sizing.steps, None) is not None:
            active.append(sizing)
    told = [LeftOut(each.path, each.size, not each.is_whole) for each in found if each.holds_files or not each.is_whole]
    if not is_whole:
        told.append(LeftOut(_REST, 0, is_at_least=True))
    for each in found:
        each.steps.close()
    return sorted(told, key=lambda each: (-each.size, each.path))


def is_told(name: str) -> bool:
    """Return whether a file or folder of that name may be missed by somebody: neither cache nor environment."""
    return name not in _NOT_TOLD and not name.endswith(_ENDS_NOT_TOLD)


def _search(source: Source, below: str, found: list[_Sizing]) -> Generator[None]:
    """Find what is left out, a folder that is partly in the source code at each step."""
    folders = source.folders()
    waiting = deque([f"{below}/" if below else ""])
    home = str(grid_home())
    while waiting:
        prefix = waiting.popleft()
        files: list[os.DirEntry[str]] = []
        whole: list[os.DirEntry[str]] = []
        for item in _scan(os.path.join(source.root, prefix)):
            if item is None:
                yield
                continue
            path = prefix + item.name
            if path in folders:
                if not item.is_symlink():
                    waiting.append(f"{path}/")
            elif path not in source.files and is_told(item.name) and item.path != home:
                # A link counts as what it leads to: it is how people keep their data elsewhere.
                (whole if _is_folder(item, follow=True) else files).append(item)
        found += _grouped(prefix, files, whole)
        yield


def _grouped(prefix: str, files: list[os.DirEntry[str]], whole: list[os.DirEntry[str]]) -> Iterator[_Sizing]:
    """Yield what is told of one folder: some things one by one, too many of them together."""
    rest: list[os.DirEntry[str]] = []
    for some, most, end in ((files, _FILES_SHOWN, ""), (whole, _FOLDERS_SHOWN, "/")):
        if len(some) > (most if prefix else _SHOWN_IN_ROOT):
            rest += some
        else:
            for item in some:
                yield _Sizing(f"{prefix}{item.name}{end}", [item])
    if rest:
        yield _Sizing(f"{prefix}*", rest)


class _Sizing:
    """Sizes one thing that is told, as far as its steps are taken."""

    def __init__(self, path: str, items: list[os.DirEntry[str]]) -> None:
        self.path = path
        self.size = 0
        self.holds_files = False
        self.is_whole = False
        self.steps = self._steps(items)

    def _steps(self, items: list[os.DirEntry[str]]) -> Generator[bool]:
        folders: list[str] = []
        for item in items:
            self._count(item, folders, follow=True)
            yield True
        while folders:
            # Deeper down no link is followed: it would count things twice, or never end.
            for inner in _scan(folders.pop()):
                if inner is None:
                    yield True
                elif is_told(inner.name):
                    self._count(inner, folders, follow=False)
        self.is_whole = True

    def _count(self, item: os.DirEntry[str], folders: list[str], *, follow: bool) -> None:
        if _is_folder(item, follow=follow):
            if not any(os.path.lexists(os.path.join(item.path, sign)) for sign in _SIGNS):
                folders.append(item.path)
            return
        try:
            status = item.stat(follow_symlinks=follow)
        except OSError:  # a link to nowhere, or it is gone
            self.holds_files |= item.is_symlink()
            return
        if stat.S_ISREG(status.st_mode):
            self.size += status.st_size
        self.holds_files |= stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)


def _scan(folder: str) -> Generator[os.DirEntry[str] | None]:
    """Yield what a folder holds, and None now and then, and at its end, so that the caller can look at the clock.

    Nothing comes of a folder that cannot be read: no run would read it either.
    """
    try:
        with os.scandir(folder) as scan:
            for number, item in enumerate(scan):
                if number % _STEP == _STEP - 1:
                    yield None
                yield item
    except OSError:
        pass
    yield None


def _is_folder(item: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return item.is_dir(follow_symlinks=follow)
    except OSError:
        return False
