"""Snapshots of source code: the commit or the folder that a script stands in, packed as one archive.

What is packed is decided here and in `ignore`; `archive` packs it, and it is sent elsewhere.
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
from grid.source.archive import pack
from grid.source.ignore import IGNORE_FILES, walk

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
        ``owner/name`` of the repository's ``origin``; the folder's name where there is none.
    commit_sha
        The commit, or ``digest`` where the source code is a folder as it was.
    script
        The path of the entrypoint inside the archive, with ``/`` between its parts.
    warnings
        What the user may expect to be part of it and is not.
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
        folder as it is, less ``.git`` and what ``.gridignore`` (``.gitignore`` where there is none) excludes.

    Returns
    -------
    Snapshot
        Use it in a ``with`` statement: the archive is removed at its end.

    Raises
    ------
    SourceError
        The script is missing or would not be part of the snapshot, there is no commit, a file cannot be read, a link
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
    project = _project(folder)
    # Last of all: what is interrupted after it would leave the archive behind.
    archive, digest, size = pack(root, tree)
    return Snapshot(archive, digest, size, project, digest, name, tuple(warnings))


def _snapshot_commit(folder: str, name: str, entrypoint: str) -> Snapshot:
    repository = _find_repository(folder, entrypoint)
    script = repository.prefix + name
    warnings = []
    sizes: dict[str, int] = {}
    submodules: list[str] = []
    for line in _git("ls-tree", "-r", "-z", "-l", "--full-tree", repository.commit, cwd=folder).split("\0")[:-1]:
        facts, _, path = line.partition("\t")
        _, kind, _, size = facts.split()
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

    changes = _git(
        "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all",
        cwd=repository.root,
    )  # fmt: skip
    changed = [line[3:] for line in changes.split("\0")[:-1]]
    if changed:
        warnings.append(f"uncommitted changes are not part of the run: {_enumerate(changed)}")
    if submodules:
        warnings.append(f"the content of submodules is not part of the run: {_enumerate(submodules)}")

    project = _project(repository.root)
    with tempfile.TemporaryDirectory(prefix="grid-tree-", ignore_cleanup_errors=True) as scratch:
        root = Path(scratch).resolve() / "tree"
        root.mkdir()
        # Into a work tree and an index of its own: unlike `git archive` this takes no notice of `export-ignore`, and
        # unlike `git checkout-index` it reads the attributes that were committed, not those of the user's work tree.
        own = {"GIT_DIR": repository.git_dir, "GIT_WORK_TREE": str(root), "GIT_INDEX_FILE": f"{scratch}/index"}
        _git(
            "read-tree", "--reset", "-u", "--no-sparse-checkout", "--no-recurse-submodules", repository.commit,
            cwd=str(root), extra_env=own,
        )  # fmt: skip
        tree = walk(root)
        _refuse_large({entry.path: entry.size for entry in tree.entries}, repository.root, hint)
        archive, digest, size_bytes = pack(root, tree)
    return Snapshot(archive, digest, size_bytes, project, repository.commit, script, tuple(warnings))


# --- git -------------------------------------------------------------------------------------------------------------

_SCRUBBED = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
"""What would make git look at another repository than the script's; a caller inside a hook has some of these set."""


class _GitError(Exception):
    """Git said no: the message is git's own, ``output`` what it had printed before."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def _run_git(*arguments: str, cwd: str, extra_env: Mapping[str, str]) -> str:
    import subprocess  # noqa: PLC0415 - not before a run is started

    environment = {name: value for name, value in os.environ.items() if name not in _SCRUBBED}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **extra_env}
    command = ["git", "--no-pager", "-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        msg = f"git cannot be run: {error.strerror}"
        raise _GitError(msg, "") from error
    output = os.fsdecode(done.stdout)
    if done.returncode:
        words = os.fsdecode(done.stderr).split("\n")
        message = "; ".join(line.strip() for line in words if line.strip()) or f"git {arguments[0]} failed"
        raise _GitError(message, output)
    return output


def _git(*arguments: str, cwd: str, extra_env: Mapping[str, str] | None = None) -> str:
    try:
        return _run_git(*arguments, cwd=cwd, extra_env=extra_env or {})
    except _GitError as error:
        advice = "repair that, or pass localdir=True to send the script's folder as it is"
        msg = f"git cannot read the commit: {error}; {advice}"
        raise SourceError(msg) from error


@dataclass(frozen=True, slots=True)
class _Repository:
    root: str
    git_dir: str
    prefix: str
    commit: str


def _find_repository(folder: str, entrypoint: str) -> _Repository:
    """Ask git in one call for the repository around a folder, and for its commit."""
    try:
        questions = ("--show-toplevel", "--absolute-git-dir", "--show-prefix", "HEAD")
        output = _run_git("rev-parse", *questions, cwd=folder, extra_env={})
    except _GitError as error:
        root = error.output.split("\n")[0]
        if root:
            msg = (
                f"the repository {root} has no commit yet; make one (git add {shlex.quote(entrypoint)} && git commit), "
                "or pass localdir=True to send the script's folder as it is"
            )
        else:
            msg = (
                f"the entrypoint {entrypoint!r} is in no git repository that can be read ({error}); commit it to one, "
                "or pass localdir=True to send its folder as it is"
            )
        raise SourceError(msg) from error
    root, git_dir, prefix, commit = output.split("\n")[:4]
    return _Repository(root, git_dir, prefix, commit)


def _project(root: str) -> str:
    try:
        remote = _run_git("remote", "get-url", "origin", cwd=root, extra_env={}).strip()
    except _GitError:
        remote = ""
    return _project_of_remote(remote, root) or os.path.basename(root) or "project"


def _project_of_remote(remote: str, root: str) -> str:
    """Return the last two names of a remote's path, and nothing that may be secret; empty where it has no path."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415 - as above

    if "://" in remote:
        try:
            path = unquote(urlsplit(remote).path)
        except ValueError:
            return ""
    elif remote.startswith("."):
        path = os.path.normpath(os.path.join(root, remote))
    else:
        path = remote
    # In `user@host:owner/name` the first name still has the host before it, and maybe a password.
    names = [name.rpartition("@")[2].rpartition(":")[2] for name in path.replace("\\", "/").split("/")]
    names = [name for name in names if name]
    if names and names[-1] == ".git":  # the path of a repository on this machine: its folder is the name
        names.pop()
    if names:
        names[-1] = names[-1].removesuffix(".git")
    return "/".join(names[-2:])


# --- what is said about it -------------------------------------------------------------------------------------------


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
        f"the source code in {root} makes a snapshot of {_human(total)}, and at most {_human(MAX_SNAPSHOT_BYTES)} can "
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
