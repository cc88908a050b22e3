"""Snapshots of source code: what :mod:`grid.source.finding` has found, packed as one archive. It is sent elsewhere."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grid.source import git, lfs
from grid.source.archive import pack
from grid.source.finding import COMMIT_HINT, find_source
from grid.source.ignore import walk
from grid.source.sizes import refuse_large

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from grid.source.finding import Source


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The source code of a run, packed: a context manager that removes the archive at its end.

    Attributes
    ----------
    archive
        A temporary file: an uncompressed tar archive. The same tree always gives the same bytes.
    digest
        The SHA-256 of the archive, 64 hexadecimal digits.
    size_bytes
        The size of the archive.
    project
        ``owner/name`` of the repository's ``origin``; the folder's name if there is none.
    commit_sha
        The commit, or ``digest`` if the source code is a folder as it was.
    script
        The path of the entrypoint inside the archive, with ``/`` between its parts.
    warnings
        What the user may expect to be part of it but is not.
    pointers
        The files of Git LFS that it holds as pointers.
    """

    archive: Path
    digest: str
    size_bytes: int
    project: str
    commit_sha: str
    script: str
    warnings: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.archive.unlink(missing_ok=True)


def snapshot(entrypoint: str, *, localdir: bool) -> Snapshot:
    """Pack the source code that a script belongs to.

    Parameters
    ----------
    entrypoint
        The path of the script.
    localdir
        ``False``: the tree committed at ``HEAD`` of the git repository that holds the script. ``True``: the script's
        folder as it is, without ``.git`` and what ``.gridignore`` (or ``.gitignore`` if there is none) excludes.

    Returns
    -------
    Snapshot
        Use it in a ``with`` statement: the archive is removed at its end.

    Raises
    ------
    SourceError
        If the script is missing or would not be part of the snapshot, there is no commit, a file cannot be read, a link
        leads out of the tree, or the snapshot would be larger than 2 GiB.

    Examples
    --------
    >>> with snapshot("train.py", localdir=True) as packed:  # doctest: +SKIP
    ...     print(packed.script, packed.size_bytes)
    train.py 10240
    """
    return pack_source(find_source(entrypoint, localdir=localdir))


def pack_source(source: Source) -> Snapshot:
    """Pack source code that was found.

    Returns
    -------
    Snapshot
        Use it in a ``with`` statement: the archive is removed at its end.

    Raises
    ------
    SourceError
        If a file cannot be read, a link leads out of the tree, or the snapshot would be larger than 2 GiB.
    """
    if source.tree is not None:
        archive, digest, size = pack(Path(source.root), source.tree)
        return Snapshot(archive, digest, size, source.project, digest, source.script, source.warnings, source.pointers)
    repository = source.repository
    assert repository is not None
    with tempfile.TemporaryDirectory(prefix="grid-tree-", ignore_cleanup_errors=True) as scratch:
        root = Path(scratch).resolve() / "tree"
        root.mkdir()
        # Into a work tree and an index of its own: unlike `git archive` this takes no notice of `export-ignore`, and
        # unlike `git checkout-index` it reads the attributes that were committed, not those of the user's work tree.
        own = {"GIT_DIR": repository.git_dir, "GIT_WORK_TREE": str(root), "GIT_INDEX_FILE": f"{scratch}/index"}
        git.ask(
            "read-tree", "--reset", "-u", "--no-sparse-checkout", "--no-recurse-submodules", repository.commit,
            cwd=str(root), extra_env=own,
        )  # fmt: skip
        tree = walk(root)
        refuse_large({entry.path: entry.size for entry in tree.entries}, source.root, COMMIT_HINT)
        written = {entry.path: entry.size for entry in tree.entries}
        pointers = lfs.pointers_in_folder(str(root), {path: written.get(path, 0) for path in source.all_pointers})
        archive, digest, size_bytes = pack(root, tree)
    commit = repository.commit
    return Snapshot(archive, digest, size_bytes, source.project, commit, source.script, source.warnings, pointers)
