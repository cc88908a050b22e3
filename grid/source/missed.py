"""What a run may miss: files beside its script that its arguments or imports seem to mean, and that are not part of it.

Most of what is left out of a run nobody misses there. What is found here is what its user is warned of.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from grid.source.left_out import is_told, left_out
from grid.source.sizes import some_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from grid.source.finding import Source

_SECONDS = 0.1
_INNER = re.compile(r"""[^\s\[\](){},;:'"=]+""")
_NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)
_MOST_TEXTS = 10_000
_MOST_LOOKED_INTO = 10
_NAMES_SHOWN = 3


def named_paths(source: Source, texts: Iterable[str], *, folder: str, linked: Collection[str]) -> list[str]:
    """Return the files and folders that arguments name, that exist, and that are not part of the source code.

    Parameters
    ----------
    source
        The source code.
    texts
        The arguments. In each, everything that may be a path is looked at: all of it, what follows a ``=``, and the
        elements of a list.
    folder
        The folder below the root in which the script starts. Paths are seen from there, and from the root.
    linked
        What is linked into the working copy: it is not missed.

    Returns
    -------
    list of str
        Paths below the root, or beside it with ``..``; of a folder of which something is sent, what of it is not.
    """
    have = source.folders()
    found: dict[str, None] = {}
    folders: dict[str, None] = {}
    for path in _candidates(texts, folder):
        if path in source.files or is_linked(path, linked) or not os.path.lexists(os.path.join(source.root, path)):
            continue
        (folders if path in have else found)[path] = None
    for path in list(folders)[:_MOST_LOOKED_INTO]:
        for each in left_out(source, below=path, seconds=_SECONDS):
            if not each.path.endswith("…") and not is_linked(each.path.rstrip("/*"), linked):
                found[each.path] = None
    return list(found)


def importable_files(source: Source) -> list[str]:
    """Return the Python files and packages beside the script that it could import, and that are not part of the run."""
    folders = {os.path.dirname(source.script)}
    if source.import_folder is not None:
        folders.add(source.import_folder)
    have = source.folders()
    found = []
    for folder in sorted(folders):
        try:
            names = sorted(os.listdir(os.path.join(source.root, folder)))
        except OSError:  # it was removed since
            continue
        for name in names:
            path = os.path.join(folder, name)
            whole = os.path.join(source.root, path)
            if path in source.files or path in have or not is_told(name) or not name.removesuffix(".py").isidentifier():
                continue
            if name.endswith(".py") and os.path.isfile(whole):
                found.append(path)
            elif os.path.isfile(os.path.join(whole, "__init__.py")):
                found.append(f"{path}/")
    return found


def named_warning(source: Source, paths: Iterable[str]) -> str:
    """Return what is said of `named_paths`."""
    paths = list(paths)
    shown = paths[:_NAMES_SHOWN]
    more = f" and {len(paths) - len(shown)} more" if len(paths) > len(shown) else ""
    advice = link_advice(source.root, paths)
    return f"named by the arguments, but not part of the run: {', '.join(shown)}{more}; {advice}"


def importable_warning(source: Source, paths: Iterable[str]) -> str:
    """Return what is said of `importable_files`."""
    paths = list(paths)
    it = "it" if len(paths) == 1 else "them"
    advice = f"commit {it}" if source.repository is not None else f"an ignore file excludes {it}"
    return f"beside the script, but not part of the run, which cannot import {it}: {some_of(paths)}; {advice}"


def is_linked(path: str, linked: Collection[str]) -> bool:
    """Return whether a path in a working copy is linked into it, or lies in what is."""
    links = [os.path.normpath(each) for each in linked]
    return any(path == link or path.startswith(f"{link}/") for link in links)


def link_advice(root: str, paths: Sequence[str]) -> str:
    """Return how files that are not part of a run can be linked into it: the first of them, as an example."""
    first = paths[0].rstrip("/*")
    which = "it" if len(paths) == 1 else "the first"
    return f"data={{{first!r}: {os.path.normpath(os.path.join(root, first))!r}}} links {which} in"


def _candidates(texts: Iterable[str], folder: str) -> Iterator[str]:
    """Yield the paths, seen from the root, that texts may mean."""
    seen: set[str] = set()
    for text in texts:
        for part in _parts(text):
            if part in seen or len(seen) > _MOST_TEXTS:
                continue
            seen.add(part)
            if part.startswith(("/", "-", "~")) or "\0" in part or _NUMBER.fullmatch(part):
                continue
            # What begins with `..` is seen from the working folder; of everything else a script may know the root.
            for base in (folder,) if part.startswith("..") else dict.fromkeys((folder, "")):
                path = os.path.normpath(os.path.join(base, part))
                if path not in {".", ".."} and not path.startswith(("../..", "/")):
                    yield path


def _parts(text: str) -> Iterator[str]:
    yield text
    after = text
    while "=" in after:
        after = after.partition("=")[2]
        yield after
    yield from _INNER.findall(text)
