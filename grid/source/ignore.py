"""Which entries of a folder belong to a snapshot: the walk over it, and the gitignore rules that exclude some.

Nothing is read here except ignore files, and nothing is written; :mod:`grid.source.archive` packs what the walk finds.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.errors import SourceError
from grid.shared.wire import MAX_SNAPSHOT_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

IGNORE_FILES = (".gridignore", ".gitignore")
"""The names of ignore files: if the folder has the first, the second is not read."""

_MAX_SHOWN = 300
"""How many characters of a path a message shows."""
_NAMES_SHOWN = 3
"""How many names of a path that is too deep a message shows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a folder or a symbolic link below the root of a snapshot.

    Attributes
    ----------
    path
        Relative to the root, with ``/`` between its parts.
    kind
        ``stat.S_IFREG``, ``stat.S_IFDIR`` or ``stat.S_IFLNK``.
    size
        In bytes; 0 for folders and links.
    """

    path: str
    kind: int
    size: int


@dataclass(frozen=True, slots=True)
class Tree:
    """What a walk has found.

    Attributes
    ----------
    entries
        In the order of their paths' bytes, every folder before what it holds.
    special
        The paths of sockets, FIFOs and devices, which no snapshot can hold.
    """

    entries: tuple[Entry, ...]
    special: tuple[str, ...]


def walk(root: Path, *, ignore_name: str | None = None) -> Tree:
    """Find what a snapshot of a folder holds: everything except ``.git`` and what ignore files exclude.

    As in git, an ignore file applies to its folder and everything below, a deeper one wins, and an excluded folder is
    not descended into, so nothing in it can be included again.

    Parameters
    ----------
    root
        The folder.
    ignore_name
        The name of the ignore files to honour; none if it is left out.

    Raises
    ------
    SourceError
        If a folder or an ignore file cannot be read, or something lies deeper than can be sent.
    """
    entries: list[Entry] = []
    special: list[str] = []
    waiting: list[tuple[str, str, tuple[_IgnoreFile, ...]]] = [(str(root), "", ())]
    while waiting:
        folder, prefix, files = waiting.pop()
        if ignore_name is not None and os.path.isfile(os.path.join(folder, ignore_name)):
            files = (_IgnoreFile.read(os.path.join(folder, ignore_name), depth=len(prefix)), *files)
        for name, mode, size in _scan(folder):
            path = prefix + name
            if name == ".git" or _is_excluded(files, path, is_folder=stat.S_ISDIR(mode)):
                continue
            check_depth(path, str(root))
            if stat.S_ISDIR(mode):
                entries.append(Entry(path, stat.S_IFDIR, 0))
                waiting.append((os.path.join(folder, name), f"{path}/", files))
            elif stat.S_ISLNK(mode):
                entries.append(Entry(path, stat.S_IFLNK, 0))
            elif stat.S_ISREG(mode):
                entries.append(Entry(path, stat.S_IFREG, size))
            else:
                special.append(path)
    entries.sort(key=lambda entry: os.fsencode(entry.path))
    return Tree(tuple(entries), tuple(sorted(special)))


def check_depth(path: str, root: str) -> None:
    """Refuse a path, relative to the root of a snapshot, that lies deeper than services accept.

    Raises
    ------
    SourceError
        If it does. The message names its outermost folders, which is enough to exclude them.
    """
    if path.count("/") >= MAX_SNAPSHOT_DEPTH:
        shown = "/".join(path.split("/", _NAMES_SHOWN)[:_NAMES_SHOWN])
        msg = (
            f"{os.path.join(root, shown)}/… lies more than {MAX_SNAPSHOT_DEPTH} folders deep, which cannot be sent; "
            "exclude it in .gridignore (with localdir=True), or move it elsewhere"
        )
        raise SourceError(msg)


def _scan(folder: str) -> list[tuple[str, int, int]]:
    """Return name, mode and size of what a folder holds; all at once, so that no folder stays open on the way down.

    What somebody removes meanwhile is left out.
    """
    found = []
    path = folder
    try:
        with os.scandir(folder) as scan:
            for item in scan:
                path = item.path
                with suppress(FileNotFoundError):
                    status = item.stat(follow_symlinks=False)
                    found.append((item.name, status.st_mode, status.st_size))
    except FileNotFoundError:
        return []
    except OSError as error:
        shown = path if len(path) <= _MAX_SHOWN else f"{path[:_MAX_SHOWN]}…"
        advice = "make it readable, or exclude it in .gridignore"
        if error.errno == errno.ENAMETOOLONG:
            advice = "move it elsewhere, or exclude it in .gridignore"
        msg = f"cannot read {shown}: {error.strerror}; {advice}"
        raise SourceError(msg) from error
    return found


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line of an ignore file."""

    matches: Callable[[str], object]
    excludes: bool
    folders_only: bool
    by_name: bool


@dataclass(frozen=True, slots=True)
class _IgnoreFile:
    """The rules of one ignore file, the last line first, because the last one that matches decides."""

    depth: int
    rules: tuple[_Rule, ...]

    @classmethod
    def read(cls, path: str, *, depth: int) -> _IgnoreFile:
        try:
            with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                text = file.read()
        except OSError as error:
            msg = f"cannot read the ignore file {path}: {error.strerror}"
            raise SourceError(msg) from error
        rules = [rule for line in text.split("\n") if (rule := _parse_rule(line)) is not None]
        return cls(depth, tuple(reversed(rules)))


def _is_excluded(files: Sequence[_IgnoreFile], path: str, *, is_folder: bool) -> bool:
    name = path.rpartition("/")[2]
    for file in files:
        below = path[file.depth :]
        for rule in file.rules:
            if (is_folder or not rule.folders_only) and rule.matches(name if rule.by_name else below):
                return rule.excludes
    return False


def _parse_rule(line: str) -> _Rule | None:
    pattern = _without_trailing_spaces(line.removesuffix("\r"))
    if not pattern or pattern.startswith("#"):
        return None
    excludes = not pattern.startswith("!")
    pattern = pattern if excludes else pattern[1:]
    folders_only = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    by_name = "/" not in pattern
    expression = _translate(pattern.removeprefix("/"))
    # A pattern that git cannot make sense of, such as `[a`, matches nothing there, and so it matches nothing here.
    if not pattern or expression is None:
        return None
    return _Rule(re.compile(expression, re.DOTALL).fullmatch, excludes, folders_only, by_name)


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return line[: len(stripped) + 1] if backslashes % 2 else stripped


def _translate(pattern: str) -> str | None:
    """Return a pattern as a regular expression over a whole path; None if it is malformed."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "*":
            end = position
            while pattern[end : end + 1] == "*":
                end += 1
            alone = pattern[position - 1 : position] in {"", "/"} and pattern[end : end + 1] in {"", "/"}
            if end - position == 1 or not alone:
                parts.append("[^/]*")
            elif end == len(pattern):
                parts.append(".*")
            else:
                parts.append("(?:.*/)?")
                end += 1
            position = end
        elif character == "[":
            bracket = _translate_bracket(pattern, position + 1)
            if bracket is None:
                return None
            part, position = bracket
            parts.append(part)
        elif character == "\\":
            if position + 1 == len(pattern):
                return None
            parts.append(re.escape(pattern[position + 1]))
            position += 2
        else:
            parts.append("[^/]" if character == "?" else re.escape(character))
            position += 1
    return "".join(parts)


_NAMED_SETS = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


_NAMED_SET = re.compile(r"\[:([^\]]*):\]")


def _translate_bracket(pattern: str, start: int) -> tuple[str, int] | None:
    """Translate a set of characters; return it and where the pattern goes on, None if the set is malformed."""
    position = start
    negated = pattern[position : position + 1] in {"!", "^"}
    if negated:
        position += 1
    first = position
    members: list[str] = []
    while pattern[position : position + 1] != "]" or position == first:
        named = _NAMED_SET.match(pattern, position)
        if named:
            if named[1] not in _NAMED_SETS:
                return None
            members.append(_NAMED_SETS[named[1]])
            position = named.end()
            continue
        low = _one_character(pattern, position)
        if low is None:
            return None
        position = low[1]
        high = low
        if pattern[position : position + 1] == "-" and pattern[position + 1 : position + 2] not in {"", "]"}:
            bound = _one_character(pattern, position + 1)
            if bound is None:
                return None
            high, position = bound, bound[1]
        if low[0] <= high[0]:  # a range that runs backwards is empty
            members.append(f"{re.escape(low[0])}-{re.escape(high[0])}")
    if not members:
        return ("[^/]" if negated else "(?!)"), position + 1
    return f"(?!/)[{'^' if negated else ''}{''.join(members)}]", position + 1


def _one_character(pattern: str, position: int) -> tuple[str, int] | None:
    if pattern[position : position + 1] == "\\":
        position += 1
    return (pattern[position], position + 1) if position < len(pattern) else None
