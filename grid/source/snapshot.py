"""Snapshots of source code: the commit or the folder that a script is in, packed as one archive.

What is packed is decided here and in `ignore`; `git` knows the commit, `archive` packs it, and it is sent elsewhere.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grid.errors import SourceError
from grid.shared.wire import MAX_SNAPSHOT_BYTES
from grid.source import git
from grid.source.archive import pack
from grid.source.ignore import IGNORE_FILES, check_depth, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

_BLOCK = 512
_KIBI = 1024
_NAMES_IN_A_WARNING = 10
_NAMES_IN_AN_ERROR = 5


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
    """

    archive: Path
    digest: str
    size_bytes: int
    project: str
    commit_sha: str
    script: str
    warnings: tuple[str, ...] = ()

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
    if not os.path.isfile(entrypoint):
        msg = f"the entrypoint {entrypoint!r} is not a file; give the path of the script, seen from {os.getcwd()}"
        raise SourceError(msg)
    folder, name = os.path.split(os.path.abspath(entrypoint))
    # Only the folder's links are followed: a script that is a link is found in the snapshot under its own name.
    folder = os.path.realpath(folder)
    return _snapshot_folder(folder, name) if localdir else _snapshot_commit(folder, name, entrypoint)


def _snapshot_folder(folder: str, name: str) -> Snapshot:
    root = Path(folder)
    ignore_name = next((known for known in IGNORE_FILES if (root / known).is_file()), IGNORE_FILES[-1])
    tree = walk(root, ignore_name=ignore_name)
    if all(entry.path != name for entry in tree.entries):
        msg = f"the entrypoint {name!r} is excluded by {ignore_name} in {folder}; add a line `!{name}` there"
        raise SourceError(msg)
    hint = f"exclude what the script does not need in {root / IGNORE_FILES[0]}"
    _refuse_large({entry.path: entry.size for entry in tree.entries}, folder, hint)
    warnings = []
    if tree.special:
        warnings.append(f"left out, because only files, folders and links can be sent: {_enumerate(tree.special)}")
    project = git.project_of(folder)
    # Last of all: an interruption after it would leave the archive behind.
    archive, digest, size = pack(root, tree)
    return Snapshot(archive, digest, size, project, digest, name, tuple(warnings))


def _snapshot_commit(folder: str, name: str, entrypoint: str) -> Snapshot:
    repository = git.find_repository(folder, entrypoint)
    script = repository.prefix + name
    warnings = []
    sizes: dict[str, int] = {}
    submodules: list[str] = []
    for line in git.ask("ls-tree", "-r", "-z", "-l", "--full-tree", repository.commit, cwd=folder).split("\0")[:-1]:
        facts, _, path = line.partition("\t")
        _, kind, _, size = facts.split()
        check_depth(path, repository.root)
        if kind == "commit":
            submodules.append(path)
        else:
            sizes[path] = int(size) if size.isdigit() else 0
    if script not in sizes:
        msg = (
            f"the entrypoint {entrypoint!r} is not in the commit at HEAD of {repository.root}; commit it "
            f"(git add {shlex.quote(entrypoint)} && git commit), or pass localdir=True to send its folder as it is"
        )
        raise SourceError(msg)
    hint = "take it out of the commit, or pass localdir=True and exclude it in .gridignore"
    _refuse_large(sizes, repository.root, hint)

    changes = git.ask(
        "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all",
        cwd=repository.root,
    )  # fmt: skip
    changed = [line[3:] for line in changes.split("\0")[:-1]]
    if changed:
        warnings.append(f"uncommitted changes are not part of the run: {_enumerate(changed)}")
    if submodules:
        warnings.append(f"the content of submodules is not part of the run: {_enumerate(submodules)}")

    project = git.project_of(repository.root)
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
        _refuse_large({entry.path: entry.size for entry in tree.entries}, repository.root, hint)
        archive, digest, size_bytes = pack(root, tree)
    return Snapshot(archive, digest, size_bytes, project, repository.commit, script, tuple(warnings))


def _refuse_large(sizes: Mapping[str, int], root: str, hint: str) -> None:
    """Refuse a tree whose archive would be too large, and say what makes it so."""
    total = sum(_BLOCK + -(-size // _BLOCK) * _BLOCK for size in sizes.values())
    if total <= MAX_SNAPSHOT_BYTES:
        return
    weights: dict[str, int] = {}
    for path, size in sizes.items():
        weights[path] = weights.get(path, 0) + size
        parent = path.rpartition("/")[0]
        while parent:
            weights[parent] = weights.get(parent, 0) + size
            parent = parent.rpartition("/")[0]
    largest: list[str] = []
    for path, weight in sorted(weights.items(), key=lambda item: (-item[1], -len(item[0]), item[0])):
        # A folder that holds nothing but an entry already named adds nothing.
        if any(named.startswith(f"{path}/") and weights[named] == weight for named in largest):
            continue
        largest.append(path)
        if len(largest) == _NAMES_IN_AN_ERROR:
            break
    names = ", ".join(f"{path} ({_human(weights[path])})" for path in largest)
    msg = (
        f"the source code in {root} makes a snapshot of {_human(total)}, but at most {_human(MAX_SNAPSHOT_BYTES)} can "
        f"be sent; the largest are {names}: {hint}"
    )
    raise SourceError(msg)


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < _KIBI:
            return f"{size:.0f} {unit}"
        size /= _KIBI
    return f"{size:.1f} GiB"


def _enumerate(names: Iterable[str]) -> str:
    shown: Sequence[str] = sorted(names)
    more = len(shown) - _NAMES_IN_A_WARNING
    return ", ".join(shown[:_NAMES_IN_A_WARNING]) + (f" and {more} more" if more > 0 else "")
