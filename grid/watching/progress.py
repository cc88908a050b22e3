"""How far a run has come, until it has ended: counts and no names, however many experiments it has."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from grid import models
from grid.errors import GridError, RunNotFound, WaitTimeout
from grid.models import StatusProgress
from grid.session.streams import Stream, follow
from grid.watching.deadlines import Deadline, Late, until

if TYPE_CHECKING:
    from grid.run_state import RunState

__all__ = ["progress_of", "still_running"]

_LAST_LOOK = 2.0  # seconds for what the error of a timeout says
_NAMED = 3  # experiments


async def progress_of(
    state: RunState, deadline: Deadline, *, tick: float = math.inf
) -> AsyncGenerator[StatusProgress, None]:
    """Yield how far a run has come: now, again whenever that changes, and as a reminder that time passes.

    Parameters
    ----------
    state
        The run, which has been started.
    deadline
        Until when somebody waits.
    tick
        Seconds after which the last answer comes again.

    Raises
    ------
    WaitTimeout
        When the deadline has passed.
    RunNotFound
        If the run no longer exists.
    """
    stream, latest = _Progress(state), None
    counts = follow(stream, asks_first=True)
    try:
        async with aclosing(until(deadline, counts, tick=tick)) as answers:
            async for answer in answers:
                latest = answer or latest
                if latest is not None:
                    yield latest
    except Late as late:
        if not stream.is_over:
            raise await still_running(state, deadline, is_answering=late.has_seen) from None
    except RunNotFound:
        raise state.gone() from None


async def still_running(state: RunState, deadline: Deadline, *, is_answering: bool) -> WaitTimeout:
    """Return the error for a run that has not ended in time: it says which experiments have not.

    Parameters
    ----------
    state
        The run.
    deadline
        Until when somebody has waited.
    is_answering
        Whether the service has answered meanwhile: one that has not is not asked again.
    """
    try:
        if not is_answering:
            return _late(state, deadline, "and its service has not answered")
        found = await state.session.ask(models.GetRunStatus, within=_LAST_LOOK, name=state.name, owner=state.owner)
        groups = {group.status.value: group.names for group in state.same(found.run).status.groups}
        left = [_named(word, groups[word]) for word in ("RUNNING", "PENDING", "QUEUED") if word in groups]
        what = ", ".join(left) or "it ended just now"
    except RunNotFound:
        what = "it no longer exists"
    except GridError as error:
        what = f"and its service does not say how things are: {error}"
    return _late(state, deadline, what)


def _late(state: RunState, deadline: Deadline, what: str) -> WaitTimeout:
    return WaitTimeout(
        f"the run {state.name!r} has not ended within {deadline}: {what}. It goes on: wait again, or cancel it"
    )


def _named(word: str, names: tuple[str, ...]) -> str:
    few = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names)} {word} ({few})"


class _Progress(Stream[StatusProgress]):
    """The counts of a run, each time that they have changed."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state.session)
        self._state = state
        self._which: dict[str, Any] = {"name": state.name, "owner": state.owner}
        self._revision = -1

    async def pushed(self) -> AsyncGenerator[StatusProgress, None]:
        async with aclosing(self.session.listen(models.RunProgress, **self._which)) as answers:
            async for answer in answers:
                self._take(answer.run_status_changed)
                yield answer.run_status_changed

    async def polled(self) -> AsyncGenerator[StatusProgress, None]:
        answer = await self.session.ask(models.GetRunProgress, **self._which)
        status = self._state.same(answer.run).status
        if self._take(status):
            yield status

    def _take(self, status: StatusProgress) -> bool:
        """Note how things are; return whether anything has changed."""
        before, self._revision = self._revision, status.revision
        self.is_over = all(group.status.is_terminal for group in status.groups)
        return status.revision != before
