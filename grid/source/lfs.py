"""Git LFS: files that git knows as pointers, a few lines of text in place of the content, which is stored elsewhere."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from grid.source import git
from grid.source.sizes import some_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_START = b"version https://git-lfs.github.com/spec/"
_SIZES = range(120, 200)
"""How many bytes a pointer may have: two lines of fixed length, and one with a number. Nothing else is read."""


def may_be_pointer(size: int) -> bool:
    """Return whether a file of that size may be a pointer."""
    return size in _SIZES


def pointers_in_folder(root: str, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Return which of some files below a folder are pointers: those that exist and can be read."""
    found = []
    for path, size in sizes.items():
        if may_be_pointer(size):
            try:
                with open(os.path.join(root, path), "rb") as file:
                    is_pointer = file.read(len(_START)) == _START
            except OSError:  # packing will say what is wrong with it
                continue
            if is_pointer:
                found.append(path)
    return tuple(found)


def pointers_in_commit(blobs: Mapping[str, str], cwd: str) -> tuple[str, ...]:
    """Return which of some files are pointers, given the id of the content of each that may be one."""
    contents = git.contents(list(blobs.values()), cwd=cwd)
    return tuple(path for path, content in zip(blobs, contents, strict=True) if content.startswith(_START))


def stay_pointers(paths: Sequence[str], root: str) -> tuple[str, ...]:
    """Return which pointers of a commit git would write out as they are, and not as the files that they stand for.

    It is a forecast, for which nothing is fetched: what is packed is looked at again.
    """
    if not paths:
        return ()
    is_replacing = git.answers("config", "--get", "filter.lfs.process", cwd=root) or git.answers(
        "config", "--get", "filter.lfs.smudge", cwd=root
    )
    skips = "--skip" in is_replacing or os.environ.get("GIT_LFS_SKIP_SMUDGE", "0") not in {"", "0"}
    if not is_replacing or skips or shutil.which("git-lfs") is None:
        return tuple(paths)
    facts = git.ask("check-attr", "-z", "--stdin", "filter", cwd=root, given="\0".join(paths)).split("\0")
    replaced = {path for path, value in zip(facts[::3], facts[2::3], strict=False) if value == "lfs"}
    return tuple(path for path in paths if path not in replaced)


def warning(pointers: Iterable[str]) -> str:
    """Return what is said of files that a run has as pointers."""
    return (
        f"in place of these files the run has pointers of Git LFS, a few lines of text: {some_of(pointers)}; install "
        "git-lfs, then git lfs install && git lfs pull, or link the files in with data="
    )
