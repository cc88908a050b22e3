"""What a forked child does to its parent's connections: nothing. Every test runs real processes and a real server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


class Server:
    """An HTTP server on a thread, which holds back the answer to a marked request until it is told to send it."""

    def __init__(self) -> None:
        self.lines: dict[str, list[int]] = {}  # the client's ports, by the name of the request
        self.holding = threading.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        assert started.wait(60)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._release, self._end = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        application = web.Application()
        application.router.add_post("/graphql", self._answer)
        application.router.add_get("/graphql", self._watch)
        runner = web.AppRunner(application, keepalive_timeout=600, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await self._end.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        name = (await request.json())["operationName"]
        self.lines.setdefault(name, []).append(request.transport.get_extra_info("peername")[1])
        if name == "held":
            self.holding.set()
            await self._release.wait()
        return web.json_response({"data": {"name": name}})

    async def _watch(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["graphql-transport-ws"])
        await socket.prepare(request)
        await socket.receive()
        await socket.send_json({"type": "connection_ack"})
        number = (await socket.receive_json())["id"]
        for state in ("before", "after"):
            await socket.send_json({"id": number, "type": "next", "payload": {"data": {"state": state}}})
            self.holding.set()
            await self._release.wait()
        await socket.send_json({"id": number, "type": "complete"})
        await socket.receive()
        return socket

    def release(self) -> None:
        """Answer what is held."""
        self._loop.call_soon_threadsafe(self._release.set)

    def close(self) -> None:
        """End the server and its thread."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that can hold a request."""
    running = Server()
    yield running
    running.close()


START = """
import gc, os, sys, threading, types
from grid.chain import loop
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
transport = Transport(Endpoint(sys.argv[1], "ada", "key"), RetryPolicy(tries=1, read_timeout=25))
def ask(name):
    return loop.run(transport.execute(types.SimpleNamespace(name=name, text="{ name }"), {}))["name"]
def fork(child, name="child"):
    if (pid := os.fork()) == 0:
        child()
        sys.stdout.flush()
        sys.exit(0)
    print(name, "ended with", os.waitpid(pid, 0)[1], flush=True)
"""


def start(script: str, url: str) -> subprocess.Popen[str]:
    """Start a script that shows every warning except the one about forks beside threads, which this is about."""
    command = [sys.executable, "-W", "always", "-W", "ignore::DeprecationWarning", "-c", START + script, url]
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True)


def read_until(process: subprocess.Popen[str], line: str) -> None:
    """Read what a script prints up to a line, which must come."""
    assert process.stdout is not None
    seen = []
    while (text := process.stdout.readline()) not in ("", line + "\n"):
        seen.append(text)
    assert text, (seen, process.communicate())


def finish(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """Return what else a script printed, what it complained about, and how it ended."""
    try:
        output, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    return output, complaints, process.returncode


CHILDREN = {
    "does nothing": "pass",
    "drops everything": """
    global transport
    transport = None
    gc.collect()""",
    "asks": """
    print(ask("child"), threading.active_count())
    gc.collect()""",
    "closes": """
    loop.run(transport.close())
    gc.collect()""",
    "asks, then forks": """
    print(ask("child"), threading.active_count())
    fork(lambda: print(ask("grandchild")), "grandchild")""",
    "forgets the modules": """
    import gc, sys
    for name in [name for name in sys.modules if name.startswith(("grid", "gql", "aiohttp", "asyncio"))]:
        del sys.modules[name]
    globals().clear()
    gc.collect()
    sys.exit(0)""",
}


@pytest.mark.parametrize("child", CHILDREN)
def test_request_under_way_survives_a_child(server: Server, child: str) -> None:
    """A request that the parent waits for is answered on the same connection after a child has lived and ended."""
    script = f"""
def child():
    {CHILDREN[child]}
print(ask("warm"))
waiting = threading.Thread(target=lambda: print(ask("held")))
waiting.start()
input()
fork(child)
waiting.join()
print(ask("after"))
"""
    process = start(script, server.url)
    assert server.holding.wait(60)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    read_until(process, "child ended with 0")
    server.release()
    assert finish(process) == ("held\nafter\n", "", 0)
    assert server.lines["warm"] == server.lines["held"] == server.lines["after"]
    assert len(server.lines["warm"]) == 1
    assert server.lines.get("child") != server.lines["warm"]
    assert ("child" in server.lines) == child.startswith("asks")
    assert ("grandchild" in server.lines) == (child == "asks, then forks")


def test_idle_connection_survives_many_children(server: Server) -> None:
    """A connection that is kept for later outlives children that use the same transport."""
    script = """
print(ask("warm"))
for _ in range(3):
    fork(lambda: print(ask("child")))
print(ask("after"))
"""
    output, complaints, code = finish(start(script, server.url))
    assert (output.count("child\n"), output.count("ended with 0"), complaints, code) == (3, 3, "", 0)
    assert server.lines["warm"] == server.lines["after"]
    assert len({*server.lines["child"], *server.lines["warm"]}) == 4


def test_subscription_survives_a_child(server: Server) -> None:
    """A subscription goes on in the parent; in the child it is refused, and dropped silently."""
    script = """
items = loop.iterate(transport.subscribe(types.SimpleNamespace(name="s", text="subscription s { state }"), {}))
print(next(items)["state"])
def child():
    global items
    try:
        next(items)
    except RuntimeError as error:
        print(error)
    del items
    gc.collect()
fork(child)
print([item["state"] for item in items])
"""
    process = start(script, server.url)
    read_until(process, "before")
    read_until(process, "this iteration began before a fork or the end of its loop: begin a new one")
    read_until(process, "child ended with 0")
    server.release()
    assert finish(process) == ("['after']\n", "", 0)


def test_generator_dropped_in_a_child(server: Server) -> None:
    """A subscription that a child drops unread is not closed there."""
    script = """
items = loop.iterate(transport.subscribe(types.SimpleNamespace(name="s", text="subscription s { state }"), {}))
print(next(items)["state"])
def child():
    global items, transport
    items = transport = None
    gc.collect()
fork(child)
print([item["state"] for item in items])
"""
    process = start(script, server.url)
    read_until(process, "child ended with 0")
    server.release()
    assert finish(process) == ("['after']\n", "", 0)


def test_nothing_of_the_parent_is_finalised_in_a_child(server: Server) -> None:
    """What hangs on the parent's loop is never finalised in a child, neither when it is dropped nor at the exit."""
    script = """
class Canary:
    home = os.getpid()
    def __init__(self):
        self.ring = self  # only the collector can find it
    def __del__(self):
        if os.getpid() != Canary.home:
            os.write(1, b"finalised\\n")
    def __aiter__(self):
        return self
    async def __anext__(self):
        return 1
    async def close(self):
        pass
async def adopt():
    loop.adopt(Canary())
loop.run(adopt())
items = loop.iterate(Canary())
next(items)
def child():
    global items
    del items
    gc.collect()
fork(child)
"""
    assert finish(start(script, server.url)) == ("child ended with 0\n", "", 0)


def test_lock_held_at_the_fork(server: Server) -> None:
    """A child whose parent was just starting its loop on another thread starts its own."""
    script = """
held, done = threading.Event(), threading.Event()
def hold():
    with loop._lock:
        held.set()
        done.wait()
threading.Thread(target=hold).start()
held.wait()
fork(lambda: print(ask("child")))
done.set()
print(ask("parent"))
"""
    assert finish(start(script, server.url)) == ("child\nchild ended with 0\nparent\n", "", 0)


def test_fork_before_the_first_call(server: Server) -> None:
    """A child of a process that has made no call yet starts its own loop, and so does the parent."""
    script = """
fork(lambda: print(ask("child")))
print(ask("parent"))
"""
    assert finish(start(script, server.url)) == ("child\nchild ended with 0\nparent\n", "", 0)
    assert server.lines["child"] != server.lines["parent"]
