"""What the experiments of a run print, as events; and going through several things that come at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from grid.logs.lines import records
from grid.logs.pages import RunLog
from grid.watching.events import RunEvents, StatusChanged, changes_of

if TYPE_CHECKING:
    from grid.models import LogPage
    from grid.run_state import RunState

__all__ = ["LogPrinted", "all_of", "merged"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPrinted:
    """An experiment of a run has printed a line: see :meth:`Run.watch`.

    Attributes
    ----------
    experiment
        The name of the experiment.
    attempt
        The number of the attempt, from 1.
    number
        The number of the line in the output of its attempt, from 1.
    time
        When it was printed, in UTC: when the output was last written to when the service found it.
    message
        The line, as :class:`grid.LogLine` has it.
    is_approximate
        Whether no service looked on when it was printed, so that it may be older than `time`.

    Examples
    --------
    >>> for event in run.watch(logs=True):  # doctest: +SKIP
    ...     print(event)
    [2021-08-10 16:59:58.044] clever-noether-1882-exp0: RUNNING
    [2021-08-10 16:59:58.191] clever-noether-1882-exp0: epoch 1: loss 0.31
    """

    experiment: str
    attempt: int
    number: int
    time: datetime
    message: str
    is_approximate: bool

    @classmethod
    def _of(cls, page: LogPage) -> list[LogPrinted]:
        return [
            cls(
                experiment=page.name,
                attempt=page.attempt,
                number=line.number,
                time=line.time,
                message=line.message,
                is_approximate=line.is_approximate,
            )
            for line in records(page)
        ]

    def __str__(self) -> str:
        which = self.experiment if self.attempt == 1 else f"{self.experiment}, attempt {self.attempt}"
        time = self.time.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")
        return f"{'~' * self.is_approximate}[{time}] {which}: {self.message}"


async def all_of(state: RunState) -> AsyncGenerator[Sequence[StatusChanged | LogPrinted], None]:
    """Yield what happens in a run along with what its experiments print in all their attempts, until it has ended.

    What was printed may take much longer to tell than what has happened. If something is retried meanwhile, both go on.

    Raises
    ------
    RunNotFound
        If the run no longer exists.
    """
    record = state.record
    assert record is not None
    events = RunEvents(state)
    log = RunLog(state.session, record.id, state.name, state.owner, state.gone, None)
    has_news, has_worked = True, False
    while has_news:
        has_news = log.is_over = False
        changes: AsyncGenerator[Sequence[StatusChanged | LogPrinted], None] = changes_of(state, events)
        async with aclosing(merged(changes, _printed_in(log, has_worked=has_worked))) as batches:
            async for batch in batches:
                has_news |= bool(batch)
                yield batch
        has_worked = True


async def _printed_in(log: RunLog, *, has_worked: bool) -> AsyncGenerator[Sequence[LogPrinted], None]:
    async with aclosing(log.followed(has_worked=has_worked)) as pages:
        async for page in pages:
            if page.count:
                yield LogPrinted._of(page)  # noqa: SLF001 - not for users


async def merged(*sources: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield what comes from several sources, as it comes, until all have ended; close them at the end.

    No source is more than one item ahead of what is taken.
    """
    steps: dict[asyncio.Task[Any], AsyncGenerator[T, None]] = {}
    try:
        steps |= {asyncio.create_task(_next(source)): source for source in sources}
        while steps:
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for step in done:
                source = steps.pop(step)
                for item in step.result():
                    yield item
                    steps[asyncio.create_task(_next(source))] = source
    finally:
        for step in steps:
            step.cancel()
        await asyncio.gather(*steps, return_exceptions=True)
        for source in sources:
            await source.aclose()


async def _next(source: AsyncGenerator[T, None]) -> list[T]:
    """Return the next item, or nothing at the end: a task must not end with `StopAsyncIteration`."""
    async for item in source:
        return [item]
    return []
