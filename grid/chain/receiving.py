"""What takes a large answer while it arrives, and how often a stream that breaks off is taken up again.

Requests are sent by :mod:`grid.chain.transport`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from grid.chain.endpoint import RetryPolicy

__all__ = ["BrokenAnswer", "Receiver", "Series", "StreamRequest", "blocking"]

T = TypeVar("T")


class BrokenAnswer(Exception):
    """What arrives is not what was asked for: spoiled on its way, perhaps, so that another try may be better."""


@dataclass(frozen=True)
class StreamRequest:
    """How to ask for what is missing: a GET, or a POST if there is a body."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Receiver(Protocol):
    """Takes an answer while it arrives.

    Its methods block: they are called in threads, never two at once. Each may raise `BrokenAnswer`; whatever else one
    raises ends the stream.
    """

    @property
    def received(self) -> int:
        """A number that grows with all that has arrived and is kept."""

    def request(self) -> StreamRequest:
        """Return how to ask for what is still missing; called for every try."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Look at the head of an answer, whose status is 200 or 206; the names of its headers have any case."""

    def take(self, piece: bytes | memoryview) -> None:
        """Take the next piece, whose memory is used again afterwards."""

    def end(self) -> None:
        """Note that all of the answer has arrived."""

    def begin_anew(self) -> None:
        """Forget what has arrived: what was asked for beyond it does not exist."""


class Series:
    """The tries of one stream, of which those that brought something do not count.

    Parameters
    ----------
    policy
        How many there may be, and how long.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.tries = 0
        self.begun = time.monotonic()

    def pause(self, *, has_progressed: bool) -> float | None:
        """Note a try that failed; return the seconds until the next one, or None if that was the last."""
        policy = self._policy
        self.tries += 1
        if has_progressed:
            self.begun, self.tries = time.monotonic(), 1
        deadline = policy.deadline or 2 * policy.read_timeout
        if self.tries >= policy.tries or time.monotonic() - self.begun > deadline:
            return None
        return min(policy.first_wait * 2.0 ** (self.tries - 1), policy.max_wait)


async def blocking(function: Callable[..., T], *arguments: Any, undo: Callable[[T], object] | None = None) -> T:
    """Call what works with a file in a thread, and wait for it on the loop.

    A wait that is cancelled lasts until the function has returned, so that the file can then be closed.

    Parameters
    ----------
    function
        What to call; nothing that takes long.
    arguments
        What with.
    undo
        Called with what the function returns if the wait is cancelled, so that nobody gets it: closes it. It must not
        take long.

    Returns
    -------
    T
        What the function returned.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:

        def give_way(over: asyncio.Future[T]) -> None:
            if not over.cancelled() and over.exception() is None and undo is not None:
                undo(over.result())

        call.add_done_callback(give_way)  # also if this wait is cancelled as well
        await asyncio.wait([call])
        raise
