"""Repositories and folders to take snapshots of, and the content of a snapshot."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from grid.source.snapshot import snapshot


def git(folder: Path, *arguments: str) -> str:
    """Run git as some user and return what it prints."""
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "protocol.file.allow=always")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def write(root: Path, **files: str) -> None:
    """Write files by path, with `__` for each slash and `_dot_` for a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Read what an archive holds."""
    with tarfile.open(archive) as tar:
        return {member.name: member for member in tar.getmembers()}


def paths(entrypoint: Path | str, *, localdir: bool) -> list[str]:
    """Take a snapshot and return the paths in it, in the archive's order."""
    with snapshot(str(entrypoint), localdir=localdir) as taken:
        return list(members(taken.archive))


def content(entrypoint: Path, name: str, *, localdir: bool = False) -> bytes:
    """Take a snapshot and return the content of one file in it."""
    with snapshot(str(entrypoint), localdir=localdir) as taken, tarfile.open(taken.archive) as tar:
        return tar.extractfile(name).read()
