"""Waiting for the end of one experiment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from grid import models
from grid.errors import ExperimentNotFound, NotFound, WaitTimeout
from grid.models import NamedExperiment
from grid.session.streams import Stream, follow
from grid.watching.deadlines import Deadline, Late, until

if TYPE_CHECKING:
    from grid.models import ExperimentRecord
    from grid.session.session import Session

__all__ = ["records_of"]


async def records_of(
    record: ExperimentRecord,
    session: Session,
    deadline: Deadline,
    gone: Callable[[], ExperimentNotFound],
) -> AsyncGenerator[ExperimentRecord, None]:
    """Yield what the service says about an experiment, until it has ended.

    Parameters
    ----------
    record
        What is known about it.
    session
        The service that has it.
    deadline
        Until when somebody waits.
    gone
        Makes the error for an experiment that no longer exists.

    Raises
    ------
    WaitTimeout
        When the deadline has passed.
    ExperimentNotFound
        If it no longer exists.
    """
    if record.status.is_final:
        return
    latest: ExperimentRecord = record
    stream = _Record(session, record.id, gone)
    records = follow(stream, asks_first=True)
    try:
        async with aclosing(until(deadline, records)) as answers:
            async for answer in answers:
                if answer is not None:
                    latest = answer
                    yield answer
    except Late:
        if stream.is_over:
            return
        message = (
            f"the experiment {record.name!r} has not ended within {deadline}: it was {latest.status} when "
            "its service last said so. It goes on: wait again, or cancel it"
        )
        raise WaitTimeout(message) from None
    except NotFound:
        raise gone() from None


class _Record(Stream[NamedExperiment]):
    """An experiment, each time that its status has changed as far as is known."""

    def __init__(self, session: Session, experiment: str, gone: Callable[[], ExperimentNotFound]) -> None:
        super().__init__(session)
        self._id = experiment
        self._gone = gone
        self._run = ""
        self._after = 0
        self._latest: NamedExperiment | None = None

    async def pushed(self) -> AsyncGenerator[NamedExperiment, None]:
        which = {"id": self._run, "experiment": self._id, "after": self._after}
        async with aclosing(self.session.listen(models.RunEvents, **which)) as answers:
            async for answer in answers:
                self._after = answer.run_events.revision
                if answer.run_events.is_end:
                    async with aclosing(self.polled()) as records:
                        async for record in records:
                            yield record

    async def polled(self) -> AsyncGenerator[NamedExperiment, None]:
        record = (await self.session.ask(models.GetExperiment, id=self._id)).experiment
        if record is None:
            raise self._gone()
        before, self._latest = self._latest, record
        self._run = record.run_id
        self.is_over = record.status.is_terminal
        if record != before:
            yield record
