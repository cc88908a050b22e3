"""The files that scripts have made: pages of them, one of them, and addresses to get them at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from grid.service.executors.protocol import Files, FileState, Passed, Written
from grid.service.results.digests import Digests
from grid.service.system.addresses import Addresses

_T = TypeVar("_T")

_THREADS = 4
_MOST_WALKED = 20
"""How often a walk may say how far it has come before its page ends: nobody waits for the end of an empty tree."""
_MOST_CHARACTERS = 1 << 20
"""How many characters of paths end a page: scripts may nest folders deeper than any page could show."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt whose files are asked for."""

    written: Written
    snapshot: str
    """The digest of the source code that it began with."""
    has_ended: bool
    """Whether its files are what they will be."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a script has made, as it was when it was looked at."""

    attempt: Attempt
    state: FileState
    download: str
    """Where one user can get it, as a path below the service's address."""
    sha256: str | None = None
    """Its digest, if that was asked for and is known; None while the attempt goes on."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some artifacts, in the order of their paths."""

    artifacts: list[Artifact]
    has_more: bool
    end: str | None = None
    """After which path the next page begins; None if there is nothing in this one."""


def etag_of(state: FileState) -> str:
    """Return what tells the content of a file from an earlier or a later one."""
    return f'"{state.inode:x}-{state.size:x}-{state.modified_at:x}"'


class Artifacts:
    """What users see of the files that attempts have written.

    Parameters
    ----------
    files
        Where they lie.
    digests
        Their digests.
    addresses
        Makes addresses.
    """

    def __init__(self, files: Files, digests: Digests, addresses: Addresses) -> None:
        self._files = files
        self._digests = digests
        self._addresses = addresses
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="grid-artifacts")

    def close(self) -> None:
        """Wait until nothing is looked at any more."""
        self._threads.shutdown(cancel_futures=True)

    async def page(
        self, attempt: Attempt, user_id: str, first: int, after: str | None, *, with_digests: bool = False
    ) -> Page:
        """Return the first artifacts of an attempt after a path: as many as were asked for, unless that is too long.

        There may be none in a page that has another one behind it, if there are very many folders on the way.
        """

        def read() -> Page:
            states: list[FileState] = []
            end: str | None = None
            characters = walked = 0
            has_more = False
            for each in self._files.list(attempt.written, attempt.snapshot, after):
                has_more = len(states) == first or characters > _MOST_CHARACTERS or walked == _MOST_WALKED
                if has_more:
                    break
                end = each.path
                if isinstance(each, Passed):
                    walked += 1
                else:
                    states.append(each)
                    characters += len(each.path)
            return Page(self._artifacts(attempt, user_id, states, with_digests=with_digests), has_more, end)

        return await self.in_thread(read)

    async def find(self, attempt: Attempt, user_id: str, path: str) -> Artifact | None:
        """Return the artifact of that path, if there is one."""

        def read() -> Artifact | None:
            state = self._files.find(attempt.written, attempt.snapshot, path)
            return None if state is None else self._artifacts(attempt, user_id, [state], with_digests=True)[0]

        return await self.in_thread(read)

    async def sha256(self, artifact: Artifact, seconds: float) -> str | None:
        """Return the digest of an artifact; None while the attempt goes on, and if it takes longer than that."""
        if artifact.sha256 is not None or not artifact.attempt.has_ended or not seconds:
            return artifact.sha256
        return await self._digests.computed(artifact.attempt.written, artifact.state, seconds)

    def bundle(self, attempt: Attempt, user_id: str) -> str:
        """Return where a user can get several artifacts at once, as a path below the service's address."""
        return self._addresses.sign("POST", bundle_path(attempt.written), user_id).path

    async def in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function that looks at files, which takes as long as it takes."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _artifacts(
        self, attempt: Attempt, user_id: str, states: list[FileState], *, with_digests: bool
    ) -> list[Artifact]:
        digests: list[str | None] = [None] * len(states)
        if with_digests and attempt.has_ended and states:
            digests = self._digests.kept(attempt.written, states)
        return [
            Artifact(attempt, state, self._download(attempt.written, user_id, state.path), digest)
            for state, digest in zip(states, digests, strict=True)
        ]

    def _download(self, attempt: Written, user_id: str, path: str) -> str:
        return self._addresses.sign("GET", download_path(attempt), user_id, {"path": path}).path


def download_path(attempt: Written) -> str:
    """Return the path of the addresses of an attempt's files."""
    return f"/artifacts/{attempt.experiment_id}/{attempt.number}"


def bundle_path(attempt: Written) -> str:
    """Return the path of the address of several of an attempt's files."""
    return f"/bundles/{attempt.experiment_id}/{attempt.number}"
