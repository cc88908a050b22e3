"""Small files that are fetched together, and written each at once when all of it has come and is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from grid.chain.receiving import blocking
from grid.downloads.faults import FileFault
from grid.downloads.names import Place
from grid.downloads.receivers import BundleReceiver, Memory
from grid.downloads.remote import Remote
from grid.downloads.tally import Tally
from grid.downloads.target import Target
from grid.errors import DownloadFailed
from grid.models import ArtifactRecord

__all__ = ["Bundle", "Wanted"]

_DIGEST = "GRID.sha256"
"""The record of a member that has its SHA-256."""
_LARGEST = 1 << 20  # bytes: services send no digest of larger members, however small they were when they were listed


@dataclass(frozen=True)
class Wanted:
    """An artifact, where it goes, and its number among the results."""

    record: ArtifactRecord
    place: Place
    number: int


class Bundle:
    """Small files that are fetched together.

    Parameters
    ----------
    target
        Where they go.
    wanted
        The files.
    done
        Called with each that is complete, and its path.
    failed
        Called with what is wrong with a file that cannot be written.
    has_ended
        Whether they must have the sizes that were listed.
    """

    def __init__(
        self,
        target: Target,
        wanted: list[Wanted],
        done: Callable[[Wanted, Path], None],
        failed: Callable[[FileFault], None],
        *,
        has_ended: bool,
    ) -> None:
        self._target = target
        self._wanted = {each.record.path: each for each in wanted}
        self._done, self._failed = done, failed
        self._has_ended = has_ended
        self._digest: str | None = None
        self.again: list[Wanted] = []
        """What did not come as it should, or without a digest."""
        self.missing: list[Wanted] = []
        """What did not come at all."""

    async def receive(self, remote: Remote, tally: Tally) -> None:
        """Fetch them."""
        most = {path: self._most(each) for path, each in self._wanted.items()}
        receiver = BundleReceiver(most, self._open, self._close, tally.arrived)
        try:
            await remote.receive_bundle(receiver)
        finally:
            await blocking(receiver.settle)
        self.again += [self._wanted[path] for path in receiver.too_large]
        self.missing = [self._wanted[path] for path in receiver.missing]

    def _most(self, wanted: Wanted) -> int:
        return int(wanted.record.size) if self._has_ended else _LARGEST

    def _open(self, path: str, records: Mapping[str, str]) -> Memory:  # noqa: ARG002 - a receiver calls it
        self._digest = records.get(_DIGEST)
        return Memory()

    def _close(self, path: str, content: Memory, is_whole: bool) -> None:  # noqa: FBT001 - a receiver calls it
        if not is_whole:
            return
        wanted = self._wanted[path]
        digests = {self._digest, wanted.record.sha256} - {None}
        has_size = not self._has_ended or content.size == wanted.record.size
        if not has_size or digests != {content.sha256}:
            self.again.append(wanted)
            return
        try:
            where = self._target.write(wanted.place, content.content)
        except (DownloadFailed, OSError) as error:
            self._failed(error)
        else:
            self._done(wanted, where)
