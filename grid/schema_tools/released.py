"""Keeps the digests of the query files that were released: none of them may change."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from grid.schema_tools.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_released", "release"]

_RELEASED = "released.sha256"


def check_released(package: str | Path) -> list[Problem]:
    """Check that no file that was released has changed since; a folder without a list has released nothing.

    Parameters
    ----------
    package
        The package or folder of queries.
    """
    folder = _folder(package)
    problems = []
    for line, digest, path in _released(folder):
        file = folder / path
        if not path:
            problems.append(Problem(str(folder / _RELEASED), line, "expected a digest, two spaces and a path"))
        elif not file.is_file():
            problems.append(Problem(str(folder / _RELEASED), line, f"{path} was released and is gone: put it back"))
        elif _digest(file) != digest:
            message = "this file was released and must not change: put it back, and make the change in a newer version"
            problems.append(Problem(str(file), 1, message))
    return problems


def release(package: str | Path, tag: str) -> list[str]:
    """Record the digests of all files that were not released before.

    Parameters
    ----------
    package
        The package or folder of queries.
    tag
        The version tag that will contain them.

    Returns
    -------
    list of str
        The paths that were added, below the folder.

    Raises
    ------
    ValueError
        If a file that was released before has changed.
    """
    problems = check_released(package)
    if problems:
        raise ValueError("\n".join(map(str, problems)))
    folder = _folder(package)
    known = {path for _, _, path in _released(folder)}
    paths = sorted(file.relative_to(folder).as_posix() for file in folder.glob("v*/**/*.graphql"))
    new = [path for path in paths if path not in known]
    if new:
        with (folder / _RELEASED).open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"\n# {tag}\n")
            file.writelines(f"{_digest(folder / path)}  {path}\n" for path in new)
    return new


def _folder(package: str | Path) -> Path:
    return Path(str(files(package))) if isinstance(package, str) else package


def _released(folder: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, digest and path of each entry; the path is empty if the line cannot be read."""
    file = folder / _RELEASED
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            digest, _, path = line.partition("  ")
            yield number, digest, path.strip()


def _digest(file: Path) -> str:
    # A checkout on Windows may have other line endings.
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
