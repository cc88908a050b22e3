"""Large answers from small real servers: they are taken from their connection, and all that has arrived is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from grid import errors
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
from grid.downloads.receivers import FileReceiver, Memory
from tests.support.raw_service import KEY, QUICK, Heard, Server, reply

# Of a length that no buffer is a part of, and without a part that comes twice.
CONTENT = b"".join(number.to_bytes(4, "big") for number in range(3_000_001))
ETAG = '"1-2-3"'


def file(heard: Heard, content: bytes = CONTENT) -> bytes:
    """Answer as a service does: the file, or the part that is asked for."""
    first, status = 0, 200
    if "range" in heard.headers:
        first, status = int(heard.headers["range"].removeprefix("bytes=").removesuffix("-")), 206
    more = f"ETag: {ETAG}\r\nContent-Range: bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}\r\n"
    answer: bytes = reply(content[first:], status, more=more)(heard)
    return answer


class Watched(Memory):
    """Copies a piece only after the loop has had many turns to overwrite it."""

    def __init__(self, turn: Callable[[], None]) -> None:
        super().__init__()
        self._turn = turn
        self.largest = 0

    def write(self, piece: bytes | memoryview) -> None:
        for _ in range(20):
            self._turn()
        self.largest = max(self.largest, len(piece))
        super().write(piece)


def fetch(server: Server, make: Callable[[Callable[[], None]], Memory], **policy: Any) -> Memory:
    """Stream a file to what `make` returns, which is given how to let the loop have a turn; return it."""

    async def nothing() -> None:
        return

    async def main() -> Memory:
        loop = asyncio.get_running_loop()
        memory = make(lambda: asyncio.run_coroutine_threadsafe(nothing(), loop).result())
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy(**{**QUICK, "read_timeout": 5.0, **policy}))
        try:
            await transport.stream("the download of 'x'", "/x", FileReceiver(memory))
        finally:
            await transport.close()
        return memory

    return asyncio.run(main())


def test_whole(server: Server) -> None:
    """It arrives as it is, in pieces of bounded size, of which none is overwritten while it is written."""
    server.answers = [file]
    memory = fetch(server, Watched)
    assert isinstance(memory, Watched)
    assert memory.content == CONTENT
    assert memory.largest <= 1 << 21
    assert len(server.heard) == 1


def test_other_requests_go_on(server: Server) -> None:
    """The connection is not used again, whatever comes on it after the body; others are."""
    server.answers = [lambda heard: file(heard) + b"HTTP/1.1 200 OK\r\nETag: other\r\nContent-Length: 0\r\n\r\n", file]

    async def main() -> list[Memory]:
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy(**QUICK))
        memories = [Memory(), Memory()]
        for memory in memories:
            await transport.stream("x", "/x", FileReceiver(memory))
        await transport.close()
        return memories

    assert [memory.content == CONTENT for memory in asyncio.run(main())] == [True, True]
    assert [heard.connection for heard in server.heard] == [1, 2]


@pytest.mark.parametrize("make", [Watched, lambda _: Memory()])
def test_cut(server: Server, make: Any) -> None:
    """What has arrived before the connection breaks is not asked for again."""

    def cut(heard: Heard) -> bytes:
        whole = file(heard)
        return whole.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)[: -len(CONTENT) // 2]

    server.answers = [cut, file]
    memory = fetch(server, make)

    assert memory.content == CONTENT
    first, second = server.heard
    sent = len(cut(first).partition(b"\r\n\r\n")[2])
    assert second.headers["range"] == f"bytes={sent}-"


def test_nothing_more_arrives(server: Server) -> None:
    """A connection on which nothing more arrives is given up, and the next try goes on from there."""
    sent = 5_000_000

    def stall(heard: Heard) -> bytes:
        head, _, body = file(heard).partition(b"\r\n\r\n")
        return head + b"\r\n\r\n" + body[:sent]

    server.answers = [stall, file]
    memory = fetch(server, lambda _: Memory(), read_timeout=0.5)
    assert memory.content == CONTENT
    assert server.heard[1].headers["range"] == f"bytes={sent}-"

    server.heard.clear()
    server.answers = [stall, lambda heard: file(heard).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"]
    with pytest.raises(errors.RequestTimeout, match=r"the download of 'x'.*nothing more has arrived for 0.5 s"):
        fetch(server, lambda _: Memory(), read_timeout=0.5, tries=2)


def test_receiver_that_fails(server: Server) -> None:
    """A full disk ends the stream, and is no broken line."""

    class Full(Memory):
        def write(self, piece: bytes | memoryview) -> None:
            if self.size + len(piece) > len(CONTENT) // 2:
                raise OSError(28, "No space left on device", "out/x")
            super().write(piece)

    server.answers = [file]
    with pytest.raises(OSError, match="No space left on device: 'out/x'") as raised:
        fetch(server, lambda _: Full())
    assert not isinstance(raised.value, errors.GridError)
    assert len(server.heard) == 1


def test_cancelled(server: Server) -> None:
    """A cancelled stream ends once no thread works on its receiver any more, and closes its connection."""
    working: list[str] = []

    class Cancelling(Memory):
        def write(self, piece: bytes | memoryview) -> None:
            working.append("begun")
            asyncio.run_coroutine_threadsafe(cancel(), loop).result()
            super().write(piece)
            working.append("ended")

    async def cancel() -> None:
        task.cancel()

    async def main() -> None:
        nonlocal task, loop
        loop = asyncio.get_running_loop()
        transport = Transport(Endpoint(server.url, "ada", KEY))
        task = asyncio.ensure_future(transport.stream("x", "/x", FileReceiver(Cancelling())))
        with pytest.raises(asyncio.CancelledError):
            await task
        working.append("cancelled")
        await transport.close()

    task: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop
    server.answers = [file]
    asyncio.run(main())

    assert working == ["begun", "ended", "cancelled"]
