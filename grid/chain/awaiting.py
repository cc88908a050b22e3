"""The asynchronous face over the background loop: for callers with a loop of their own, and for the loop itself.

What is awaited here is carried out on the background loop, where the connections are. A caller that is cancelled ends
that at once; one on the background loop just awaits it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from grid.chain import loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

__all__ = ["Iteration", "awaited"]

T = TypeVar("T")


async def awaited(coroutine: Coroutine[Any, Any, T]) -> T:
    """Carry out a coroutine on the background loop, and return what it returned.

    Parameters
    ----------
    coroutine
        What to carry out. It is cancelled if the caller is.

    Returns
    -------
    T
        What the coroutine returned.

    Raises
    ------
    BaseException
        Whatever the coroutine raised.
    """
    caller, background = asyncio.get_running_loop(), loop.background()
    if caller is background.loop:
        return await coroutine
    end = caller.create_future()

    def at_end() -> None:
        with suppress(RuntimeError):  # the caller's loop was closed, and nobody waits
            caller.call_soon_threadsafe(_wake, end)

    call = loop.Call(background, coroutine, at_end)
    call.begin()
    try:
        await end
    except BaseException:
        call.give_up()
        raise
    return call.result()


def _wake(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)


class Iteration(Generic[T]):
    """An asynchronous iterator over one that lives on the background loop.

    It closes that one at the end, when it fails, when a step is cancelled, when this is closed, and when it is dropped.

    Parameters
    ----------
    source
        An asynchronous generator, or another asynchronous iterator.

    Raises
    ------
    RuntimeError
        When carried on in a forked child.
    """

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._steps: loop.Steps[T] | None = loop.Steps(loop.background(), source)

    def __aiter__(self) -> Iteration[T]:
        return self

    async def __anext__(self) -> T:
        steps = self._steps
        if steps is None:
            raise StopAsyncIteration
        steps.check()
        try:
            item = await awaited(steps.step())
        except BaseException:
            self._close()
            raise
        if item is loop.END:
            await self.aclose()
            raise StopAsyncIteration
        return cast("T", item)

    async def aclose(self) -> None:
        """Close it before its end, and wait until it is; it then yields nothing more."""
        steps, self._steps = self._steps, None
        if steps is not None and steps.background.works:
            await awaited(steps.close())

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        """Close it without waiting, which a finaliser cannot."""
        steps, self._steps = getattr(self, "_steps", None), None
        if steps is not None and steps.background.works:
            with suppress(RuntimeError):  # the interpreter ends, and the loop with it
                loop.Call(steps.background, steps.close()).begin()
