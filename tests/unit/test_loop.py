"""The background loop: waiting, iterating, threads, Ctrl-C, the interpreter's exit. Forks are tested in `test_fork`."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from grid.chain import loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def where() -> tuple[int, asyncio.AbstractEventLoop]:
    """Return the thread and the loop that this runs on."""
    return threading.get_ident(), asyncio.get_running_loop()


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a script of its own, in which every warning is shown."""
    command = [sys.executable, "-W", "always", "-W", "ignore::DeprecationWarning", "-c", script, *arguments]
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True)


def outcome(process: subprocess.Popen[str], given: str = "") -> tuple[str, str, int]:
    """Return what a script printed, what it complained about, and how it ended."""
    with process:
        try:
            output, complaints = process.communicate(given, timeout=60)
        finally:
            process.kill()
    return output, complaints, process.returncode


def test_run_returns_and_raises() -> None:
    """A coroutine's result and its exception come to the caller as they are."""

    async def fail() -> None:
        raise KeyError("missing")

    assert loop.run(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(KeyError, match="missing"):
        loop.run(fail())


def test_everything_runs_on_one_other_thread() -> None:
    """All callers, on any thread, share one loop on a thread of its own."""
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: loop.run(where()), range(50)))
    assert seen == {loop.run(where())}
    assert next(iter(seen))[0] != threading.get_ident()


def test_callers_do_not_wait_for_each_other() -> None:
    """Two threads can wait at the same time: here each waits for the other."""
    meeting: list[asyncio.Event] = loop.run(_events())

    async def meet(mine: asyncio.Event, other: asyncio.Event) -> bool:
        mine.set()
        return await asyncio.wait_for(other.wait(), 10)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(loop.run, meet(*pair)) for pair in (meeting, meeting[::-1])]
        assert [one.result() for one in both] == [True, True]


async def _events() -> list[asyncio.Event]:
    return [asyncio.Event(), asyncio.Event()]


def test_run_inside_a_running_loop() -> None:
    """The synchronous call works even if a loop is running already, as in a notebook."""

    async def notebook() -> tuple[Any, list[int]]:
        return loop.run(where()), list(loop.iterate(count([])))

    found, items = asyncio.run(notebook())
    assert found == loop.run(where())
    assert items == [0, 1, 2]


def test_waiting_on_the_loop_itself_is_refused() -> None:
    """A synchronous call on the loop's own thread is an error instead of waiting for ever."""

    async def call() -> None:
        loop.run(asyncio.sleep(0))

    async def walk() -> None:
        list(loop.iterate(count([])))

    for coroutine in (call(), walk()):
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            loop.run(coroutine)


async def count(log: list[str], fail: bool = False) -> AsyncIterator[int]:
    """Yield three numbers, and log the end."""
    try:
        for number in range(3):
            yield number
        if fail:
            raise LookupError("the end")
    finally:
        await asyncio.sleep(0)
        log.append(threading.current_thread().name)


def test_iterate_to_the_end() -> None:
    """All items come, and the source is closed on the loop."""
    log: list[str] = []
    assert list(loop.iterate(count(log))) == [0, 1, 2]
    assert log == ["grid-loop"]


def test_iterate_and_leave() -> None:
    """A source that is left in the middle is closed before the close of the iterator returns."""
    log: list[str] = []
    items = loop.iterate(count(log))
    assert next(items) == 0
    assert log == []
    items.close()
    assert log == ["grid-loop"]


def test_iterate_and_drop_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterator that is dropped on the loop's thread closes its source without holding up the loop."""
    monkeypatch.setattr(loop, "LAST_PATIENCE", 600)
    log: list[str] = []
    held = [loop.iterate(count(log))]
    next(held[0])

    async def drop() -> list[str]:
        held.clear()
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)
        return list(log)

    assert loop.run(drop()) == ["grid-loop"]


def test_iterate_passes_errors_on() -> None:
    """An error of the source comes after the items before it."""
    log: list[str] = []
    items = loop.iterate(count(log, fail=True))
    assert [next(items), next(items), next(items)] == [0, 1, 2]
    with pytest.raises(LookupError, match="the end"):
        next(items)
    assert log == ["grid-loop"]


def test_iterate_over_what_cannot_be_closed() -> None:
    """A source needs no more than `__aiter__` and `__anext__`."""

    class Source:
        left = 2

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    assert list(loop.iterate(Source())) == [1, 0]


SERVER = """
import asyncio, sys
async def serve(reader, writer):
    while True:
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\\r\\n")[0])
        body = await reader.readexactly(length)
        if b"hang" in body:
            print("hangs", flush=True)
            print("gone" if not await reader.read(1) else "data", flush=True)
            return writer.close()
        answer = b'{"data": {"ok": true}}'
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer) + answer)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

CLIENT = """
import sys, types
from grid.chain import loop
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
transport = Transport(Endpoint(sys.argv[1], "ada", "key"), RetryPolicy(read_timeout=600))
query = types.SimpleNamespace(name="q", text="{ ok }")
def ask(**variables):
    return loop.run(transport.execute(query, variables))
"""


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service as a process, and its address. It prints `hangs` when it does, and `gone` when the caller has gone."""
    process = python(SERVER)
    assert process.stdout is not None
    yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process there")
def test_interrupt(server: tuple[subprocess.Popen[str], str]) -> None:
    """Ctrl-C ends the wait for a request that hangs, drops that request, and leaves the session usable."""
    service, url = server
    script = """
try:
    ask(hang=True)
except KeyboardInterrupt:
    print("interrupted", ask())
"""
    process = python(CLIENT + script, url)
    assert service.stdout is not None
    assert service.stdout.readline() == "hangs\n"
    process.send_signal(signal.SIGINT)
    assert outcome(process) == ("interrupted {'ok': True}\n", "", 0)
    assert service.stdout.readline() == "gone\n"


@pytest.mark.skipif(os.name == "nt", reason="there is no such timer")
def test_interrupts_at_any_moment() -> None:
    """At whatever moment Ctrl-C meets a call, its caller sees that and nothing else, and the next call is answered."""
    script = """
import asyncio, random, signal, threading, warnings
from grid.chain import loop

# Where the interrupt comes between the two brackets of `run(answer(…))`, nobody has the coroutine yet.
warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)

def interrupt(*_):
    raise KeyboardInterrupt

async def answer(number):
    await asyncio.sleep(0)
    return number

async def where():
    return id(asyncio.get_running_loop()), threading.get_ident()

signal.signal(signal.SIGALRM, interrupt)
draw = random.Random(7)
interrupts = answers = 0
home = loop.run(where())
while interrupts < 2000:
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 3e-4))
        while True:
            number = draw.random()
            assert loop.run(answer(number)) == number
            answers += 1
    except KeyboardInterrupt:
        interrupts += 1
assert loop.run(where()) == home  # the loop is the same, on the same thread
print(interrupts, "interrupts", answers > 0)
"""
    assert outcome(python(script)) == ("2000 interrupts True\n", "", 0)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process there")
def test_interrupt_while_iterating() -> None:
    """Ctrl-C ends an iteration that waits, closes its source behind the prompt, and leaves the loop usable."""
    script = """
import asyncio
from grid.chain import loop
loop.LAST_PATIENCE = 600
async def events():
    return asyncio.Event(), asyncio.Event()
prompt, closed = loop.run(events())
async def source():
    try:
        yield 1
        print("waiting", flush=True)
        await asyncio.Event().wait()
    finally:
        await prompt.wait()
        closed.set()
async def type_on():
    prompt.set()
    return await closed.wait()
try:
    for _ in loop.iterate(source()):
        pass
except KeyboardInterrupt:
    print("interrupted", loop.run(type_on()))
"""
    process = python(script)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert outcome(process) == ("interrupted True\n", "", 0)


def test_exit_with_an_open_session(server: tuple[subprocess.Popen[str], str]) -> None:
    """An interpreter that ends with open connections closes them silently."""
    assert outcome(python(CLIENT + "print(ask())", server[1])) == ("{'ok': True}\n", "", 0)


def test_exit_with_a_request_under_way(server: tuple[subprocess.Popen[str], str]) -> None:
    """An interpreter that ends while a daemon thread waits for an answer drops the request and does not wait."""
    service, url = server
    script = """
import threading
def wait():
    try:
        ask(hang=True)
    except BaseException:
        pass
threading.Thread(target=wait, daemon=True).start()
input()
"""
    process = python(CLIENT + script, url)
    assert service.stdout is not None
    assert service.stdout.readline() == "hangs\n"
    assert outcome(process, "\n") == ("", "", 0)
    assert service.stdout.readline() == "gone\n"


def test_exit_with_an_iteration_under_way() -> None:
    """A source that was not read to its end is closed when the interpreter ends."""
    script = """
from grid.chain import loop
async def source():
    try:
        yield 1
    finally:
        print("closed")
items = loop.iterate(source())
print(next(items))
"""
    assert outcome(python(script)) == ("1\nclosed\n", "", 0)


def test_exit_with_iterations_within_each_other() -> None:
    """Where sources go through others, each is closed by the one that goes through it, and nothing complains."""
    script = """
import asyncio
from contextlib import aclosing
from grid.chain import loop
async def source(depth):
    try:
        if depth:
            async with aclosing(source(depth - 1)) as within:
                async for item in within:
                    yield item
        else:
            yield 1
    finally:
        await asyncio.sleep(0.001)
        print("closed", depth)
items = loop.iterate(source(5))
print(next(items))
"""
    closed = "".join(f"closed {depth}\n" for depth in range(6))
    assert outcome(python(script)) == (f"1\n{closed}", "", 0)


def test_exit_does_not_wait_for_what_will_not_end() -> None:
    """A closable that never closes and a task that will not be cancelled cannot keep the interpreter from ending."""
    script = """
import asyncio
from grid.chain import loop
class Stubborn:
    async def close(self):
        print("closing", flush=True)
        await asyncio.Event().wait()
async def stay():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
async def begin():
    loop.adopt(Stubborn())
    global task
    task = asyncio.ensure_future(stay())
loop.run(begin())
"""
    output, _, code = outcome(python(script))
    assert (output, code) == ("closing\n", 0)


def test_exit_does_not_wait_for_a_name_server() -> None:
    """A name that is still being looked up cannot keep the interpreter from ending."""
    script = """
import asyncio, socket, threading
from grid.chain import loop
asked = threading.Event()
def never(*_, **__):
    asked.set()
    threading.Event().wait()
socket.getaddrinfo = never
async def look():
    global task
    task = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo("grid.invalid", 80))
loop.run(look())
asked.wait()
"""
    assert outcome(python(script)) == ("", "", 0)


def test_names_are_looked_up() -> None:
    """The loop finds the addresses of a name, and says so if there are none."""

    async def look(name: str) -> list[Any]:
        return await asyncio.get_running_loop().getaddrinfo(name, 80)

    assert loop.run(look("localhost"))
    with pytest.raises(OSError, match="\\[Errno"):
        loop.run(look("nowhere.invalid"))


def test_adopted_is_closed_at_exit_and_released_is_not() -> None:
    """What was adopted on the loop is closed at exit; what was released, or belongs to another loop, is not."""
    script = """
import asyncio
from grid.chain import loop
class Thing:
    def __init__(self, name): self.name = name
    async def close(self): print("closed", self.name)
kept, released, foreign = Thing("kept"), Thing("released"), Thing("foreign")
async def begin():
    loop.adopt(kept); loop.adopt(released); loop.release(released)
async def elsewhere():
    loop.adopt(foreign)
loop.run(begin())
asyncio.run(elsewhere())
"""
    assert outcome(python(script)) == ("closed kept\n", "", 0)
