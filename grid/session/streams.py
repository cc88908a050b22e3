"""Following what grows in a run, on the background loop, however often the line is cut: by WebSocket, else by asking.

What there is to follow knows how far it is known, and goes on after that, so that nothing comes twice and nothing is
missing. Whether the embedded service has moved, and how long to be patient with one that does not answer, the session
knows: every cut is followed by a request.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeVar

from grid.errors import AuthenticationFailed, ConnectionFailed, GridError, InvalidResponse, RequestTimeout
from grid.session.outages import Outage

if TYPE_CHECKING:
    from grid.session.session import Session

__all__ = ["Stream", "follow"]

T = TypeVar("T")

_ENOUGH = 3  # WebSockets in a row that are cut at once, until we ask instead
_AT_ONCE = 1.0  # seconds that a WebSocket must last if it brings nothing
_BETWEEN_CUTS = 0.1  # seconds
_UNTIL_ANOTHER = 60.0  # seconds in which no further WebSocket is tried where none can be had
_FIRST_PAUSE = 1.0  # seconds between two requests, at first and whenever something has come
_LONGEST_PAUSE = 10.0


class Stream(ABC, Generic[T]):
    """Something to follow, and how far it is known: the cursor, which every piece moves on.

    Both methods begin after the cursor, and move it on before they yield a piece.

    Parameters
    ----------
    session
        The service that has it.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.is_over = False
        """To be set where nothing can come any more."""

    @abstractmethod
    def pushed(self) -> AsyncGenerator[T, None]:
        """Yield what comes over one WebSocket, by :meth:`Session.listen`."""

    @abstractmethod
    def polled(self) -> AsyncGenerator[T, None]:
        """Yield what is new, by :meth:`Session.ask`; nothing if nothing is."""


async def follow(
    stream: Stream[T],
    *,
    asks_first: bool = False,
    has_worked: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[T, None]:
    """Yield the pieces of a stream until it is over.

    After a cut it asks once, with the session's whole patience, and then tries the next WebSocket. Where a WebSocket is
    refused, or where they are cut as soon as they are there, it goes on asking: after a second, and after more and more
    of them while nothing comes; and tries another WebSocket once a minute.

    A service that does not answer any more is asked again for as long as the session's policy says, once something has
    come from it, and stderr is told what is waited for. Before that, and where the service refuses, an error is final.

    Parameters
    ----------
    stream
        What to follow.
    asks_first
        Whether to begin with a request: for what may be over already, or whose cursor comes from the service.
    has_worked
        Whether something has come already.
    clock, sleep
        The time, in seconds, and how to let it pass.

    Raises
    ------
    GridError
        If the service refuses it, or does not answer any more: see :mod:`grid.errors`.
    """
    sockets, pause = _Sockets(stream, clock), 0.0
    with Outage(stream.session, clock, sleep, has_worked=has_worked) as outage:
        if asks_first:
            async with aclosing(_polled(stream, outage)) as pieces:
                async for piece in pieces:
                    yield piece
        while True:
            async with aclosing(sockets.pieces()) as pieces:
                async for piece in pieces:
                    outage.end()
                    yield piece
            has_come = False
            async with aclosing(_polled(stream, outage)) as pieces:
                async for piece in pieces:
                    has_come = True
                    yield piece
            if stream.is_over:
                return
            if sockets.may_be_had:
                await sleep(_BETWEEN_CUTS)
            else:
                pause = _FIRST_PAUSE if has_come or not pause else min(2 * pause, _LONGEST_PAUSE)
                await sleep(pause)


async def _polled(stream: Stream[T], outage: Outage) -> AsyncGenerator[T, None]:
    while not stream.is_over:
        outage.begin()
        try:
            async with aclosing(stream.polled()) as pieces:
                async for piece in pieces:
                    outage.end()
                    yield piece
        except (ConnectionFailed, RequestTimeout) as error:
            if not await outage.lasts(error):
                raise
        else:
            outage.end()
            return


class _Sockets(Generic[T]):
    """The WebSockets of a stream, and whether another is worth trying."""

    def __init__(self, stream: Stream[T], clock: Callable[[], float]) -> None:
        self._stream = stream
        self._session = stream.session
        self._clock = clock
        self._cuts = 0

    @property
    def may_be_had(self) -> bool:
        since = self._session.asks_since
        return since is None or self._clock() - since >= _UNTIL_ANOTHER

    async def pieces(self) -> AsyncGenerator[T, None]:
        """Yield what comes over the next one until it is cut; nothing if none is worth trying."""
        if self._stream.is_over or not self.may_be_had:
            return
        begun, count = self._clock(), 0
        error: GridError | None = None
        try:
            async with aclosing(self._stream.pushed()) as pieces:
                async for piece in pieces:
                    count += 1
                    yield piece
        except (AuthenticationFailed, ConnectionFailed, InvalidResponse, RequestTimeout) as cut:
            error = cut
        self._judge(error, count, self._clock() - begun)

    def _judge(self, error: GridError | None, count: int, lasted: float) -> None:
        # One that was not cut has told all. The first answer comes at once: one that lasts brings more, or at least the
        # time to wait for it.
        has_worked = error is None or count > 1 or (lasted >= _AT_ONCE and not isinstance(error, RequestTimeout))
        if has_worked:
            self._cuts, self._session.asks_since = 0, None
            return
        self._cuts += 1
        # An answer to the handshake that is none comes from something in between, and would come again.
        is_refused = count == 0 and isinstance(error, (AuthenticationFailed, InvalidResponse))
        if is_refused or self._cuts >= _ENOUGH or self._session.asks_since is not None:
            self._session.asks_since = self._clock()
