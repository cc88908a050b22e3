"""Reading logs, page by page: what there is now, and what follows. Nothing is asked for before it is wanted.

What a line looks like is in `lines.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from grid.errors import GridError, NotFound
from grid.logs.lines import ALL_LINES, LogStart, messages, texts
from grid.session.outages import Lasting
from grid.session.streams import Stream, follow

if TYPE_CHECKING:
    from grid.models import LogPage
    from grid.session.session import Session

_Line = TypeVar("_Line")

Pages = AsyncGenerator["LogPage", None]


def each_line(pages: Pages, show: Callable[[LogPage], list[_Line]]) -> Iterator[_Line]:
    """Yield the lines of pages; a page is asked for when those before it are used up."""
    from grid.chain import loop  # noqa: PLC0415 - not before the first call

    with closing(loop.iterate(pages)) as some:
        for page in some:
            yield from show(page)


def build_log(read: Callable[[], LogPage], n_lines: int | None) -> Iterator[str]:
    """Yield the last lines of a log that is read as a whole."""
    shown = texts(read())
    yield from shown if n_lines is None else shown[max(len(shown) - n_lines, 0) :]


class ExperimentLog(Stream["LogPage"]):
    """The log of one experiment, and how far it is known.

    Parameters
    ----------
    session
        The service that has it.
    experiment
        The experiment's id.
    gone
        Makes the error for an experiment that no longer exists.
    start
        Where the log begins.
    attempt
        The number of the only attempt whose log is wanted; None to begin with the current one, and to go on with those
        after it.
    """

    def __init__(
        self,
        session: Session,
        experiment: str,
        gone: Callable[[], GridError],
        start: LogStart,
        attempt: int | None = None,
    ) -> None:
        super().__init__(session)
        self._experiment = experiment
        self._gone = gone
        self._start = start
        self._wanted = _Wanted(start)
        self._only = attempt
        self._run = ""
        self._attempt = attempt or 0
        self._number = 1

    async def present(self) -> Pages:
        """Yield what there is when this is called, and nothing that comes while it is read."""
        service = Lasting(self.session)
        page, current, end = await self._page(service, attempt=self._only, **self._start.variables())
        while page.count:
            if page.attempt == current:
                page = _until(page, end)
            yield page
            if page.is_end or (page.attempt == current and self._number > end):
                return
            page, *_ = await self._page(service, attempt=self._attempt, number=self._number)

    async def followed(self) -> Pages:
        """Yield what there is, and what follows until the experiment has ended, or the only attempt that is wanted."""
        page, *_ = await self._page(self.session, attempt=self._only, **self._start.variables())
        yield self._wanted.of(page)
        async with aclosing(follow(self, has_worked=True)) as pages:
            async for page in pages:
                yield page

    async def pushed(self) -> Pages:
        """Yield what comes over one WebSocket."""
        from grid import models  # noqa: PLC0415 - not before the first call

        after = {self._experiment: _cursor(self._attempt, self._number)}
        which = {"id": self._run, "experiment": self._experiment, "after": after}
        try:
            async with aclosing(self.session.listen(models.RunLogs, **which)) as answers:
                async for answer in answers:
                    page = answer.run_logs
                    self._take(page)
                    self.is_over = self._only is not None and (page.is_end or page.attempt > self._only)
                    if self._only in (None, page.attempt):
                        yield self._wanted.of(page)
                    if self.is_over:
                        return
        except NotFound:
            raise self._gone() from None

    async def polled(self) -> Pages:
        """Yield what is new."""
        while True:
            number = self._number
            page, current, _ = await self._page(self.session, attempt=self._attempt, number=number)
            if 1 < page.number < number:
                # Its script has emptied or replaced its output, which begins anew.
                self._number, self.is_over = 1, False
                continue
            if page.count:
                yield self._wanted.of(page)
            if self.is_over or not (page.count or page.is_end):
                return
            if page.is_end and self._attempt < current:
                self._attempt, self._number = self._attempt + 1, 1

    async def _page(self, service: Session | Lasting, **where: Any) -> tuple[LogPage, int, int]:
        """Ask for a page; return it, the number of the current attempt, and that of its last line."""
        from grid import models  # noqa: PLC0415 - not before the first call

        where = {name: value for name, value in where.items() if value is not None}
        try:
            found = (await service.ask(models.GetLog, id=self._experiment, **where)).experiment
        except NotFound:  # deleted while the service looked for it
            raise self._gone() from None
        if found is None:
            raise self._gone()
        self._run = found.run_id
        self._take(found.log)
        # The current attempt has ended, and nothing came after it: so has the experiment.
        self.is_over = found.log.is_end and (self._only is not None or found.log.attempt >= found.end.attempt)
        return found.log, found.end.attempt, found.end.number + found.end.count - 1

    def _take(self, page: LogPage) -> None:
        self._attempt, self._number = page.attempt, page.number + page.count


class _Wanted:
    """What is shown of pages: nothing before the start, if that had not come yet when it was asked for."""

    def __init__(self, start: LogStart) -> None:
        self._start = start
        self._first: dict[str | None, int] = {}
        self._begun: set[str | None] = set()

    def of(self, page: LogPage) -> LogPage:
        """Return a page without the lines before the start, which concerns only the first attempt."""
        whose = page.experiment_id
        if whose not in self._begun and self._first.setdefault(whose, page.attempt) == page.attempt:
            page = _since(page, self._start)
            if page.count:
                self._begun.add(whose)
        return page


def _since(page: LogPage, start: LogStart) -> LogPage:
    """Return a page without the lines before the start: one that had not come yet is asked for in vain."""
    number = page.number
    if start.number is not None:
        number = start.number
    elif start.since is not None:
        number = next((time.number for time in page.times if time.at >= start.since), page.number + page.count)
    skipped = min(number - page.number, page.count)
    if skipped <= 0:
        return page
    text = "".join(f"{line}\n" for line in messages(page)[skipped:])
    return replace(page, number=page.number + skipped, count=page.count - skipped, text=text)


def _until(page: LogPage, end: int) -> LogPage:
    """Return a page without the lines after that number."""
    count = max(end + 1 - page.number, 0)
    if count >= page.count:
        return page
    text = "".join(f"{line}\n" for line in messages(page)[:count])
    return replace(page, count=count, text=text)


class RunLog(Stream["LogPage"]):
    """The logs of all experiments of a run, and how far each is known.

    Parameters
    ----------
    session
        The service that has them.
    run
        The run's id.
    name
        The run's name.
    owner
        The teammate whose run it is; None for the user's own.
    gone
        Makes the error for a run that no longer exists.
    start
        Where the logs begin; None for the first line of the first attempt of each experiment.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what identifies a run, and where to begin
        self,
        session: Session,
        run: str,
        name: str,
        owner: str | None,
        gone: Callable[[], GridError],
        start: LogStart | None,
    ) -> None:
        super().__init__(session)
        self._run = run
        self._name = name
        self._owner = owner
        self._gone = gone
        self._start = start or LogStart()
        # Where nothing is said of it, the service begins with the first attempt of each experiment.
        self._begin = start and (start.variables() or {"last": ALL_LINES})
        self._wanted = _Wanted(self._start)
        self._known: dict[str, str] = {}

    async def present(self, count: int) -> Pages:
        """Yield what there is of each experiment when this is called, and nothing that comes while it is read.

        Parameters
        ----------
        count
            How many experiments the run has.
        """
        told: Counter[str] = Counter()
        service = Lasting(self.session)
        pages = await self._pieces(service)
        ends = _Ends() if self.is_over else await self._ends(service, pages, count)
        while pages:
            for found in pages:
                page = ends.until(found)
                if self._start.last is not None:
                    page = _until(page, page.number + self._start.last - told[page.name] - 1)
                told[page.name] += page.count
                if page.count:
                    yield page
                if page.experiment_id is not None and ends.has_reached(found):
                    # The next attempt has nothing that is wanted: the service then does not even look at this one.
                    self._known[page.experiment_id] = _cursor(page.attempt + 1, 1)
            pages = () if self.is_over or ends.are_reached else await self._pieces(service)

    async def _ends(self, service: Lasting, pages: Iterable[LogPage], count: int) -> _Ends:
        """Ask where the logs end of which these pages do not say so."""
        from grid import models  # noqa: PLC0415 - not before the first call

        ends = _Ends()
        after = {
            page.experiment_id: self._known[page.experiment_id] for page in pages if page.experiment_id and page.is_end
        }
        is_new = True
        while is_new and len(after) < count:
            asked = service.ask(models.GetRunLogs, name=self._name, owner=self._owner, after=after.copy(), last=1)
            found = (await asked).run
            if found is None or found.id != self._run:
                raise self._gone()
            is_new = False
            for page in found.logs.pages:
                if page.experiment_id is not None:
                    is_new |= page.experiment_id not in after
                    after[page.experiment_id] = _cursor(page.attempt + 1, 1)
                    ends.note(page)
        return ends

    async def followed(self, *, has_worked: bool = False) -> Pages:
        """Yield what there is of each experiment, and what follows until the run has ended; see :func:`follow`."""
        async with aclosing(follow(self, has_worked=has_worked)) as pages:
            async for page in pages:
                yield page

    async def pushed(self) -> Pages:
        """Yield what comes over one WebSocket."""
        from grid import models  # noqa: PLC0415 - not before the first call

        try:
            async with aclosing(self.session.listen(models.RunLogs, id=self._run, **self._from())) as answers:
                async for answer in answers:
                    self._take(answer.run_logs)
                    yield self._wanted.of(answer.run_logs)
        except NotFound:
            raise self._gone() from None

    async def polled(self) -> Pages:
        """Yield what is new."""
        is_new = True
        while is_new:
            is_new = False
            for page in await self._pieces(self.session):
                is_new |= page.count > 0
                yield self._wanted.of(page)
            is_new &= not self.is_over

    async def _pieces(self, service: Session | Lasting) -> tuple[LogPage, ...]:
        from grid import models  # noqa: PLC0415 - not before the first call

        found = (await service.ask(models.GetRunLogs, name=self._name, owner=self._owner, **self._from())).run
        if found is None or found.id != self._run:
            raise self._gone()
        for page in found.logs.pages:
            self._take(page)
        self.is_over = found.logs.is_end
        return found.logs.pages

    def _from(self) -> dict[str, Any]:
        return {"after": self._known.copy(), **(self._begin or {})}

    def _take(self, page: LogPage) -> None:
        if page.experiment_id is not None:
            at_end = _cursor(page.attempt + 1, 1)
            self._known[page.experiment_id] = at_end if page.is_end else _cursor(page.attempt, page.number + page.count)


class _Ends:
    """Where the logs of experiments ended at some time, and which of these ends are reached."""

    def __init__(self) -> None:
        self._ends: dict[str | None, tuple[int, int]] = {}
        self._to_come: set[str | None] = set()

    @property
    def are_reached(self) -> bool:
        """Whether all are."""
        return not self._to_come

    def note(self, page: LogPage) -> None:
        """Note that a log ends with this page."""
        self._ends[page.experiment_id] = page.attempt, page.number + page.count - 1
        self._to_come.add(page.experiment_id)

    def until(self, page: LogPage) -> LogPage:
        """Return a page without what is after the end of its log."""
        if page.experiment_id not in self._ends:
            return page
        attempt, number = self._ends[page.experiment_id]
        if page.attempt == attempt:
            return _until(page, number)
        return page if page.attempt < attempt else _until(page, 0)

    def has_reached(self, page: LogPage) -> bool:
        """Return whether nothing is wanted after this page, which is whole, and note that."""
        attempt, number = self._ends.get(page.experiment_id, (0, 0))
        # Where nothing comes before the end, the script has emptied its output.
        has_reached = page.is_end or not page.count or page.number + page.count > number
        if page.attempt > attempt or (page.attempt == attempt and has_reached):
            self._to_come.discard(page.experiment_id)
            return True
        return False


def _cursor(attempt: int, number: int) -> str:
    """Return how the service is told which line is the next."""
    return f"{attempt}:{number}"
