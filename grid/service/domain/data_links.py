"""What is linked into working copies: where it may stand, where it may lead, and what it takes the place of."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from grid.service.domain.errors import InvalidValue
from grid.service.system.attempt_files import WORK

_MOST = 100
_LONGEST_NAME = 255  # bytes, on every file system that there is
_LONGEST_PATH = 4_000
_PATH_FORM = "a path below the working copy, or '../' and a path beside it"
_LENGTHS = f"a path of at most {_LONGEST_PATH:,} characters, in which no name has more than {_LONGEST_NAME} bytes"
_TARGET_FORM = "an absolute path on the service's machine"


def links(data: Mapping[str, str]) -> dict[str, str]:
    """Return what is linked, by paths that are written in one way only: from the working copy, without dots in between.

    Raises
    ------
    InvalidValue
        If a link would stand outside of the script's room, in the place of the working copy or in another link, or if
        it would not lead to an absolute path.
    """
    if len(data) > _MOST:
        raise InvalidValue("data", f"{len(data)} entries", f"at most {_MOST}")
    found: dict[str, str] = {}
    for given, target in data.items():
        path = PurePosixPath(given)
        inside = path.parts[1:] if path.parts[:1] == ("..",) else path.parts
        is_too_long = len(given) > _LONGEST_PATH or any(
            len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for part in inside
        )
        if path.is_absolute() or not inside or ".." in inside or "\0" in given or is_too_long:
            raise InvalidValue("data", given, _LENGTHS if is_too_long else _PATH_FORM)
        if path.parts[:2] == ("..", WORK):
            raise InvalidValue("data", given, f"{_PATH_FORM}; the working copy itself is '../{WORK}'")
        if not PurePosixPath(target).is_absolute() or "\0" in target or len(target) > _LONGEST_PATH:
            raise InvalidValue(f"data[{given!r}]", target, _TARGET_FORM)
        if path.as_posix() in found:
            raise InvalidValue("data", given, "each path once")
        found[path.as_posix()] = target
    for each in found:
        for above in PurePosixPath(each).parents:
            if above.as_posix() in found:
                raise InvalidValue("data", each, f"no path below {above.as_posix()!r}, which is a link itself")
    return found


def missing(data: Mapping[str, str]) -> list[str]:
    """Return the targets that do not exist on this machine. It may wait for a network, so it is for threads."""
    return [target for target in dict.fromkeys(links(data).values()) if not os.access(target, os.F_OK)]


def replaced(data: Mapping[str, str], tree: Path, script: str, folder: str) -> list[str]:
    """Return the paths at which the source code has something that a link takes the place of.

    Parameters
    ----------
    data
        What is linked.
    tree
        Where the source code lies.
    script, folder
        The run's script and the folder where it starts, which must stay; seen from the root of the source code.

    Raises
    ------
    InvalidValue
        If a link would have to be made behind a link or a file of the source code, or in the place of the script.
    """
    found = []
    # What is meant by a path that leads through links must stay as well.
    real = (tree / script).resolve().relative_to(tree.resolve()).as_posix()
    needed = {path for kept in (script, real, folder) for path in (kept, *_parents(kept))}
    for each in links(data):
        if each.startswith("../"):
            continue
        *around, name = PurePosixPath(each).parts
        if each in needed:
            raise InvalidValue("data", each, "another path than that of the script, or of a folder around it")
        place = tree
        for part in around:
            place /= part
            mode = _mode(place)
            if mode is None:
                break
            if not stat.S_ISDIR(mode):
                what = "a link" if stat.S_ISLNK(mode) else "a file"
                wanted = f"a path through folders; in the source code {place.relative_to(tree).as_posix()!r} is {what}"
                raise InvalidValue("data", each, wanted)
        if _mode(tree.joinpath(*around, name)) is not None:
            found.append(each)
    return found


def _parents(path: str) -> list[str]:
    return [parent.as_posix() for parent in PurePosixPath(path).parents]


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
