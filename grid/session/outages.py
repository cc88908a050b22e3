"""Waiting for a service that has answered, and does not any more: for minutes, and not without saying so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, TypeVar

from grid.errors import ConnectionFailed, GridError, RequestTimeout
from grid.session.waiting import told

if TYPE_CHECKING:
    from grid.chain.endpoint import RetryPolicy
    from grid.chain.receiving import Receiver
    from grid.models import Model
    from grid.session.session import Session

__all__ = ["Lasting", "Outage", "outlasting"]

_M = TypeVar("_M", bound="Model")
_T = TypeVar("_T")

_FIRST_PAUSE = 1.0  # seconds between two requests, at first
_LONGEST_PAUSE = 10.0
_IN_VAIN = 3  # streams in a row that bring nothing, although the service answers what else it is asked


class Outage:
    """The time in which a service does not answer that has answered before.

    Parameters
    ----------
    session
        The service, and how long to be patient with it.
    clock, sleep
        The time, in seconds, and how to let it pass.
    has_worked
        Whether it has answered before.
    """

    def __init__(
        self,
        session: Session,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        *,
        has_worked: bool,
    ) -> None:
        self._session = session
        self._clock = clock
        self._sleep = sleep
        self._has_worked = has_worked
        self._telling = ExitStack()
        self._is_told = False
        self._deadline: float | None = None
        self._pause = _FIRST_PAUSE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._telling.close()

    def begin(self) -> None:
        """Note that an answer is waited for, and say so if that takes more than a few seconds."""
        self._tell(None)

    def end(self) -> None:
        """Note that there was an answer."""
        self._telling.close()
        self._has_worked, self._is_told = True, False
        self._deadline, self._pause = None, _FIRST_PAUSE

    async def lasts(self, error: GridError) -> bool:
        """Let some time pass, and return True; or return False if an error is final."""
        now = self._clock()
        self._deadline = now + self._session.policy.outage if self._deadline is None else self._deadline
        if not self._has_worked or not error._may_pass or now >= self._deadline:  # noqa: SLF001 - not for users
            return False
        self._tell(0)  # whoever has asked has been patient already
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        await self._sleep(min(pause, self._deadline - now))
        return True

    def _tell(self, after: float | None) -> None:
        if self._has_worked and not self._is_told:
            what = f"the service at {self._session.url}, which does not answer"
            self._telling.enter_context(told(what, after=after))
            self._is_told = True


class Lasting:
    """What a session is asked in a row, for something that is under way: once it has answered, it is waited for.

    Parameters
    ----------
    session
        The service, and how long to be patient with it.
    has_worked
        Whether it has answered before.
    clock, sleep
        The time, in seconds, and how to let it pass.
    """

    def __init__(
        self,
        session: Session,
        *,
        has_worked: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._has_worked = has_worked
        self._clock = clock
        self._sleep = sleep

    @property
    def policy(self) -> RetryPolicy:
        """How long the session waits for an answer, and how often it asks."""
        return self._session.policy

    async def ask(self, model: type[_M], **variables: Any) -> _M:
        """Do what `Session.ask` does, and wait for a service that is away."""
        with Outage(self._session, self._clock, self._sleep, has_worked=self._has_worked) as outage:
            while True:
                try:
                    answer = await self._session.ask(model, **variables)
                except (ConnectionFailed, RequestTimeout) as error:
                    if not await outage.lasts(error):
                        raise
                else:
                    self._has_worked = True
                    return answer

    async def stream(self, name: str, path: str, receiver: Receiver) -> None:
        """Do what `Session.stream` does, and wait for a service that is away.

        A service that answers questions is not away: what it does not send all the same is given up.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        in_vain = 0
        while True:
            before = receiver.received
            try:
                await self._session.stream(name, path, receiver)
            except (ConnectionFailed, RequestTimeout) as error:
                has_come = receiver.received > before
                self._has_worked |= has_come
                in_vain = 0 if has_come else in_vain + 1
                if not self._has_worked or not error._may_pass or in_vain > _IN_VAIN:  # noqa: SLF001 - not for users
                    raise
                try:
                    await self.ask(models.Login)
                except (ConnectionFailed, RequestTimeout):
                    raise error from None
            else:
                self._has_worked = True
                return


def outlasting(session: Session, call: Callable[[], _T]) -> _T:
    """Call what asks a service that has answered before, again while that is away; in the caller's thread.

    Parameters
    ----------
    session
        The service, and how long to be patient with it.
    call
        Asks it, and waits for the answer.
    """
    from grid.chain import loop  # noqa: PLC0415 - not before the first call

    with Outage(session, has_worked=True) as outage:
        while True:
            try:
                return call()
            except (ConnectionFailed, RequestTimeout) as error:
                if not loop.run(outage.lasts(error)):
                    raise
