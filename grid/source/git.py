"""Asks git about the repository around a script: its commit, its project. What is packed is decided elsewhere."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
"""What would make git look at a repository other than the script's; a caller inside a hook has some of these set."""


_FACTS = 3
"""How many words precede the content of an object: its id, its kind and its size."""


class _GitError(Exception):
    """Git failed: the message is git's own, ``output`` is what it had printed before."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def _run(*arguments: str, cwd: str, extra_env: Mapping[str, str], given: str = "") -> str:
    import subprocess  # noqa: PLC0415 - not before a run is started

    environment = {name: value for name, value in os.environ.items() if name not in _SCRUBBED}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **extra_env}
    command = ["git", "--no-pager", "-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, input=os.fsencode(given), capture_output=True, check=False
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


def ask(*arguments: str, cwd: str, extra_env: Mapping[str, str] | None = None, given: str = "") -> str:
    """Return what git prints for a question about a commit that it must be able to answer.

    Parameters
    ----------
    arguments
        The question.
    cwd
        The folder in which it is asked.
    extra_env
        More environment variables for git.
    given
        What git reads from its standard input.

    Raises
    ------
    SourceError
        If git fails; the message quotes git and says what to do.
    """
    try:
        return _run(*arguments, cwd=cwd, extra_env=extra_env or {}, given=given)
    except _GitError as error:
        advice = "repair that, or pass localdir=True to send the script's folder as it is"
        msg = f"git cannot read the commit: {error}; {advice}"
        raise SourceError(msg) from error


def answers(*arguments: str, cwd: str) -> str:
    """Return what git prints for a question; nothing if it has no answer."""
    try:
        return _run(*arguments, cwd=cwd, extra_env={}).strip()
    except _GitError:
        return ""


def contents(blobs: Sequence[str], *, cwd: str) -> list[bytes]:
    """Return the contents of some blobs, each given by its id.

    Raises
    ------
    SourceError
        If git cannot read them.
    """
    if not blobs:
        return []
    output = os.fsencode(ask("cat-file", "--batch", cwd=cwd, given="".join(f"{blob}\n" for blob in blobs)))
    found = []
    position = 0
    for blob in blobs:
        end = output.index(b"\n", position)
        facts = output[position:end].split()
        if len(facts) != _FACTS:  # `<id> missing`, in a clone that has not fetched everything
            msg = f"git cannot read the commit: {blob} is missing in it; git fetch it, or pass localdir=True"
            raise SourceError(msg)
        position = end + 1 + int(facts[2]) + 1
        found.append(output[end + 1 : position - 1])
    return found


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository and the commit at its ``HEAD``; ``prefix`` leads from the root to the folder asked about."""

    root: str
    git_dir: str
    prefix: str
    commit: str


def find_repository(folder: str, entrypoint: str, *, is_module: bool = False) -> Repository:
    """Ask git in one call for the repository around a folder, and for its commit.

    Raises
    ------
    SourceError
        If there is no repository, or no commit yet; the message names the entrypoint and says what to do.
    """
    its_folder = "the current folder" if is_module else "the script's folder"
    try:
        questions = ("--show-toplevel", "--absolute-git-dir", "--show-prefix", "HEAD")
        output = _run("rev-parse", *questions, cwd=folder, extra_env={})
    except _GitError as error:
        root = error.output.split("\n")[0]
        if root:
            msg = (
                f"the repository {root} has no commit yet; make one (git add "
                f"{'.' if is_module else shlex.quote(entrypoint)} && git commit), or pass localdir=True to send "
                f"{its_folder} as it is"
            )
        else:
            msg = (
                f"the entrypoint {entrypoint!r} is not in a git repository that can be read ({error}); commit it to "
                f"one, or pass localdir=True to send {its_folder if is_module else 'its folder'} as it is"
            )
        raise SourceError(msg) from error
    root, git_dir, prefix, commit = output.split("\n")[:4]
    return Repository(root, git_dir, prefix, commit)


def project_of(root: str) -> str:
    """Return ``owner/name`` of the ``origin`` of a repository, or the folder's name if there is none."""
    remote = answers("remote", "get-url", "origin", cwd=root)
    return _project_of_remote(remote, root) or os.path.basename(root) or "project"


def _project_of_remote(remote: str, root: str) -> str:
    """Return the last two names of a remote's path, and nothing that may be secret; empty if it has no path."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415 - not before a run is started

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
