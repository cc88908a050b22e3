"""Which file of the source code ``python -m package.module`` runs, and below which folder the module is found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BASES = ("", "src")
"""Where modules are looked for: the root of the source code, and the folder that projects of the `src` layout have."""

_ENTRYPOINT = re.compile(r"-m\s+(.*\S)\s*", re.DOTALL)
_NAME = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")
_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module that was found: the path of its file in the source code, and the folder that leads ``PYTHONPATH``."""

    path: str
    base: str


def module_of(entrypoint: str) -> str:
    """Return the module that an entrypoint such as ``-m package.module`` names; empty if it is the path of a script.

    Raises
    ------
    SourceError
        If what follows ``-m`` is not the name of a module.
    """
    found = _ENTRYPOINT.fullmatch(entrypoint)
    if found is None:
        return ""
    if not _NAME.fullmatch(found[1]):
        advice = "put its arguments into script_args" if " " in found[1] else "give the path of a script without -m"
        msg = f"the entrypoint {entrypoint!r} must name a module after -m, such as '-m package.module'; {advice}"
        raise SourceError(msg)
    return found[1]


def find_module(name: str, files: Collection[str]) -> ModuleFile | None:
    """Find the file that ``python -m`` runs for a module: below the root of the source code, else below ``src``.

    Parameters
    ----------
    name
        The module's name, with dots.
    files
        The paths of all files, with ``/`` between their parts: a set, best.
    """
    folders = {folder for path in files for folder in _parents(path)}
    for base in BASES:
        path = _below(base, name, files, folders)
        if path is not None:
            return ModuleFile(path, base)
    return None


def candidates(name: str) -> list[str]:
    """Return the paths that the file of a module may have, wherever it is found."""
    path = name.replace(".", "/")
    return [_join(base, f"{path}{end}") for base in BASES for end in (".py", "/__main__.py")]


def nearest(name: str, files: Collection[str]) -> list[str]:
    """Return the modules whose names are most like this one, the most like first."""
    import difflib  # noqa: PLC0415 - for a message

    known = {module for path in files for module in _modules(path)}
    last = name.rpartition(".")[2]
    found = difflib.get_close_matches(name, known, _NAMES_SHOWN)
    # Somebody who has left out or mistaken the package still knows the module's own name.
    namesakes = sorted(module for module in known if module.rpartition(".")[2] == last and module not in found)
    return [*namesakes, *found][:_NAMES_SHOWN]


def _below(base: str, name: str, files: Collection[str], folders: Collection[str]) -> str | None:
    """Follow a module's name as Python does: a package wins over a file of that name, and both over a mere folder."""
    *packages, last = name.split(".")
    place = base
    for package in packages:
        place = _join(place, package)
        is_package = f"{place}/__init__.py" in files
        if not is_package and (f"{place}.py" in files or place not in folders):
            return None
    place = _join(place, last)
    main = f"{place}/__main__.py"
    candidates = [main] if f"{place}/__init__.py" in files else [f"{place}.py", main]
    return next((path for path in candidates if path in files), None)


def _modules(path: str) -> Iterator[str]:
    """Yield the names by which ``python -m`` might run a file."""
    if not path.endswith(".py"):
        return
    for base in BASES:
        if base and not path.startswith(f"{base}/"):
            continue
        module = path[len(base) + 1 if base else 0 :].removesuffix(".py").replace("/", ".")
        module = module.removesuffix(".__main__")
        if _NAME.fullmatch(module) and not module.endswith("__init__"):
            yield module


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
