"""Asks a service for the content of artifacts, for new addresses where old ones have expired, and for digests."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from grid.downloads.listing import Page, gone
from grid.downloads.names import shown
from grid.downloads.receivers import Restless
from grid.errors import ArtifactNotFound, DownloadFailed, NotFound, PermissionDenied, RequestTimeout

if TYPE_CHECKING:
    from grid.chain.receiving import Receiver
    from grid.downloads.receivers import BundleReceiver
    from grid.models import ArtifactRecord, ExperimentWithArtifact
    from grid.session.outages import Lasting

__all__ = ["Remote"]

_WAIT_SECONDS = 10.0
"""How long one request waits for a digest, so that it fits into any read time-out."""
_PATIENCE = 60.0  # seconds for a digest, and as many more as reading the file would take at this speed:
_SLOWEST = 2.0**24  # bytes per second
_PAUSE = 0.1


class Remote:
    """The artifacts of one page, at their service.

    Parameters
    ----------
    session
        Whom to ask.
    page
        What was listed.
    """

    def __init__(self, session: Lasting, page: Page) -> None:
        self._session = session
        self._page = page
        self._whose = page.whose
        self.had_ended = page.has_ended
        """Whether the files were what they will be when they were listed."""
        self.has_ended = page.has_ended
        """Whether the files are what they will be, as far as is known."""

    async def receive(self, record: ArtifactRecord, receiver: Receiver) -> bool:
        """Fetch one file; return whether it is there.

        Raises
        ------
        DownloadFailed
            If it is overwritten so often that it never comes whole.
        """
        name = f"the download of {record.path!r} of {shown(self._whose.name)}"
        address, refusals = record.download_path, 0
        while True:
            before = receiver.received
            try:
                await self._session.stream(name, address, receiver)
            except (PermissionDenied, NotFound) as error:
                # The address has expired, or the file is gone, or this user may no longer read it.
                refusals = 0 if receiver.received > before else refusals + 1
                if refusals > 1 and isinstance(error, ArtifactNotFound):
                    raise self.lost(record) from error
                if refusals > 1:
                    raise
            except Restless:
                raise self._restless(record) from None
            else:
                return True
            found = (await self.look(record.path)).artifact
            if found is None:
                return False
            address = found.download_path

    def _restless(self, record: ArtifactRecord) -> DownloadFailed:
        message = (
            f"the artifact {record.path!r} of {shown(self._whose.name)} is not downloaded: it was overwritten "
            "each time while it was sent. Get it when its experiment has ended, or let the script write a new file and "
            "rename it"
        )
        return DownloadFailed(message)

    def lost(self, record: ArtifactRecord) -> ArtifactNotFound:
        """Return the error for a file that was listed, and is not sent."""
        name = shown(self._whose.name)
        return ArtifactNotFound(f"the artifact {record.path!r} of {name} is gone, or the service cannot read it")

    async def receive_bundle(self, receiver: BundleReceiver[Any]) -> None:
        """Fetch small files."""
        name = f"the download of artifacts of {shown(self._whose.name)}"
        address, refusals = self._page.bundle_path, 0
        while True:
            before = receiver.received
            try:
                return await self._session.stream(name, address or await self._bundle_path(), receiver)
            except PermissionDenied:  # as above
                refusals = 0 if receiver.received > before else refusals + 1
                if refusals > 1:
                    raise
            address = None

    async def _bundle_path(self) -> str:
        from grid import models  # noqa: PLC0415 - not before the first call

        answer = await self._session.ask(models.GetBundle, id=self._whose.id, attempt=self._whose.attempt)
        if answer.experiment is None:
            raise gone(self._whose)
        return answer.experiment.bundle_path

    async def look(self, path: str, wait_seconds: float = 0) -> ExperimentWithArtifact:
        """Return the experiment, and one of its artifacts as it is now.

        Raises
        ------
        ExperimentNotFound
            If the experiment no longer exists.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        answer = await self._session.ask(
            models.GetArtifact,
            id=self._whose.id,
            attempt=self._whose.attempt,
            path=path,
            waitSeconds=min(wait_seconds, self._session.policy.read_timeout / 2),
        )
        if answer.experiment is None:
            raise gone(self._whose)
        return answer.experiment

    async def digest(self, record: ArtifactRecord) -> str | None:
        """Return the SHA-256 of a file as it was listed; None if it is not that any more, or can still be changed.

        Raises
        ------
        RequestTimeout
            If the service takes too long to compute it.
        """
        found = await self._known(record)
        return found.sha256 if found is not None and found.etag == record.etag else None

    async def confirms(self, record: ArtifactRecord, etag: str, size: int, sha256: str) -> bool:
        """Return whether a content that has arrived is what the service has.

        What a script has changed or removed meanwhile cannot be compared: it was whole when it was sent.
        """
        if etag == record.etag:
            if size != record.size:
                return False
            if record.sha256 is not None:
                return sha256 == record.sha256
        found = await self._known(record)
        if found is None:
            return True
        if found.etag != etag:
            return not self.has_ended
        return size == found.size and found.sha256 in {None, sha256}

    async def _known(self, record: ArtifactRecord) -> ArtifactRecord | None:
        """Return a file as it is now, with its digest unless it can still be changed; None if there is none."""
        patience = _PATIENCE + record.size / _SLOWEST
        deadline = time.monotonic() + patience
        while True:
            experiment = await self.look(record.path, _WAIT_SECONDS)
            found = experiment.artifact
            self.has_ended = experiment.status.is_terminal or experiment.attempt != self._whose.attempt
            if found is None or found.sha256 is not None or not self.has_ended:
                return found
            if time.monotonic() > deadline:
                message = f"the service has not computed the SHA-256 of {record.path!r} within {patience:.0f} s"
                raise RequestTimeout(message)
            await asyncio.sleep(_PAUSE)
