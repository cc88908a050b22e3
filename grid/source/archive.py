"""The archive of a tree of files: a tar whose bytes depend on the tree alone, not on who packs it, when, or where.

What belongs to the tree is decided elsewhere; see :mod:`grid.source.snapshot`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from grid.errors import SourceError

if TYPE_CHECKING:
    import tarfile
    from typing import IO

    from grid.source.ignore import Tree

__all__ = ["pack"]

_MTIME = 315_532_800  # 1980-01-01, the earliest time that every archive format can express

_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class _HashingFile:
    """Counts and hashes what goes through it into a file."""

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, block: bytes) -> int:
        try:
            self._file.write(block)
        except OSError as error:
            raise self._failure(error) from error
        self._hash.update(block)
        self.size += len(block)
        return len(block)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> SourceError:
        advice = "make room there, or set TMPDIR to another folder"
        return SourceError(f"cannot write the snapshot {self._path}: {error.strerror}; {advice}")

    def tell(self) -> int:
        return self.size

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def pack(root: Path, tree: Tree) -> tuple[Path, str, int]:
    """Pack a tree into a temporary file: an uncompressed tar archive.

    Parameters
    ----------
    root
        The folder that the tree was found in.
    tree
        What to pack.

    Returns
    -------
    tuple
        The archive's path, its SHA-256 and its size in bytes.

    Raises
    ------
    SourceError
        If a file cannot be read, a link leads out of the tree, or the archive cannot be written.
    """
    import tarfile  # noqa: PLC0415 - not before a run is started

    try:
        handle, name = tempfile.mkstemp(prefix="grid-snapshot-", suffix=".tar")
    except OSError as error:
        msg = f"cannot write a snapshot into {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to another folder"
        raise SourceError(msg) from error
    archive = Path(name)
    try:
        with open(handle, "wb", buffering=1024 * 1024) as file:
            hashing = _HashingFile(file, name)
            with tarfile.TarFile(
                fileobj=hashing,  # type: ignore[arg-type]  # `write` and `tell` are all that tarfile calls
                mode="w",
                format=tarfile.PAX_FORMAT,
                encoding="utf-8",
                errors="surrogateescape",
                copybufsize=1024 * 1024,
            ) as tar:
                for entry in tree.entries:
                    _add(tar, root, entry.path, entry.kind)
            hashing.flush()
    except BaseException:
        archive.unlink(missing_ok=True)
        raise
    return archive, hashing.hexdigest(), hashing.size


def _add(tar: tarfile.TarFile, root: Path, path: str, kind: int) -> None:
    """Add one entry, without anything that could differ between two copies of the same tree."""
    import tarfile  # noqa: PLC0415 - as above

    member = tarfile.TarInfo(path)
    member.mtime = _MTIME
    member.mode = 0o755
    source = root / path
    try:
        if kind == stat.S_IFDIR:
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        elif kind == stat.S_IFLNK:
            member.type = tarfile.SYMTYPE
            member.linkname = _link_target(root, path)
            tar.addfile(member)
        else:
            # What was a file may be a pipe or a link by now: neither is waited for or followed.
            with open(os.open(source, _FILE), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise OSError
                member.size = status.st_size
                member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                tar.addfile(member, file)
    except FileNotFoundError:
        pass  # somebody has removed it since it was found: it is no longer part of the source code
    except OSError as error:
        reason = error.strerror or "it changed while it was read"
        msg = f"cannot read {source}: {reason}; make it readable, or exclude it in .gridignore (with localdir=True)"
        raise SourceError(msg) from error


def _link_target(root: Path, path: str) -> str:
    """Return where a link leads, after making sure that it does not lead out of the tree."""
    target = os.readlink(root / path)
    lexical = os.path.normpath(os.path.join(os.path.dirname(path), target))
    # A link through another link can lead somewhere else than its text says, so both are checked.
    resolved = os.path.realpath(root / path)
    if os.path.isabs(target) or lexical.split(os.sep)[0] == os.pardir or not Path(resolved).is_relative_to(root):
        msg = (
            f"the link {path!r} leads to {target!r}, out of the source code that is sent; replace it with a relative "
            "link that stays inside or with a copy, or exclude it in .gridignore (with localdir=True)"
        )
        raise SourceError(msg)
    return target.replace(os.sep, "/")
