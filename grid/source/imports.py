"""From where the scripts of a run would import the packages of its own source code: what is mended, and what is told.

A project that is installed with ``pip install -e`` is imported from the folder in which its user works, and not from
the commit that was sent. The folders that such installs name are therefore looked into first, in the working copy.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from grid.source.sizes import some_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from grid.source.finding import Source
    from grid.source.installed import Installed, Project

_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_GRID = str(Path(__file__).parents[2])
"""Where Grid itself is. That it may be changed while runs are under way is known to those who work on it."""


_LIVE = "scripts import what lies there when they run, not what lay there at the start"


@dataclass(frozen=True, slots=True)
class Imports:
    """How the scripts of a run find its packages.

    Attributes
    ----------
    paths
        The folders below the root into which Python looks first, in the working copy; ``.`` is the root.
    warnings
        What is imported from elsewhere.
    """

    paths: tuple[str, ...]
    warnings: tuple[str, ...]


def imports_of(source: Source, found: Installed, *, folder: str, python_path: str = "") -> Imports:
    """Find how the scripts of a run will find its packages, and which of them they will not.

    Parameters
    ----------
    source
        The source code.
    found
        What is installed for the interpreter that runs the scripts.
    folder
        The folder below the root in which they start.
    python_path
        The run's own ``PYTHONPATH``.
    """
    have = source.folders() | {""}
    paths: dict[str, None] = {}
    led: list[str] = []  # the folders and files of the live tree that are mended
    stray: list[str] = []
    for entry, above in _entries(found):
        inside = _inside(entry, source.root)
        if inside is None:
            continue
        below = None if above is None else _inside(above, source.root)
        if below is None or below not in have:
            stray.append(entry)
        else:
            paths[below or "."] = None
            led.append(entry)
    ours = [each for each in found.projects if _inside(each.folder, source.root) is not None]
    loose = _loose(ours, led, stray)
    warnings = []
    if loose:
        warnings.append(f"pip install -e of {_shown(loose)} cannot be led to the source code of the run: {_LIVE}")
    outside = [each for each in found.projects if _inside(each.folder, source.root) is None and not _is_grid(each)]
    if outside:
        warnings.append(f"pip install -e of {_shown(outside)} is not part of the source code of the run: {_LIVE}")
    for name, place in _from_elsewhere(source, found, _search_path(source, found, list(paths), folder, python_path)):
        if not any(_is_below(place, each.folder) for each in loose):
            warnings.append(f"scripts would import {name} from {place}, and not from the source code of the run")
    return Imports(tuple(paths), tuple(warnings))


def _entries(found: Installed) -> Iterator[tuple[str, str | None]]:
    """Yield where installs lead, each with the folder that Python must look into to find the same there.

    No such folder makes Python find a package under another name than its folder's.
    """
    for path in found.added:
        yield path, path
    for name, path in found.mapped.items():
        parts = name.split(".")
        fits = path.split(os.sep)[-len(parts) :] == parts
        yield path, os.sep.join(path.split(os.sep)[: -len(parts)]) if fits else None


def _loose(projects: Sequence[Project], led: Iterable[str], stray: Iterable[str]) -> list[Project]:
    """Return the projects that are not imported from the run's own source code: nothing of them is led there."""

    def owner(path: str) -> Project | None:
        around = [each for each in projects if _is_below(path, each.folder)]
        return max(around, key=lambda each: len(each.folder), default=None)

    well = {owner(path) for path in led}
    ill = {owner(path) for path in stray}
    return [each for each in projects if each in ill or each not in well]


_Entry = tuple[bool, str]
"""Where Python looks: whether that is in the working copy, and where, below its root or on this machine."""


def _search_path(source: Source, found: Installed, paths: Iterable[str], folder: str, python_path: str) -> list[_Entry]:
    """Return where the script of a run would look for packages, but for the standard library."""
    runs_here = source.module or not source.script.endswith(".py")
    entries: list[_Entry] = [(True, folder if runs_here else os.path.dirname(source.script))]
    entries += [(True, "" if path == "." else path) for path in paths]
    if source.import_folder is not None:
        entries.append((True, source.import_folder))
    for path in filter(None, python_path.split(os.pathsep)):
        entries.append((False, path) if os.path.isabs(path) else (True, os.path.normpath(os.path.join(folder, path))))
    return entries + [(False, path) for path in found.folders]


def _from_elsewhere(source: Source, found: Installed, entries: Sequence[_Entry]) -> Iterator[tuple[str, str]]:
    """Yield the packages of the source code that would be imported from somewhere else, and from where."""
    for name in sorted(_packages(source, [path for is_copy, path in entries if is_copy])):
        for is_copy, path in entries:
            if is_copy:
                place = f"{path}/{name}".removeprefix("./").lstrip("/")
                if f"{place}/__init__.py" in source.files or f"{place}.py" in source.files:
                    break
            else:
                spec = PathFinder.find_spec(name, [path])
                # Without an origin it is a mere folder, which loses to every package that comes after it.
                if spec is not None and spec.origin is not None:
                    is_package = spec.submodule_search_locations is not None
                    yield name, os.path.dirname(spec.origin) if is_package else spec.origin
                    break
        else:
            if name in found.mapped:
                yield name, found.mapped[name]


def _packages(source: Source, copied: Iterable[str]) -> set[str]:
    """Return the top-level packages of the source code.

    They lie in folders that Python looks into, and in those where projects have them.
    """
    roots = {"", "src", *copied}
    for path in source.files:
        folder, _, name = path.rpartition("/")
        if name in _BUILD_FILES:
            roots |= {folder, f"{folder}/src".lstrip("/")}
    names = set()
    for path in source.files:
        package = path.removesuffix("/__init__.py")
        above, _, name = package.rpartition("/")
        if package != path and above in roots and f"{above}/__init__.py".lstrip("/") not in source.files:
            names.add(name)
    # Nothing of a script's own is expected in place of these, and some are there before anything is looked for.
    return {name for name in names if name.isidentifier()} - set(sys.stdlib_module_names)


def _inside(path: str, root: str) -> str | None:
    """Return a path as it is seen from the root; None if it lies outside."""
    path = os.path.realpath(path)
    if not _is_below(path, root):
        return None
    return "" if path == root else os.path.relpath(path, root).replace(os.sep, "/")


def _is_below(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_grid(project: Project) -> bool:
    return _is_below(_GRID, project.folder)


def _shown(projects: Iterable[Project]) -> str:
    return some_of(f"{each.name} ({each.folder})" for each in projects)
