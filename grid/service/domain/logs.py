"""What the scripts of a run have printed: who may read it, in which order it is told, and when that is all."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grid.service.domain.accounts import Accounts, User
from grid.service.domain.changes import Changes
from grid.service.domain.errors import ExperimentMissing, InvalidValue, RunMissing
from grid.service.executors.protocol import AttemptName, Written
from grid.service.results.pages import Begin, Page, Pages
from grid.service.store import log_rows, run_rows
from grid.service.store.database import Database
from grid.service.system.workspace import LAYOUT
from grid.service.system.world import World
from grid.shared.wire import ExperimentStatus, experiment_name

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_LINES, _CHARACTERS = 2_000, 128 * 1024
"""How much of one attempt is told before it is the turn of the next."""
_MOST_LINES, _MOST_CHARACTERS, _MOST_PIECES = 10_000, 1024 * 1024, 1_000
"""How much is told in one answer, and of how many attempts it is looked for."""
_BETWEEN_CHANGES = 0.1
"""How many seconds there are at least between two questions which experiments have changed."""
_EARLIER = 1
"""How the files of attempts were laid out before `LAYOUT`."""
_CURSOR = re.compile(r"([1-9][0-9]{0,9}):([1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some lines of one attempt."""

    experiment_id: str
    name: str
    attempt: int
    page: Page
    is_begin: bool
    """Whether it says where an experiment begins of which nothing was known, or that one has begun anew."""

    @property
    def is_news(self) -> bool:
        """Whether it says anything: lines, an end, or where an experiment begins."""
        return self.page.count > 0 or self.page.is_end or self.is_begin


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose output is to be told, and what of it is known already."""

    run_id: str
    experiment: str | None = None
    after: Mapping[str, str] = field(default_factory=dict)
    """How far the outputs of experiments are known, by their ids: `"<attempt>:<next line>"`; there may be 10,000."""
    begin: Begin | None = None
    """Where to begin in the current attempt of an experiment of which nothing is known; None for its first attempt."""


class Logs:
    """Tells what scripts print, in pieces: experiments take turns, the attempts of each come in their order."""

    def __init__(self, database: Database, accounts: Accounts, changes: Changes, pages: Pages, world: World) -> None:
        self.now = world.now
        """Returns the current time, in microseconds since the epoch."""
        self._database = database
        self._accounts = accounts
        self._changes = changes
        self._pages = pages

    async def page(self, written: Written, begin: Begin, first: int, *, has_ended: bool) -> Page:
        """Return lines of one attempt, which the caller may read."""
        return await self._pages.read(written, begin, first=first, has_ended=has_ended)

    async def pieces(self, viewer: User, asked: Asked) -> tuple[list[Piece], bool]:
        """Return what there is now, or the first part of it; and whether there is nothing after it, now or later."""
        telling = await self._telling(viewer, asked)
        pieces: list[Piece] = []
        lines = characters = 0
        for _ in range(_MOST_PIECES):
            if lines >= _MOST_LINES or characters >= _MOST_CHARACTERS or not telling.has_more:
                break
            piece = await telling.next()
            if piece is None:
                continue
            if piece.is_news:
                pieces.append(piece)
            lines += piece.page.count
            characters += len(piece.page.text)
        await self._check(viewer, telling.run)
        return pieces, telling.is_over

    async def follow(self, viewer: User, asked: Asked) -> AsyncGenerator[Piece, None]:
        """Yield what there is now and then what comes, until all experiments have ended and all is told."""
        telling = await self._telling(viewer, asked)
        news = asyncio.Event()
        changed = _Passing(news)
        run_seq, time = telling.run.seq, asyncio.get_running_loop().time
        with self._changes.listen(run_seq, changed), self._pages.growth.follow(run_seq, news) as follower:
            self._pages.looker.hurry()
            changed.set()  # something may have happened before anybody listened
            due = time()
            while True:
                news.clear()
                if changed.is_set() and time() >= due:
                    changed.clear()
                    await telling.refresh()
                    due = time() + _BETWEEN_CHANGES
                telling.note(follower.grown())
                if telling.has_more:
                    piece = await telling.next()
                    if piece is not None and piece.is_news:
                        await self._check(viewer, telling.run)
                        yield piece
                elif telling.is_over:
                    return
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(due if changed.is_set() else None):
                            await news.wait()

    async def _telling(self, viewer: User, asked: Asked) -> _Telling:
        run = await self._database.read(lambda connection: run_rows.by_id(connection, asked.run_id))
        if run is None:
            raise RunMissing(run_id=asked.run_id)
        await self._check(viewer, run)
        telling = _Telling(self._database, self._pages, run, asked)
        await telling.open()
        return telling

    async def _check(self, viewer: User, run: Row[Any]) -> None:
        if not await self._accounts.may_read(viewer, run.user_id):
            raise RunMissing(run_id=run.id)


class _Passing(asyncio.Event):
    """An event that sets another one, too."""

    def __init__(self, to: asyncio.Event) -> None:
        super().__init__()
        self._to = to

    def set(self) -> None:
        super().set()
        self._to.set()


@dataclass(slots=True, eq=False)
class _Experiment:
    """How far an experiment is told."""

    row: Row[Any]
    attempt: int
    number: int | None = 1
    """The next line; None where it is to be found out where to begin."""
    is_waiting: bool = False
    """Whether it waits for its turn."""
    is_known: bool = False
    """Whether the looker tells when there is more of this attempt."""
    is_untold: bool = False
    """Whether it is still to be said where it begins."""
    is_gone: bool = False
    """Whether it was deleted."""

    @property
    def has_ended(self) -> bool:
        return bool(self.attempt < self.row.attempt) or self.has_last_ended

    @property
    def has_output(self) -> bool:
        if self.attempt == self.row.attempt:
            return bool(self.row.status != ExperimentStatus.QUEUED)
        return bool(self.attempt < self.row.attempt)

    @property
    def has_last_ended(self) -> bool:
        return ExperimentStatus(self.row.status).is_terminal

    @property
    def is_told(self) -> bool:
        """Whether all of it is told, and nothing will come."""
        return self.has_last_ended and bool(self.attempt > self.row.attempt)


class _Telling:
    """The experiments of a run, and how far each is told."""

    def __init__(self, database: Database, pages: Pages, run: Row[Any], asked: Asked) -> None:
        self.run = run
        self._database = database
        self._pages = pages
        self._asked = asked
        self._experiments: dict[str, _Experiment] = {}
        self._by_index: dict[int, _Experiment] = {}
        self._turns: deque[_Experiment] = deque()
        # Those of which it can be said without a look where they begin. It is said when there is nothing else to say.
        self._beginnings: deque[_Experiment] = deque()
        # Attempts whose files are laid out as they were before, by the experiments' seqs.
        self._earlier: set[tuple[int, int]] = set()
        self._unfinished: set[str] = set()

    @property
    def has_more(self) -> bool:
        """Whether there may be something to tell."""
        while self._beginnings and not self._beginnings[0].is_untold:
            self._beginnings.popleft()
        return bool(self._turns or self._beginnings)

    @property
    def is_over(self) -> bool:
        """Whether everything is told, and nothing will come."""
        return not self.has_more and not self._unfinished

    async def open(self) -> None:
        """Find out what there is."""
        asked, run = self._asked, self.run

        def read(connection: Connection) -> None:
            # Made where it is read, in a thread: there may be 10,000 of them.
            self._earlier = log_rows.ended_with_layout(connection, run.seq, _EARLIER)
            for row in log_rows.current(connection, run.seq, asked.experiment):
                begin = (1, 1) if asked.begin is None else (row.attempt, None)
                self._experiments[row.id] = self._by_index[row.index] = _Experiment(row, *begin)
            for experiment_id, cursor in asked.after.items():
                self._go_to(experiment_id, cursor)
            for each in self._experiments.values():
                self._note_row(each, each.row)
                each.is_untold = each.number is None
                if each.is_untold and not each.has_output:
                    each.number = 1  # it has printed nothing yet
                    self._beginnings.append(each)
                self._queue(each)

        await self._database.read(read)
        if asked.experiment is not None and not self._experiments:
            raise ExperimentMissing(experiment_id=asked.experiment)

    def _go_to(self, experiment_id: str, cursor: str) -> None:
        numbers = _CURSOR.fullmatch(cursor)
        if numbers is None:
            allowed = "<attempt>:<line> for each experiment, both counted from 1, as in 1:201"
            raise InvalidValue("after", f"{experiment_id}: {cursor}", allowed)
        known = self._experiments.get(experiment_id)
        if known is None:  # it was deleted meanwhile
            return
        attempt, number = map(int, numbers.groups())
        if attempt > known.row.attempt + 1:
            allowed = f"attempt 1 to {known.row.attempt + 1} of this experiment"
            raise InvalidValue("after", f"{experiment_id}: {cursor}", allowed)
        known.attempt, known.number = attempt, number

    async def refresh(self) -> None:
        """Find out what has happened since.

        Raises
        ------
        RunMissing
            If the run was deleted.
        ExperimentMissing
            If only one experiment is told, and it was deleted before all of it was.
        """
        before = self.run

        def read(connection: Connection) -> None:
            # As in `open`, all of it in the thread.
            run = run_rows.by_id(connection, before.id)
            if run is None:
                raise RunMissing(run_id=before.id)
            if run.revision == before.revision:
                return
            self.run = run
            for row in log_rows.changed(connection, run.seq, before.revision):
                known = self._experiments.get(row.id)
                if known is not None:
                    self._note_row(known, row)
                    if known.has_ended or not known.is_known:
                        self._queue(known)
            self._forget(log_rows.deleted(connection, run.seq, before.revision))

        await self._database.read(read)

    def _forget(self, indices: Sequence[int]) -> None:
        """Forget experiments that were deleted: nothing of them will come, not even their end."""
        gone = {known.row.id: known for index in indices if (known := self._by_index.pop(index, None)) is not None}
        if not gone:
            return
        for experiment_id, known in gone.items():
            del self._experiments[experiment_id]
            self._unfinished.discard(experiment_id)
            known.is_gone, known.is_untold = True, False
        self._turns = deque(each for each in self._turns if not each.is_gone)
        if self._asked.experiment is not None and not all(known.is_told for known in gone.values()):
            raise ExperimentMissing(experiment_id=self._asked.experiment)

    def _note_row(self, known: _Experiment, row: Row[Any]) -> None:
        if known.row.layout != LAYOUT:
            self._earlier.add((known.row.seq, known.row.attempt))
        known.row = row
        if known.has_last_ended:
            self._unfinished.discard(row.id)
        else:
            self._unfinished.add(row.id)

    def note(self, grown: set[AttemptName]) -> None:
        """Note that attempts have printed something."""
        for attempt in grown:
            known = self._experiments.get(attempt.experiment_id)
            if known is not None and known.attempt == attempt.number:
                self._queue(known)

    def _queue(self, each: _Experiment) -> None:
        if not each.is_waiting and each.has_output:
            each.is_waiting = True
            self._turns.append(each)

    async def next(self) -> Piece | None:
        """Read a piece of the one whose turn it is; it may be empty. None if that has nothing, or is gone."""
        if not self._turns:
            each = self._beginnings.popleft()
            each.is_untold = False
            return self._piece(each, each.attempt, Page(1, 0, "", (), is_all=True, is_end=False), is_begin=True)
        each = self._turns.popleft()
        each.is_waiting = False
        if not each.has_output:  # it was told to its end when a change of it gave it another turn
            return None
        row, attempt, number, has_ended = each.row, each.attempt, each.number, each.has_ended
        begin = Begin(number=number) if number is not None else self._asked.begin
        layout = _EARLIER if (row.seq, attempt) in self._earlier else LAYOUT
        page = await self._pages.read(
            Written(row.id, attempt, layout),
            begin or Begin(),
            has_ended=has_ended,
            first=_LINES,
            most=_CHARACTERS,
            is_fresh=not each.is_known,
        )
        if page.is_end and not page.count and (number or 1) > 1:
            # It may have been removed with its experiment, in the middle of its text.
            await self.refresh()
            if each.is_gone:
                return None
        each.is_known = each.has_output
        # A script that empties or replaces its output begins anew.
        is_anew = number is not None and page.number < number
        if is_anew and page.number > 1:
            each.number = 1
            self._queue(each)
        elif has_ended and (page.is_end or not page.count):
            each.attempt, each.number, each.is_known = attempt + 1, 1, False
            self._queue(each)
        else:
            each.number = page.number + page.count
            if page.count and not page.is_all:
                self._queue(each)
        is_begin = each.is_untold or (is_anew and page.number == 1)
        each.is_untold = False
        return self._piece(each, attempt, page, is_begin=is_begin)

    def _piece(self, each: _Experiment, attempt: int, page: Page, *, is_begin: bool) -> Piece:
        return Piece(each.row.id, experiment_name(self.run.name, each.row.index), attempt, page, is_begin)
