"""How long somebody wants to wait: going through what comes until a deadline, and noticing that time passes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from grid.errors import InvalidArgument

__all__ = ["Deadline", "Late", "until"]

T = TypeVar("T")

_ONE_LOOK = 2.0  # seconds for the first answer: who does not want to wait wants to know how things are


class Late(Exception):
    """The deadline has passed.

    Attributes
    ----------
    has_seen
        Whether anything has come before.
    """

    def __init__(self, *, has_seen: bool) -> None:
        super().__init__()
        self.has_seen = has_seen


class Deadline:
    """Until when somebody waits, counted from now.

    Parameters
    ----------
    timeout
        Seconds, or None for as long as it takes.

    Raises
    ------
    InvalidArgument
        If it is neither.
    """

    def __init__(self, timeout: float | None) -> None:
        is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
        if timeout is not None and not (is_number and timeout >= 0):
            message = f"timeout must be a number of seconds, 0 or more, or None for no limit; not {timeout!r}"
            raise InvalidArgument(message)
        self.timeout = timeout
        self._at = math.inf if timeout is None else time.monotonic() + timeout
        self._first_at = max(self._at, time.monotonic() + _ONE_LOOK)

    def __str__(self) -> str:
        return f"{self.timeout:g} s" if self.timeout is not None else "any time"

    def left(self, *, has_seen: bool) -> float:
        """Return how many seconds are left; the first answer is waited for a little beyond the deadline."""
        return max((self._at if has_seen else self._first_at) - time.monotonic(), 0)


async def until(
    deadline: Deadline, source: AsyncGenerator[T, None], *, tick: float = math.inf
) -> AsyncGenerator[T | None, None]:
    """Yield what comes until a deadline, and None whenever nothing has for a while; close the source at the end.

    Parameters
    ----------
    deadline
        Until when.
    source
        What to go through.
    tick
        Seconds after which None comes in place of an item.

    Raises
    ------
    Late
        When the deadline has passed.
    """
    wanted: asyncio.Task[_Step[T]] | None = None
    has_seen = False
    try:
        while True:
            # A step goes on while time passes: nothing is lost that was on its way.
            wanted = wanted or asyncio.create_task(_next(source))
            left = deadline.left(has_seen=has_seen)
            pause = min(left, tick)
            await asyncio.wait({wanted}, timeout=None if pause == math.inf else pause)
            if wanted.done():
                step, wanted = wanted.result(), None
                if step.is_end:
                    return
                has_seen = True
                yield step.item
            elif deadline.left(has_seen=has_seen) <= 0:
                raise Late(has_seen=has_seen)
            else:
                yield None
    finally:
        if wanted is not None:
            wanted.cancel()
            await asyncio.wait({wanted})
            if not wanted.cancelled():
                wanted.exception()  # which nobody misses
        await source.aclose()


class _Step(Generic[T]):
    """An item, or the end of all."""

    item: T | None = None
    is_end = False


async def _next(source: AsyncGenerator[T, None]) -> _Step[T]:
    step = _Step[T]()
    try:
        step.item = await anext(source)
    except StopAsyncIteration:
        step.is_end = True
    return step
