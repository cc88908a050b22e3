"""Reads pieces of outputs: by number, from the end, or from a time on."""

from __future__ import annotations

import asyncio
import functools
import os
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from grid.service.executors.protocol import OUTPUT, AttemptName, Files, Written
from grid.service.results import index
from grid.service.results.growth import Growth
from grid.service.results.index import Entry, Index, Unfit
from grid.service.results.lines import read
from grid.service.results.looker import Looker
from grid.service.system.workspace import Workspace

MOST_LINES = 10_000
"""How many lines a page has at most."""
_PAGE = 1024 * 1024
"""How many characters of text end a page."""
_MOST_NUMBER = 2**31 - 2
"""The last line that has a number which GraphQL can tell."""
_PATIENCE = 20.0
"""How many seconds to wait until an output was read that has no index."""


class StillReading(Exception):
    """An output is so large that it takes longer to read it for the first time than anybody wants to wait."""

    def __init__(self) -> None:
        super().__init__("the output is being read for the first time, which takes long: try again in a minute")


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a page begins: with the first line, unless one of these is given."""

    number: int | None = None
    """The number of a line."""
    since: int | None = None
    """Microseconds since the epoch: with the first line that is not older."""
    last: int | None = None
    """How many lines from the end."""


class Time(NamedTuple):
    """When lines were printed: those from a number on."""

    number: int
    at: int
    is_approximate: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive lines of an output."""

    number: int
    count: int
    text: str
    times: Sequence[Time]
    is_all: bool
    """Whether there is no line after these so far."""
    is_end: bool
    """Whether there is none, and the attempt has ended."""


class Pages:
    """What attempts have printed.

    Parameters
    ----------
    files
        Where outputs lie.
    workspace
        Where the service keeps what it makes of them.
    """

    def __init__(self, files: Files, workspace: Workspace) -> None:
        self._files = files
        self._workspace = workspace
        self.growth = Growth()
        """Who follows which run."""
        self._loop = asyncio.get_running_loop()
        self.looker = Looker(files, workspace, self.growth.is_followed, self._announce)
        """What finds new lines."""
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="grid-logs")

    async def close(self) -> None:
        """End the threads."""
        await asyncio.to_thread(self.looker.close)
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def read(  # noqa: PLR0913 - all that makes up a page
        self,
        written: Written,
        begin: Begin,
        *,
        has_ended: bool,
        first: int = MOST_LINES,
        most: int = _PAGE,
        is_fresh: bool = True,
    ) -> Page:
        """Read lines of an attempt in a thread.

        Parameters
        ----------
        written
            The attempt.
        begin
            Where to begin.
        has_ended
            Whether it has ended, as far as the caller knows.
        first
            How many lines at most.
        most
            After how many characters the page ends.
        is_fresh
            Whether to look for new lines before; otherwise those are read that the looker has found.

        Raises
        ------
        StillReading
            If the output must be read as a whole first, and that takes long.
        """
        reading = _Reading(self._files, self._workspace, self.looker, written, has_ended=has_ended)
        run = asyncio.get_running_loop().run_in_executor
        wanted = _Wanted() if is_fresh and not has_ended else None
        reached: Entry | None = None
        while True:
            if wanted is not None:
                # Not in a thread: others are read meanwhile.
                caught_up = self.looker.catch_up(written, has_ended=has_ended, anew=wanted.is_anew)
                try:
                    reached = await asyncio.wait_for(asyncio.wrap_future(caught_up), _PATIENCE)
                except TimeoutError:
                    raise StillReading from None
            read = functools.partial(
                reading.page, begin, first, most, reached, was_anew=bool(wanted and wanted.is_anew)
            )
            found = await run(self._readers, read)
            if isinstance(found, Page):
                return found
            wanted = found

    def _announce(self, grown: list[tuple[int, AttemptName]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self.growth.announce, grown)
        except RuntimeError:  # the loop is closed: nobody follows anything any longer
            return


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An output must be read up to its end before a page can be."""

    is_anew: bool = False
    """Whether its index is broken, and must be made again."""


class _Reading:
    """One page, as it is read."""

    def __init__(
        self, files: Files, workspace: Workspace, looker: Looker, written: Written, *, has_ended: bool
    ) -> None:
        self._files = files
        self._path = workspace.log_index(written.experiment_id, written.number)
        self._looker = looker
        self._written = written
        self._has_ended = has_ended

    def page(self, begin: Begin, first: int, most: int, reached: Entry | None, *, was_anew: bool) -> Page | _Wanted:
        """Return the page, or what must be done before; `reached` says how far the output goes, where that is known."""
        found = self._files.open(self._written, OUTPUT)
        if found is None:
            return self._nothing
        file, state = found
        with file:
            if not state.size:
                return self._nothing
            reached = reached or self._reached(file, state.size)
            if reached is None:
                return _Wanted()
            try:
                with Index(self._path) as entries:
                    # Both may have grown since the output was opened: the index has no entry beyond what it has now.
                    if not index.fits(entries.last, file, os.fstat(file.fileno()).st_size):
                        raise Unfit
                    return self._read(file, _Known(entries, reached), begin, first, most)
            except OSError:  # there is none, as on a full disk: what it would say is when lines were printed
                pass
            except Unfit:
                if not was_anew:
                    return _Wanted(is_anew=True)
            return self._read(file, _Known((), reached), begin, first, most)

    @property
    def _nothing(self) -> Page:
        return Page(1, 0, "", (), is_all=True, is_end=self._has_ended)

    def _reached(self, file: BinaryIO, size: int) -> Entry | None:
        """Return how far the output goes, if that is known."""
        if not self._has_ended:
            return self._looker.reached(AttemptName(self._written.experiment_id, self._written.number))
        try:
            with Index(self._path) as entries:
                last = entries.last
        except (OSError, Unfit):
            return None
        return last if last.offset == size and index.fits(last, file, size) else None

    def _read(self, file: BinaryIO, known: _Known, begin: Begin, first: int, most: int) -> Page:
        total = min(known.reached.lines, _MOST_NUMBER)
        if begin.number is not None:
            number = begin.number
        elif begin.last is not None:
            number = total - begin.last + 1
        elif begin.since is not None:
            number = known.number_since(begin.since)
        else:
            number = 1
        number = min(max(number, 1), total + 1)
        before = known.before(number)
        text: list[str] = []
        count = 0
        if number <= total:
            skip = number - 1 - before.lines
            for part, lines in read(file, before.offset, known.reached.offset, skip, first, most):
                text.append(part)
                count += lines
        is_all = number + count > total
        times = known.times(number, count)
        return Page(number, count, "".join(text), times, is_all=is_all, is_end=is_all and self._has_ended)


class _Known:
    """The entries of an index, and what is not in it yet."""

    def __init__(self, entries: Sequence[Entry], reached: Entry) -> None:
        self._entries = entries
        last = entries[len(entries) - 1] if entries else Entry()
        self.reached = max(last, reached, key=lambda entry: entry.lines)
        self._extra = [self.reached] if self.reached.lines > last.lines else []

    def __len__(self) -> int:
        return len(self._entries) + len(self._extra)

    def __getitem__(self, place: int) -> Entry:
        count = len(self._entries)
        return self._entries[place] if place < count else self._extra[place - count]

    def before(self, number: int) -> Entry:
        """Return the last entry before a line."""
        place = bisect_left(self, number, key=lambda entry: entry.lines)
        return self[place - 1] if place else Entry()

    def number_since(self, at: int) -> int:
        """Return the number of the first line that is not older than a time."""
        # Where the clock was set back in between, there are several such places, and this is one of them.
        place = bisect_left(self, at, key=lambda entry: entry.at)
        return self[place - 1].lines + 1 if place else 1

    def times(self, number: int, count: int) -> list[Time]:
        """Return when some lines were printed."""
        times: list[Time] = []
        place = bisect_left(self, number, key=lambda entry: entry.lines)
        end = number + count
        while number < end and place < len(self):
            entry = self[place]
            if not times or times[-1][1:] != (entry.at, entry.is_approximate):
                times.append(Time(number, entry.at, entry.is_approximate))
            number = entry.lines + 1
            place += 1
        return times
