"""Waiting, watching and logs for callers with an event loop of their own: :meth:`Run.wait` and others, to be awaited.

>>> import grid
>>> await grid.aio.wait(run)  # doctest: +SKIP
>>> async for experiment in grid.aio.as_completed(run):  # doctest: +SKIP
...     print(experiment.name)

The work is done on Grid's own loop, and the caller's goes on meanwhile. A task that is cancelled ends the waiting at
once, and not the run. So does Ctrl-C under :func:`asyncio.run`, which cancels its task; that the run goes on, only the
methods say. Arguments and errors are those of the methods of the same names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Literal, TypeVar, overload

from grid.chain.awaiting import Iteration
from grid.experiment import Experiment
from grid.logs.lines import texts
from grid.logs.pages import Pages
from grid.run import Run
from grid.watching.display import check_progress
from grid.watching.events import StatusChanged
from grid.watching.printed import LogPrinted

__all__ = ["as_completed", "logs", "wait", "watch"]

_T = TypeVar("_T")


@overload
async def wait(what: Run, timeout: float | None = None, progress: bool | None = None) -> Run: ...


@overload
async def wait(what: Experiment, timeout: float | None = None, progress: bool | None = None) -> Experiment: ...


async def wait(
    what: Run | Experiment,
    timeout: float | None = None,
    progress: bool | None = None,
) -> Run | Experiment:
    """Wait until a run or an experiment has ended, as :meth:`Run.wait` and :meth:`Experiment.wait` do.

    Parameters
    ----------
    what
        The run, or the experiment.
    timeout
        How many seconds to wait; None for as long as it takes.
    progress
        Whether to show how far a run has come; None for where somebody looks on.

    Returns
    -------
    Run or Experiment
        What was given.
    """
    if isinstance(what, Run):
        with what._showing(progress) as shown:
            async for status in Iteration(what._progress(timeout, shown.tick)):
                shown.show(status)
        return what
    check_progress(progress)
    async for record in Iteration(what._until_end(timeout)):
        what._take(record)
    return what


def as_completed(run: Run, timeout: float | None = None) -> AsyncIterator[Experiment]:
    """Return the experiments of a run in the order in which they end, as :meth:`Run.as_completed` does.

    Parameters
    ----------
    run
        The run.
    timeout
        How many seconds from now to wait for all of them; None for as long as it takes.
    """
    return _Each(run._ends(timeout))


@overload
def watch(run: Run, metrics: bool = False, logs: Literal[False] = False) -> AsyncIterator[StatusChanged]: ...


@overload
def watch(run: Run, metrics: bool = False, logs: bool = False) -> AsyncIterator[StatusChanged | LogPrinted]: ...


def watch(run: Run, metrics: bool = False, logs: bool = False) -> AsyncIterator[StatusChanged | LogPrinted]:
    """Return what happens in a run, as :meth:`Run.watch` does.

    Parameters
    ----------
    run
        The run.
    metrics
        Whether values of metrics are told as well; they are not there yet.
    logs
        Whether what the scripts print is told as well.
    """
    return _Each(run._changes(metrics=metrics, logs=logs))


def logs(
    experiment: Experiment,
    n_lines: int | None = 200,
    follow: bool = False,
    since: datetime | timedelta | int | None = None,
    attempt: int | None = None,
) -> AsyncIterator[str]:
    """Return what an experiment has printed, as :meth:`Experiment.logs` does.

    Parameters
    ----------
    experiment
        The experiment.
    n_lines
        How many of the last lines; None for all.
    follow
        Whether to go on with what is printed afterwards, until the experiment has ended.
    since
        Where to begin, in place of `n_lines`: a datetime with a time zone, a timedelta for how long ago, or the number
        of a line.
    attempt
        The number of the attempt; None for the current one.
    """
    return _Each(_texts(experiment._pages(n_lines, follow, since, attempt)))


async def _texts(pages: Pages) -> AsyncGenerator[Sequence[str], None]:
    async with aclosing(pages):
        async for page in pages:
            yield texts(page)


class _Each(AsyncIterator[_T]):
    """One after the other, what comes several at a time from the background loop."""

    def __init__(self, batches: AsyncGenerator[Sequence[_T], None]) -> None:
        self._batches = Iteration(batches)
        self._ready: deque[_T] = deque()

    async def __anext__(self) -> _T:
        while not self._ready:
            self._ready.extend(await anext(self._batches))
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close it before its end."""
        self._ready.clear()
        await self._batches.aclose()
