"""The asynchronous face over the background loop: from another loop, from the loop itself, cancelled, and abandoned."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from grid.chain import loop
from grid.chain.awaiting import Iteration, awaited
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


async def where() -> str:
    """Return the name of the thread that this runs on."""
    await asyncio.sleep(0)
    return threading.current_thread().name


class Counting:
    """A source that counts, waits when it has counted far enough, and notes its end."""

    def __init__(self, until: int = 3, *, waits: bool = False) -> None:
        self.closed_on: list[str] = []
        self.is_waiting = threading.Event()
        self._until = until
        self._waits = waits

    async def items(self) -> AsyncGenerator[int, None]:
        """Yield numbers."""
        try:
            for number in range(self._until):
                yield number
            if self._waits:
                self.is_waiting.set()
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.closed_on.append(threading.current_thread().name)


def test_work_is_done_on_the_other_loop() -> None:
    """What is awaited runs on the background loop, and its result and its error come to the caller."""

    async def fail() -> None:
        raise KeyError("missing")

    async def main() -> None:
        assert await awaited(where()) == "grid-loop"
        with pytest.raises(KeyError, match="missing"):
            await awaited(fail())
        assert await where() == threading.current_thread().name != "grid-loop"

    asyncio.run(main())


def test_the_callers_loop_goes_on() -> None:
    """While a caller waits, other tasks of its loop run: here, the one that lets the wait end."""
    gate = loop.run(_event())

    async def main() -> bool:
        waiting = asyncio.create_task(awaited(gate.wait()))
        await asyncio.sleep(0)
        await awaited(_set(gate))
        return await waiting

    assert asyncio.run(main())


async def _event() -> asyncio.Event:
    return asyncio.Event()


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_on_the_loop_itself() -> None:
    """A caller that is on the background loop awaits and iterates there, and does not wait for itself."""

    async def main() -> tuple[str, list[int]]:
        return await awaited(where()), [number async for number in Iteration(Counting().items())]

    assert loop.run(main()) == ("grid-loop", [0, 1, 2])


def test_iterate_to_the_end() -> None:
    """All items come, from a source that is closed on the loop where it lives."""
    source = Counting()

    async def main() -> list[int]:
        return [number async for number in Iteration(source.items())]

    assert asyncio.run(main()) == [0, 1, 2]
    assert source.closed_on == ["grid-loop"]


def test_iterate_and_close() -> None:
    """A source that is closed in the middle is closed when the close returns, and yields nothing more."""
    source = Counting()

    async def main() -> None:
        items = Iteration(source.items())
        assert await anext(items) == 0
        await items.aclose()
        assert source.closed_on == ["grid-loop"]
        assert [number async for number in items] == []
        await items.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("keeps_loop", [True, False])
def test_iterate_and_abandon(keeps_loop: bool) -> None:
    """An iterator that is left, even by a loop that was closed without a word, closes its source."""
    source = Counting()

    async def main() -> None:
        async for _ in Iteration(source.items()):
            break

    if keeps_loop:
        asyncio.run(main())
    else:
        callers = asyncio.new_event_loop()
        callers.run_until_complete(main())
        callers.close()
    gc.collect()
    wait_until(lambda: source.closed_on, "the close")
    assert source.closed_on == ["grid-loop"]


def test_cancelled_step_ends_the_source() -> None:
    """A task that is cancelled while it waits ends at once, and so does the step, and the source with it."""
    source = Counting(1, waits=True)

    async def main() -> list[int]:
        items = Iteration(source.items())
        got = [await anext(items)]
        task = asyncio.create_task(anext(items))
        await asyncio.to_thread(source.is_waiting.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return got + [number async for number in items]

    assert asyncio.run(main()) == [0]
    wait_until(lambda: source.closed_on, "the close")


def test_cancelled_when_it_has_hardly_begun() -> None:
    """A task that is cancelled after its first step, or by a timeout, leaves nothing behind that complains."""

    async def main() -> None:
        task = asyncio.create_task(awaited(where()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(awaited(loop.run(_event()).wait()), 0.01)

    asyncio.run(main())


def test_errors_of_the_source() -> None:
    """An error comes after the items before it, and is the end."""

    async def source() -> AsyncGenerator[int, None]:
        yield 1
        raise LookupError("the end")

    async def main() -> None:
        items = Iteration(source())
        assert await anext(items) == 1
        with pytest.raises(LookupError, match="the end"):
            await anext(items)
        assert [number async for number in items] == []

    asyncio.run(main())


def test_long_calls_have_a_thread_of_their_own() -> None:
    """What would block runs beside the loop, which goes on: here, the function waits for the loop itself."""

    async def main() -> str:
        return await loop.in_thread(lambda: loop.run(where()), "grid-test")

    async def fail() -> None:
        await loop.in_thread(lambda: {}["missing"], "grid-test")

    assert loop.run(main()) == "grid-loop"
    with pytest.raises(KeyError, match="missing"):
        loop.run(fail())


def test_exit_with_an_iteration_and_a_thread_under_way() -> None:
    """An interpreter that ends while something is iterated, and something long is called, ends silently."""
    script = """
import asyncio, threading
from grid.chain import loop
from grid.chain.awaiting import Iteration
called = threading.Event()
def never():
    called.set()
    threading.Event().wait()
async def source():
    try:
        yield 1
        await loop.in_thread(never, "grid-test")
    finally:
        print("closed")
async def main():
    global items
    items = Iteration(source())
    print(await anext(items))
    task = asyncio.ensure_future(anext(items))
    await asyncio.to_thread(called.wait)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\nclosed\n", "", 0)


def test_iteration_in_a_forked_child() -> None:
    """An iteration that a child carries on is refused; one that it drops does no harm in the parent."""
    script = """
import asyncio, os
from grid.chain import loop
from grid.chain.awaiting import Iteration
async def source():
    for number in range(3):
        yield number
items = Iteration(source())
print(asyncio.run(anext(items)), flush=True)
child = os.fork()
if not child:
    try:
        asyncio.run(anext(items))
    except RuntimeError as error:
        print(error, flush=True)
    del items
    os._exit(0)
os.waitpid(child, 0)
async def rest():
    return [number async for number in items]
print(asyncio.run(rest()))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    refused = "this iteration began before a fork or the end of its loop: begin a new one"
    assert (done.stdout.splitlines(), done.stderr) == (["0", refused, "[1, 2]"], "")
