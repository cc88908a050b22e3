"""Downloads artifacts: several at a time, small ones together, each checked before it takes its place.

What is interrupted leaves complete files and `.part` files only, and goes on from there the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grid.chain.receiving import blocking
from grid.downloads.listing import Page
from grid.downloads.names import Place, Places
from grid.downloads.receivers import BundleReceiver, FileReceiver
from grid.downloads.remote import Remote
from grid.downloads.tally import Tally
from grid.downloads.target import PartFile, Target
from grid.errors import DownloadFailed

if TYPE_CHECKING:
    import re

    from grid.models import ArtifactRecord
    from grid.session.session import Session

__all__ = ["Download"]

AT_ONCE = 4
"""How many requests for content are under way at a time."""

_SMALL = 1 << 18  # bytes; larger files are fetched one by one, and go on where they broke off
_BUNDLE_BYTES = 1 << 23
_BUNDLE_FILES = 500
_DIGEST = "GRID.sha256"
"""The record of a bundle's member that has its SHA-256."""
_TRIES = 3  # for content that is not what the service says it is


@dataclass(frozen=True)
class _Wanted:
    """An artifact, where it goes, and its number among the results."""

    record: ArtifactRecord
    place: Place
    number: int


class Download:
    """One download to one folder.

    Parameters
    ----------
    session
        Whom to ask.
    target
        Where files go.
    match
        Found in the path of an artifact that is wanted; None for all.
    tally
        Counts what is done.
    """

    def __init__(self, session: Session, target: Target, match: re.Pattern[str] | None, tally: Tally) -> None:
        self._session = session
        self._target = target
        self._match = match
        self._tally = tally
        self._paths: list[Path | None] = []
        self._room = asyncio.Semaphore(AT_ONCE)

    async def carry_out(self, pages: AsyncGenerator[Page, None]) -> list[Path]:
        """Fetch what is wanted of these pages, unless it is there already.

        Returns
        -------
        list of Path
            Where the files are, in the order of the pages. What was removed meanwhile is left out.

        Raises
        ------
        DownloadFailed
            If the service sends something that is not kept. Files that were complete stay.
        GridError, OSError
            Whatever went wrong first.
        """
        places = Places(is_case_sensitive=await blocking(self._target.is_case_sensitive))
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks, aclosing(pages):
                async for page in pages:
                    wanted = self._wanted(page, places)
                    for each in wanted:
                        self._tally.expect(int(each.record.size))
                    remote = Remote(self._session, page)
                    for unit in _grouped(await self._missing(remote, page, wanted)):
                        await self._room.acquire()
                        tasks.create_task(self._fetch(remote, unit))
                self._tally.is_listed = True
        except BaseExceptionGroup as failures:
            failure = _first(failures)
        if failure is not None:
            raise failure  # here, where it keeps what it was raised from
        return [path for path in self._paths if path is not None]

    def _wanted(self, page: Page, places: Places) -> list[_Wanted]:
        # All of a page is looked at before anything of it is written.
        found = []
        for record in page.artifacts:
            place = places.take(page.whose.name, record.path)
            if place is not None and (self._match is None or self._match.search(record.path)):
                found.append(_Wanted(record, place, len(self._paths)))
                self._paths.append(None)
        return found

    async def _missing(self, remote: Remote, page: Page, wanted: list[_Wanted]) -> list[_Wanted]:
        """Leave out what is there already."""
        there: set[int] = set()
        for each in await blocking(self._of_equal_size, wanted):
            digest = each.record.sha256
            if digest is None and page.has_ended and each.record.size > _SMALL:
                digest = await remote.digest(each.record)  # which is less work than to send it
            if digest is not None and await self._hashed(each) == digest:
                there.add(each.number)
                self._tally.was_there(int(each.record.size))
                self._done(each, self._target.path(each.place))
        return [each for each in wanted if each.number not in there]

    def _of_equal_size(self, wanted: list[_Wanted]) -> list[_Wanted]:
        return [each for each in wanted if self._target.has(each.place, int(each.record.size))]

    async def _hashed(self, wanted: _Wanted) -> str | None:
        existing = await blocking(self._target.existing, wanted.place)
        if existing is None:
            return None
        try:
            while await blocking(existing.read_on):
                pass
        finally:
            digest = existing.close()
        return digest

    async def _fetch(self, remote: Remote, unit: list[_Wanted]) -> None:
        try:
            if len(unit) > 1:
                bundle = _Bundle(self._target, unit, self._done, has_ended=remote.has_ended)
                await bundle.receive(remote, self._tally)
                unit = bundle.again
            for each in unit:
                await self._fetch_file(remote, each)
        finally:
            self._room.release()

    async def _fetch_file(self, remote: Remote, wanted: _Wanted) -> None:
        record = wanted.record
        part = await blocking(PartFile, self._target, wanted.place)
        try:
            receiver = FileReceiver(part, await self._resumed(part, record), self._tally.arrived)
            for _ in range(_TRIES):
                is_whole = receiver.etag == record.etag and part.size == record.size
                if not is_whole and not await remote.receive(record, receiver):
                    await blocking(part.discard)
                    return
                if await remote.confirms(record, receiver.etag, part.size, part.sha256):
                    self._done(wanted, await blocking(part.complete))
                    return
                await blocking(receiver.begin_anew)
            await blocking(part.discard)
            message = (
                f"{self._target.path(wanted.place)} is not downloaded: {_TRIES} times its size or its SHA-256 was not "
                "what the service says"
            )
            raise DownloadFailed(message)
        finally:
            part.close()

    def _done(self, wanted: _Wanted, path: Path) -> None:
        self._paths[wanted.number] = path
        self._tally.done()

    async def _resumed(self, part: PartFile, record: ArtifactRecord) -> str:
        """Return what an incomplete file is a part of, having read it; empty if it is of no use."""
        if not part.size:
            return ""
        note = await blocking(part.read_note)
        if note != record.etag or part.size > record.size:
            await blocking(part.begin)
            return ""
        while await blocking(part.read_on):
            pass
        self._tally.was_there(part.size)
        return note


class _Bundle:
    """Small files that are fetched together.

    Parameters
    ----------
    target
        Where they go.
    wanted
        The files.
    done
        Called with each that is complete, and its path.
    has_ended
        Whether they must have the sizes that were listed.
    """

    def __init__(
        self, target: Target, wanted: list[_Wanted], done: Callable[[_Wanted, Path], None], *, has_ended: bool
    ) -> None:
        self._target = target
        self._wanted = {each.record.path: each for each in wanted}
        self._done = done
        self._has_ended = has_ended
        self._digest: str | None = None
        self.again: list[_Wanted] = []
        """What did not come as it should, or without a digest."""

    async def receive(self, remote: Remote, tally: Tally) -> None:
        """Fetch them."""
        receiver = BundleReceiver(list(self._wanted), self._open, self._close, tally.arrived)
        try:
            await remote.receive_bundle(receiver)
        finally:
            await blocking(receiver.settle)

    def _open(self, path: str, records: Mapping[str, str]) -> PartFile:
        part = PartFile(self._target, self._wanted[path].place)
        part.begin()
        self._digest = records.get(_DIGEST)
        return part

    def _close(self, path: str, part: PartFile, is_whole: bool) -> None:  # noqa: FBT001 - a receiver calls it
        wanted = self._wanted[path]
        digests = {self._digest, wanted.record.sha256} - {None}
        has_size = not self._has_ended or part.size == wanted.record.size
        if is_whole and has_size and digests == {part.sha256}:
            self._done(wanted, part.complete())
            return
        part.discard()
        if is_whole:
            self.again.append(wanted)


def _grouped(wanted: list[_Wanted]) -> Iterator[list[_Wanted]]:
    """Put small files together, as far as a bundle may go; each larger one is for itself."""
    group: list[_Wanted] = []
    size = 0
    for each in wanted:
        if each.record.size > _SMALL:
            yield [each]
            continue
        if len(group) == _BUNDLE_FILES or (group and size + each.record.size > _BUNDLE_BYTES):
            yield group
            group, size = [], 0
        group.append(each)
        size += int(each.record.size)
    if group:
        yield group


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
