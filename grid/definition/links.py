"""`data`: what is linked into the working copy of a run, from a path there to a path on the service's machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from grid.definition.checks import check_text, shown
from grid.errors import InvalidArgument

Data = Mapping[str, str | os.PathLike[str]] | None
"""What `data` may be: by the path in the working copy."""

_WORKING_COPY = ("..", "work")
"""What the working copy itself is called, seen from within."""


def take_data(value: Any) -> Any:
    """Return links in the form in which they are kept, None if there are none; leave what is not allowed as it is.

    A path in the working copy is written in one way only. A target that is relative is meant from the current folder,
    and ``~`` in it is the home of whoever defines the run.
    """
    if not isinstance(value, Mapping):
        return value
    kept = {}
    for path, target in value.items():
        place = _path(path)
        if place in kept:
            return value
        kept[place] = _target(target)
    return MappingProxyType(kept) if kept else None


def _plain(given: Any) -> Any:
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def _path(given: Any) -> Any:
    text = _plain(given)
    return PurePosixPath(text).as_posix() if isinstance(text, str) and text else text


def _target(given: Any) -> Any:
    text = _plain(given)
    return os.path.abspath(os.path.expanduser(text)) if isinstance(text, str) and text else text


def check_data(name: str, value: object) -> None:
    """Refuse links that would stand outside of the script's room, in each other, or that lead nowhere."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        what = "a dict from a path in the working copy to a folder or file on the service's machine"
        msg = f"{name} must be {what}, not {shown(value)}"
        raise InvalidArgument(msg)
    seen: dict[PurePosixPath, object] = {}
    for path, target in ((_plain(path), _plain(target)) for path, target in value.items()):
        _check_path(name, path)
        place = f"{name}[{path!r}]"
        check_text(place, target)
        if not target:
            msg = f"{place} must be the path of a folder or file on the service's machine, not empty"
            raise InvalidArgument(msg)
        _check_apart(name, PurePosixPath(str(path)), path, seen)
    for path, given in seen.items():
        for above in path.parents:
            if above in seen:
                outer = f"{shown(seen[above])}, which is a link itself"
                msg = f"{name}: {shown(given)} lies in {outer}; leave one of them out"
                raise InvalidArgument(msg)


def _check_apart(name: str, path: PurePosixPath, given: object, seen: dict[PurePosixPath, object]) -> None:
    if path in seen:
        msg = f"{name}: {shown(seen[path])} and {shown(given)} are the same path; leave one of them out"
        raise InvalidArgument(msg)
    seen[path] = given


def _check_path(name: str, given: object) -> None:
    check_text(f"{name}: a path in the working copy", given)
    text = str(given)
    path = PurePosixPath(text)
    inside = path.parts[1:] if path.parts[:1] == ("..",) else path.parts
    what = None
    if path.is_absolute():
        what = "must be relative: it is seen from the root of the working copy"
    elif path.parts[:2] == _WORKING_COPY:
        what = "is the working copy itself, or lies in it; write it without '../work/'"
    elif not inside:
        what = "must name what is linked, such as 'data' or '../data'"
    elif ".." in inside:
        what = "may have one '..' at its beginning, and no other: the script's room ends there"
    elif "=" in text:
        what = "must not contain '=', which ends it on the command line"
    if what:
        msg = f"{name}: the path {shown(given)} {what}"
        raise InvalidArgument(msg)
