"""Reads pieces of outputs: by number, from the end, or from a time on."""

from __future__ import annotations

import asyncio
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
        return await run(self._readers, lambda: reading.page(begin, first, most, is_fresh=is_fresh))

    def _announce(self, grown: list[tuple[int, AttemptName]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self.growth.announce, grown)
        except RuntimeError:  # the loop is closed: nobody follows anything any longer
            return


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

    def page(self, begin: Begin, first: int, most: int, *, is_fresh: bool) -> Page:
        found = self._files.open(self._written, OUTPUT)
        if found is None or not found[1].size:
            if found is not None:
                found[0].close()
            return Page(1, 0, "", (), is_all=True, is_end=self._has_ended)
        file, state = found
        with file:
            reached = self._reached(file, state.size, is_fresh=is_fresh)
            for is_last_try in (False, True):
                try:
                    with Index(self._path) as entries:
                        if not index.fits(entries.last, file, state.size):
                            raise Unfit
                        return self._read(file, _Known(entries, reached), begin, first, most)
                except OSError:  # there is none, as on a full disk
                    break
                except Unfit:
                    if not is_last_try:
                        reached = self._caught_up(anew=True)
            return self._read(file, _Known((), reached), begin, first, most)

    def _reached(self, file: BinaryIO, size: int, *, is_fresh: bool) -> Entry:
        """Return how far the output goes."""
        if self._has_ended:
            try:
                with Index(self._path) as entries:
                    last = entries.last
                if last.offset == size and index.fits(last, file, size):
                    return last
            except (OSError, Unfit):
                pass
        elif not is_fresh:
            known = self._looker.reached(AttemptName(self._written.experiment_id, self._written.number))
            if known is not None:
                return known
        return self._caught_up()

    def _caught_up(self, *, anew: bool = False) -> Entry:
        caught_up = self._looker.catch_up(self._written, has_ended=self._has_ended, anew=anew)
        try:
            return caught_up.result(_PATIENCE)
        except TimeoutError:
            raise StillReading from None

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
