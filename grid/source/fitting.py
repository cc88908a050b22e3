"""Whether the folder where a script starts, its launcher, and what is linked into its working copy fit its source code.

The service has the last word. It is said here as well, because a preview sends no source code.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from grid.errors import InvalidArgument
from grid.shared.words import split
from grid.source import git

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grid.source.finding import Source

_EXECUTABLE = ("100755", "120000")
"""How git writes the mode of an executable file, and of a link, which may lead to one."""


def check_working_dir(source: Source, working_dir: str) -> None:
    """Refuse a folder to start in that is not part of the source code.

    Raises
    ------
    InvalidArgument
        If it is not; what may be a link is left to the service.
    """
    path = PurePosixPath(working_dir)
    if working_dir in {"", "root", "script"} or not path.parts or path.as_posix() in source.folders():
        return
    if any(_may_be_link(source, each.as_posix()) for each in (path, *path.parents)):
        return
    msg = (
        f"working_dir={working_dir!r} is not part of the source code in {source.root}: it must be 'root', 'script' or "
        "the path of a folder there; an empty folder is not part of it, nor is what git ignores"
    )
    raise InvalidArgument(msg)


def start_folder(source: Source, working_dir: str) -> str:
    """Return the folder below the root in which a script starts; links to it are followed, as the service does."""
    given = {"root": "", "script": os.path.dirname(source.script)}.get(working_dir, working_dir)
    real = os.path.relpath(os.path.realpath(os.path.join(source.root, given)), os.path.realpath(source.root))
    if PurePosixPath(real).parts[:1] == ("..",):
        return given  # the service will refuse it
    return "" if real == "." else real


def check_launcher(source: Source, launcher: str, folder: str) -> None:
    """Refuse a launcher that is named by a path at which the source code has no program.

    Parameters
    ----------
    source
        The source code.
    launcher
        The words that start the script; empty for none.
    folder
        The folder below the root in which it starts.

    Raises
    ------
    InvalidArgument
        If there is none; what may be a link is left to the service.
    """
    program = next(iter(split(launcher, "launcher").words), "")
    if "/" not in program or program.startswith("/") or "{" in program:
        return
    path = PurePosixPath(os.path.normpath(os.path.join(folder, program)))
    if path.as_posix() in source.files:
        if not _is_executable(source, path.as_posix()):
            how = "chmod +x it, and commit that" if source.repository else "chmod +x it"
            msg = (
                f"launcher={launcher!r}: {program!r} of the source code is not executable; {how}, or name what runs it"
            )
            raise InvalidArgument(msg)
        return
    if any(_may_be_link(source, each.as_posix()) for each in path.parents):
        return
    msg = (
        f"launcher={launcher!r}: {program!r} is not part of the source code in {source.root}, seen from "
        f"{folder or 'its root'}, where the script starts; name a program that is, or give a whole path"
    )
    raise InvalidArgument(msg)


def replaced(source: Source, data: Mapping[str, str | os.PathLike[str]], *, folder: str = "") -> list[str]:
    """Return a warning for each path at which the source code has something that a link takes the place of.

    Parameters
    ----------
    source
        The source code.
    data
        What is linked: each path is written in one way only.
    folder
        The folder below the root in which the script starts.

    Raises
    ------
    InvalidArgument
        If a link would stand behind a file or a link of the source code, or in the place of the script or that folder.
    """
    folders = source.folders()
    kept = (PurePosixPath(source.script), PurePosixPath(folder))
    needed = {each.as_posix() for path in kept for each in (path, *path.parents)}
    found = []
    for path, target in data.items():
        if path.startswith("../"):
            continue
        if path in needed:
            start = f", of {folder}, where it starts," if folder else ""
            msg = f"data={path!r} would take the place of the script {source.script}{start} or of a folder around it"
            raise InvalidArgument(msg)
        around = next(
            (each.as_posix() for each in PurePosixPath(path).parents if each.as_posix() in source.files), None
        )
        if around is not None:
            msg = f"data={path!r} must be a path through folders; in the source code {around!r} is a file or a link"
            raise InvalidArgument(msg)
        if path in source.files or path in folders:
            found.append(f"data: {path!r} of the source code is replaced by a link to {os.fspath(target)}")
    return found


def _may_be_link(source: Source, path: str) -> bool:
    """Return whether a path may be a link in the source code: what is a file here is none."""
    here = os.path.join(source.root, path)
    return path in source.files and (os.path.islink(here) or not os.path.isfile(here))


def _is_executable(source: Source, path: str) -> bool:
    """Return whether a file of the source code can be executed there; True for a link."""
    if source.repository is None:
        return os.access(os.path.join(source.root, path), os.X_OK)
    facts = git.ask("ls-tree", "--full-tree", source.repository.commit, "--", path, cwd=source.root)
    return facts.startswith(_EXECUTABLE)
