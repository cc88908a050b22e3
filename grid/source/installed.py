"""What is installed for this interpreter in a way that leads elsewhere: editable installs, and other paths it is given.

Everything is read as text: nothing of it is imported or executed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import site
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_IMPORT = re.compile(r"import[ \t]+([\w.]+)")
_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Project:
    """A project that is installed with ``pip install -e``: its name, and the folder that it is installed from."""

    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What leads elsewhere from the folders of installed packages.

    Attributes
    ----------
    folders
        Where Python looks for installed packages, in its order: each such folder, and what its ``.pth`` files add.
    added
        Those of them that ``.pth`` files add.
    mapped
        Where a finder of an editable install finds packages and modules, by their whole names. Such a finder is asked
        last. The path of a module has no suffix.
    projects
        What is installed in editable mode.
    """

    folders: tuple[str, ...]
    added: tuple[str, ...]
    mapped: Mapping[str, str]
    projects: tuple[Project, ...]


def installed(places: Iterable[str] | None = None) -> Installed:
    """Read what is installed.

    Parameters
    ----------
    places
        The folders of installed packages; those of this interpreter if they are left out.
    """
    if places is None:
        own = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
        places = [*own, *site.getsitepackages()]
    folders: dict[str, None] = {}
    added: dict[str, None] = {}
    mapped: dict[str, str] = {}
    projects: list[Project] = []
    for place in dict.fromkeys(map(os.path.normpath, places)):
        try:
            names = sorted(os.listdir(place))
        except OSError:  # many an interpreter names a folder that it does not have
            continue
        folders[place] = None
        for name in names:
            if name.endswith(".dist-info"):
                projects += _project(place, name)
            elif name.endswith(".pth") and not name.startswith("."):
                for line in _lines(os.path.join(place, name)):
                    if line.startswith(("import ", "import\t")):
                        mapped |= _mapping(place, line)
                    elif os.path.isdir(path := os.path.normpath(os.path.join(place, line))):
                        folders[path] = added[path] = None
    return Installed(tuple(folders), tuple(added), mapped, tuple(projects))


def _project(place: str, name: str) -> Iterator[Project]:
    """Yield the project of a distribution, if it is installed in editable mode."""
    # Almost none of many distributions has this file: to open one that is not there costs no more than to ask for it.
    try:
        with open(os.path.join(place, name, "direct_url.json"), encoding="utf-8") as file:
            facts = json.load(file)
        if facts["dir_info"]["editable"] is True:
            url = urlsplit(facts["url"])
            if url.scheme == "file":
                yield Project(name.removesuffix(".dist-info").rpartition("-")[0], unquote(url.path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not of the form that pip writes
        return


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = [line.strip() for line in file]
    except OSError:
        return []
    return [line for line in lines if line and not line.startswith("#") and "\0" not in line]


def _mapping(place: str, line: str) -> dict[str, str]:
    """Return where the finder that a line of a ``.pth`` file installs finds packages and modules, if that is known."""
    found = _IMPORT.match(line)
    path = os.path.join(place, f"{found[1]}.py") if found else ""
    try:
        if not path or os.path.getsize(path) > _MOST_BYTES:
            return {}
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        if "MAPPING" not in text and "map_module" not in text:
            return {}
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):
        return {}
    return dict(_pairs(tree))


def _pairs(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield names and paths: of setuptools' `MAPPING = {…}`, and of the calls `map_module(…, …)` of `editables`."""
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "MAPPING":
            mapping = _literal(getattr(node, "value", None))
            for pair in mapping.items() if isinstance(mapping, dict) else ():
                match pair:
                    case (str(module), str(path)):
                        yield module, path
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            function = node.value.func
            if getattr(function, "attr", getattr(function, "id", "")) == "map_module":
                match [_literal(each) for each in node.value.args]:
                    case [str(module), str(path)]:
                        yield module, path.removesuffix(".py").removesuffix(f"{os.sep}__init__")


def _literal(node: ast.AST | None) -> object:
    try:
        return ast.literal_eval(node) if isinstance(node, ast.expr) else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
