"""What happens in a run, from its beginning: each change of a status once; experiments in the order of their ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from grid import models
from grid.errors import ConnectionFailed, RequestTimeout, RunNotFound
from grid.models import EventPiece, RunEvent
from grid.session.streams import Stream, follow
from grid.shared.wire import MAX_PAGE_SIZE
from grid.watching.deadlines import Deadline, Late, until
from grid.watching.progress import still_running

if TYPE_CHECKING:
    from grid.run_state import RunState

__all__ = ["RunEvents", "StatusChanged", "changes_of", "ends_of"]

_E = TypeVar("_E")

_DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged:
    """An experiment of a run has reached another status: see :meth:`Run.watch`.

    Attributes
    ----------
    number
        The number of the event within the run. Numbers grow, may leave gaps, and are never used again.
    at
        When it happened, in UTC.
    experiment
        The name of the experiment.
    attempt
        The number of the attempt, from 1.
    status
        What it is now: ``QUEUED``, ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``CANCELLED``, or ``DELETED``.
    reason
        Why the attempt ended, such as ``EXIT_CODE`` or ``LOST``; None if it did not end.
    is_queued_again
        Whether only an attempt has ended: the experiment was queued again together with this end.

    Examples
    --------
    >>> for event in run.watch():  # doctest: +SKIP
    ...     print(event)
    [2021-08-10 16:59:58.044] clever-noether-1882-exp0: RUNNING
    [2021-08-10 17:00:02.911] clever-noether-1882-exp0: FAILED (EXIT_CODE)
    """

    number: int
    at: datetime
    experiment: str
    attempt: int
    status: str
    reason: str | None
    is_queued_again: bool

    @classmethod
    def _of(cls, event: RunEvent) -> StatusChanged:
        return cls(
            number=event.number,
            at=event.at,
            experiment=event.name,
            attempt=event.attempt,
            status=_DELETED if event.status is None else event.status.value,
            reason=None if event.reason is None else event.reason.value,
            is_queued_again=event.is_queued_again,
        )

    def __str__(self) -> str:
        which = self.experiment if self.attempt == 1 else f"{self.experiment}, attempt {self.attempt}"
        why = f" ({self.reason})" if self.reason and self.status != "SUCCEEDED" else ""
        again = ", queued again" if self.is_queued_again else ""
        return f"[{self.at:%Y-%m-%d %H:%M:%S}.{self.at.microsecond // 1000:03}] {which}: {self.status}{why}{again}"


async def changes_of(state: RunState, stream: RunEvents | None = None) -> AsyncGenerator[Sequence[StatusChanged], None]:
    """Yield what has happened in a run, and then what happens, some of it at a time, until the run has ended.

    Parameters
    ----------
    state
        The run, which has been started.
    stream
        Its events, if some of them were told already.

    Raises
    ------
    RunNotFound
        If the run no longer exists.
    """
    try:
        async with aclosing(_told(stream or RunEvents(state))) as pieces:
            async for piece in pieces:
                yield [StatusChanged._of(event) for event in piece.events]  # noqa: SLF001 - not for users
    except RunNotFound:
        raise state.gone() from None


async def ends_of(
    state: RunState, deadline: Deadline, find: Callable[[Sequence[str]], Sequence[_E]]
) -> AsyncGenerator[Sequence[_E], None]:
    """Yield the experiments of a run in the order in which they end, some of them at a time, until all have.

    Those that have ended before this is called come first. An attempt after which the experiment was queued again is no
    end.

    Parameters
    ----------
    state
        The run, which has been started.
    deadline
        Until when somebody waits.
    find
        Returns the experiments of these names, without those that no longer exist. It is called in a thread.

    Raises
    ------
    WaitTimeout
        When the deadline has passed.
    RunNotFound
        If the run no longer exists.
    """
    stream = RunEvents(state)
    try:
        async with aclosing(until(deadline, _ends(state, stream, find))) as batches:
            async for batch in batches:
                if batch:
                    yield batch
    except Late as late:
        if not stream.is_over:
            raise await still_running(state, deadline, is_answering=late.has_seen) from None
    except RunNotFound:
        raise state.gone() from None


async def _ends(
    state: RunState, stream: RunEvents, find: Callable[[Sequence[str]], Sequence[_E]]
) -> AsyncGenerator[Sequence[_E], None]:
    """Yield what has ended, or nothing when something else has happened."""
    from grid.chain import loop  # noqa: PLC0415 - not before the first call

    answer = await state.session.ask(models.GetRunProgress, name=state.name, owner=state.owner)
    present, ended = state.same(answer.run).status.revision, _Ended()
    async with aclosing(_told(stream, has_worked=True)) as pieces:
        async for piece in pieces:
            ended.see(piece.events)
            # Of what has happened before, what was retried since is known at the end only.
            names = ended.take() if piece.revision >= present else ()
            yield await loop.in_thread(partial(find, names), "grid-experiments") if names else ()


async def _told(stream: RunEvents, *, has_worked: bool = False) -> AsyncGenerator[EventPiece, None]:
    """Yield what happens until the run has ended, and is not begun again by who hears of the end.

    A loop that retries what has failed hears of the last end as of all others: it is asked once more whether there is
    anything after that.
    """
    told = -1
    while not stream.is_over or stream.after > told:
        async with aclosing(follow(stream, has_worked=has_worked)) as pieces:
            async for piece in pieces:
                yield piece
        told, has_worked = stream.after, True
        try:
            async with aclosing(stream.polled()) as pieces:
                async for piece in pieces:
                    yield piece
        except RunNotFound:  # deleted by who has heard of the end
            return
        except (ConnectionFailed, RequestTimeout):
            stream.is_over = False  # as far as is known: the service is waited for as before


class _Ended:
    """Names of experiments that have ended and were not taken yet, in the order of their ends."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def see(self, events: Sequence[RunEvent]) -> None:
        for event in events:
            self._names.pop(event.name, None)
            has_ended = event.status is not None and event.status.is_terminal and not event.is_queued_again
            if has_ended and event.experiment_id is not None:
                self._names[event.name] = None

    def take(self) -> Sequence[str]:
        names = list(self._names)
        self._names.clear()
        return names


class RunEvents(Stream[EventPiece]):
    """What has happened in a run after an event: at first, all of it."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state.session)
        self._state = state
        self.after = 0
        """The number of the last event that was told."""

    async def pushed(self) -> AsyncGenerator[EventPiece, None]:
        """Yield what comes over one WebSocket."""
        record = self._state.record
        assert record is not None
        async with aclosing(self.session.listen(models.RunEvents, id=record.id, after=self.after)) as answers:
            async for answer in answers:
                self._take(answer.run_events)
                yield answer.run_events

    async def polled(self) -> AsyncGenerator[EventPiece, None]:
        """Yield what is new."""
        which: dict[str, Any] = {"name": self._state.name, "owner": self._state.owner, "first": MAX_PAGE_SIZE}
        while True:
            before = self.after
            answer = await self.session.ask(models.GetEvents, **which, after=before)
            piece = self._state.same(answer.run).events
            self._take(piece)
            if piece.revision > before or piece.is_end:
                yield piece
            if piece.is_end or len(piece.events) < MAX_PAGE_SIZE:
                return

    def _take(self, piece: EventPiece) -> None:
        self.after = piece.revision
        self.is_over = piece.is_end
