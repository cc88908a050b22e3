"""Downloads artifacts: several at a time, small ones together, each checked before it takes its place.

What is interrupted leaves complete files and `.part` files only, and goes on from there the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from grid.chain.receiving import blocking
from grid.downloads.bundle import Bundle, Wanted
from grid.downloads.faults import Faults, is_of_one_file
from grid.downloads.listing import Page
from grid.downloads.names import Places, shown
from grid.downloads.parts import PartFile
from grid.downloads.receivers import FileReceiver, TooLarge
from grid.downloads.remote import Remote
from grid.downloads.tally import Tally
from grid.downloads.target import Existing, Target
from grid.errors import ArtifactNotFound, DownloadFailed, GridError

if TYPE_CHECKING:
    import re

    from grid.models import ArtifactRecord
    from grid.session.outages import Lasting

__all__ = ["Download"]

AT_ONCE = 4
"""How many requests for content are under way at a time."""

_SMALL = 1 << 18  # bytes; larger files are fetched one by one, and go on where they broke off
_BUNDLE_BYTES = 1 << 23
_BUNDLE_FILES = 500
_HASHED = 100  # small files that are there already and are read at once
_TRIES = 3  # for content that is not what the service says it is


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

    def __init__(self, session: Lasting, target: Target, match: re.Pattern[str] | None, tally: Tally) -> None:
        self._session = session
        self._target = target
        self._match = match
        self._tally = tally
        self._paths: list[Path | None] = []
        self._faults = Faults()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def carry_out(self, pages: AsyncGenerator[Page, None]) -> list[Path]:
        """Fetch what is wanted of these pages, unless it is there already.

        Returns
        -------
        list of Path
            Where the files are, in the order of the pages. What a script that runs has removed meanwhile is left out.

        Raises
        ------
        DownloadFailed
            If there are files that cannot be got, or written, or are not what the service says. All others are there.
        GridError, OSError
            Whatever made it impossible to go on. Files that were complete stay.
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
        self._faults.check()
        return [path for path in self._paths if path is not None]

    def _wanted(self, page: Page, places: Places) -> list[Wanted]:
        # All of a page is looked at before anything of it is written.
        found = []
        for record in page.artifacts:
            if self._match is not None and not self._match.search(record.path):
                continue
            try:
                place = places.take(page.whose.name, record.path)
            except DownloadFailed as error:
                self._faults.note(error)
                continue
            if place is not None:
                found.append(Wanted(record, place, len(self._paths)))
                self._paths.append(None)
        return found

    async def _missing(self, remote: Remote, page: Page, wanted: list[Wanted]) -> list[Wanted]:
        """Leave out what is there already, and what cannot be written."""
        there: set[int] = set()
        of_equal_size, impossible = await blocking(self._of_equal_size, wanted)
        small = [each for each in of_equal_size if each.record.size <= _SMALL and each.record.sha256]
        for start in range(0, len(small), _HASHED):
            there.update(await blocking(self._equal, small[start : start + _HASHED]))
        for each in of_equal_size:
            if each.record.size > _SMALL and await self._is_there(remote, page, each):
                there.add(each.number)
        for each in of_equal_size:
            if each.number in there:
                self._tally.was_there(int(each.record.size))
                self._done(each, self._target.path(each.place))
        return [each for each in wanted if each.number not in there | impossible]

    def _of_equal_size(self, wanted: list[Wanted]) -> tuple[list[Wanted], set[int]]:
        found, impossible = [], set()
        for each in wanted:
            try:
                if self._target.has(each.place, int(each.record.size)):
                    found.append(each)
            except (DownloadFailed, OSError) as error:
                self._faults.note(error)
                impossible.add(each.number)
        return found, impossible

    def _equal(self, wanted: list[Wanted]) -> list[int]:
        return [each.number for each in wanted if self._target.digest(each.place) == each.record.sha256]

    async def _is_there(self, remote: Remote, page: Page, wanted: Wanted) -> bool:
        digest = wanted.record.sha256
        if digest is None and page.has_ended:
            digest = await remote.digest(wanted.record)  # which is less work than to send it
        return digest is not None and await self._hashed(wanted) == digest

    async def _hashed(self, wanted: Wanted) -> str | None:
        existing = await blocking(self._target.existing, wanted.place, undo=_close)
        if existing is None:
            return None
        try:
            while await blocking(existing.read_on):
                pass
        finally:
            existing.close()
        return existing.sha256

    async def _fetch(self, remote: Remote, unit: list[Wanted]) -> None:
        try:
            if len(unit) > 1:
                has_ended = remote.had_ended
                bundle = Bundle(self._target, unit, self._done, self._faults.note, has_ended=has_ended)
                await bundle.receive(remote, self._tally)
                if has_ended:
                    for each in bundle.missing:
                        self._faults.note(remote.lost(each.record))
                    unit = bundle.again
                else:
                    # A script may have removed them, or it has made them so that they cannot be read.
                    unit = bundle.again + bundle.missing
            for each in unit:
                try:
                    await self._fetch_file(remote, each)
                except (DownloadFailed, ArtifactNotFound, OSError) as error:
                    if isinstance(error, GridError) and not is_of_one_file(error):
                        raise  # a ConnectionFailed is an OSError, too
                    self._faults.note(error)
        finally:
            self._room.release()

    async def _fetch_file(self, remote: Remote, wanted: Wanted) -> None:
        record = wanted.record
        part = await blocking(PartFile, self._target, wanted.place, undo=PartFile.close)
        try:
            most = int(record.size) if remote.had_ended else None
            receiver = FileReceiver(part, await self._resumed(part, record), self._tally.arrived, most=most)
            for _ in range(_TRIES):
                is_whole = receiver.etag == record.etag and part.size == record.size
                try:
                    if not is_whole and not await remote.receive(record, receiver):
                        if remote.had_ended:
                            raise remote.lost(record)
                        await blocking(part.discard)  # its script has removed it
                        return
                    is_right = await remote.confirms(record, receiver.etag, part.size, part.sha256)
                except TooLarge:
                    is_right = False
                except (ArtifactNotFound, DownloadFailed):
                    await blocking(part.discard)
                    raise
                if is_right:
                    self._done(wanted, await blocking(part.complete))
                    return
                await blocking(receiver.begin_anew)
            await blocking(part.discard)
            message = (
                f"{shown(self._target.path(wanted.place))} is not downloaded: {_TRIES} times its size or its SHA-256 "
                "was not what the service says"
            )
            raise DownloadFailed(message)
        finally:
            part.close()

    def _done(self, wanted: Wanted, path: Path) -> None:
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


def _grouped(wanted: list[Wanted]) -> Iterator[list[Wanted]]:
    """Put small files together, as far as a bundle may go; each larger one is for itself."""
    group: list[Wanted] = []
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


def _close(existing: Existing | None) -> None:
    if existing is not None:
        existing.close()


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
