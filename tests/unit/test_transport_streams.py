"""Streams from small real servers: what arrives, where they go on, and what ends them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest

from grid import errors
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
from grid.downloads.receivers import Changed, FileReceiver, Memory, RangeReceiver, Restless
from tests.support.raw_service import KEY, QUICK, Heard, Server, fault, reply

CONTENT = bytes(range(256)) * 4_000
ETAG = '"1-2-3"'


def file(
    content: bytes = CONTENT, etag: str = ETAG, *, cut: int | None = None, more: str = ""
) -> Callable[[Heard], bytes]:
    """Answer as a service does: the file, or the part that is asked for if it is the same; cut after some bytes."""

    def answer(heard: Heard) -> bytes:
        first, status = 0, "200 OK"
        if "range" in heard.headers and heard.headers.get("if-range", etag) == etag:
            first = int(heard.headers["range"].removeprefix("bytes=").partition("-")[0])
            status = "206 Partial Content"
        if first >= len(content):
            return reply("", 416)(heard)  # type: ignore[no-any-return]
        end = f"bytes {first}-{len(content) - 1}/{len(content)}"
        head = (
            f"HTTP/1.1 {status}\r\nETag: {etag}\r\nContent-Length: {len(content) - first}\r\nContent-Range: {end}\r\n"
        )
        close = "" if cut is None else "Connection: close\r\n"
        return (head + close + more + "\r\n").encode() + content[first : None if cut is None else first + cut]

    return answer


def receive(
    server: Server, receiver: Any, path: str = "/artifacts/ab/1?path=x&signature=s", **policy: Any
) -> Transport:
    """Stream what is at a path to a receiver."""

    async def main() -> Transport:
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy(**{**QUICK, "read_timeout": 5.0, **policy}))
        try:
            await transport.stream("the download of 'x'", path, receiver)
        finally:
            await transport.close()
        return transport

    return asyncio.run(main())


def test_stream(server: Server) -> None:
    """A file arrives whole and as it is; the request has the key, and asks for nothing that would change its bytes."""
    server.answers = [file()]
    memory = Memory()
    counted: list[int] = []

    receive(server, FileReceiver(memory, arrived=counted.append))

    assert bytes(memory.content) == CONTENT
    assert sum(counted) == len(CONTENT)
    (heard,) = server.heard
    assert (heard.method, heard.path) == ("GET", "/artifacts/ab/1?path=x&signature=s")
    assert heard.headers["accept-encoding"] == "identity"
    assert "range" not in heard.headers
    assert heard.headers["authorization"] == "Basic " + base64.b64encode(f"ada:{KEY}".encode()).decode()


def test_stream_goes_on_where_it_broke_off(server: Server) -> None:
    """What has arrived is not asked for again, and tries that brought something do not count."""
    server.answers = [file(cut=100_000)]
    memory = Memory()
    counted: list[int] = []

    receive(server, FileReceiver(memory, arrived=counted.append), tries=2)

    assert bytes(memory.content) == CONTENT
    assert sum(counted) == len(CONTENT)
    assert len(server.heard) > 6
    starts = [int(heard.headers["range"].removeprefix("bytes=").removesuffix("-")) for heard in server.heard[1:]]
    assert starts == sorted(set(starts))
    assert all(heard.headers["if-range"] == ETAG for heard in server.heard[1:])


def test_file_that_changes_begins_anew(server: Server) -> None:
    """Nothing of one file is put together with another's."""
    other = b"other" * 50_000
    server.answers = [file(cut=100_000), file(other, '"4"', cut=100), file(other, '"4"')]
    memory = Memory()
    receiver = FileReceiver(memory)

    receive(server, receiver)

    assert bytes(memory.content) == other
    assert receiver.etag == '"4"'
    assert server.heard[2].headers["range"] == "bytes=100-"


@pytest.mark.parametrize("cut", [0, 100_000])
def test_file_that_never_rests(server: Server, cut: int) -> None:
    """A file that is another each time is begun anew ten times, however little of it comes, and is then given up."""
    often = [file(etag=f'"{number}"', cut=cut) for number in range(10)]
    memory = Memory()
    server.answers = [*often, file()]
    receive(server, FileReceiver(memory), tries=2)
    assert bytes(memory.content) == CONTENT
    assert len(server.heard) == 11

    server.heard.clear()
    server.answers = [*often, file(etag='"10"', cut=cut), file()]
    with pytest.raises(Restless):
        receive(server, FileReceiver(Memory()), tries=2)
    assert len(server.heard) == 12


def test_part_that_is_not_there_any_more(server: Server) -> None:
    """Where there is more already than the file has, it begins anew."""
    memory = Memory()
    memory.write(CONTENT)
    server.answers = [file()]

    receive(server, FileReceiver(memory, ETAG))

    assert bytes(memory.content) == CONTENT
    assert len(server.heard) == 2


@pytest.mark.parametrize(
    "spoiled",
    [
        reply("<title>Sign in</title>", 200, "text/html"),
        reply(CONTENT[:100], 200),
        reply("", 200),
        reply("", 502),
        file(more="Content-Encoding: gzip\r\n"),
        file(cut=0),
        lambda _: None,
        lambda _: b"\x80" * 600,
    ],
)
def test_spoiled_answer_is_asked_for_again(server: Server, spoiled: Any) -> None:
    """An answer that something on the way has spoiled is no part of a file, and the next one may be right."""
    server.answers = [spoiled, spoiled, file()]
    memory = Memory()

    receive(server, FileReceiver(memory))

    assert bytes(memory.content) == CONTENT


def test_other_part_than_was_asked_for(server: Server) -> None:
    """A service that answers with another part than was asked for is not believed."""
    memory = Memory()
    memory.write(CONTENT[:10])
    wrong = reply(
        CONTENT[20:], 206, more=f"ETag: {ETAG}\r\nContent-Range: bytes 20-{len(CONTENT) - 1}/{len(CONTENT)}\r\n"
    )
    server.answers = [wrong, file()]

    receive(server, FileReceiver(memory, ETAG))

    assert bytes(memory.content) == CONTENT


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (fault("FORBIDDEN", "the address has expired", 403), errors.PermissionDenied, "expired"),
        (reply("", 403), errors.AuthenticationFailed, "'ada'"),
        (reply("<h1>no</h1>", 404, "text/html"), errors.InvalidResponse, "HTTP 404"),
        (reply("", 302, more="Location: http://elsewhere/?secret\r\n"), errors.InvalidResponse, "redirecting to"),
        (reply("", 200), errors.InvalidResponse, "no ETag"),
        (file(cut=0), errors.ConnectionFailed, "the download of 'x'"),
    ],
)
def test_refused_stream(server: Server, answer: Any, kind: type[errors.GridError], says: str) -> None:
    """What ends a stream is said as for a query, without anything secret."""
    server.answers = [answer]
    with pytest.raises(kind, match=says) as raised:
        receive(server, FileReceiver(Memory()), tries=2)
    assert type(raised.value) is kind
    for secret in (KEY, "signature", "secret"):
        assert secret not in str(raised.value)


@pytest.mark.parametrize("path", ["http://evil.invalid/x", "//evil.invalid/x", "@evil.invalid/x", "\\\\evil.invalid"])
def test_address_is_below_the_service(server: Server, path: str) -> None:
    """A path that looks like an address elsewhere is one below the service's all the same."""
    server.answers = [file()]

    receive(server, FileReceiver(Memory()), path)

    (heard,) = server.heard
    assert "evil.invalid" in heard.path


def test_receiver_that_fails(server: Server) -> None:
    """What the receiver cannot do ends the stream as it is: a full disk is no broken line."""

    class Full(Memory):
        def write(self, piece: bytes) -> None:
            raise OSError(28, "No space left on device", "out/x")

    server.answers = [file()]
    with pytest.raises(OSError, match="No space left on device: 'out/x'") as raised:
        receive(server, FileReceiver(Full()))
    assert not isinstance(raised.value, errors.GridError)
    assert len(server.heard) == 1


def test_stream_that_is_cancelled(server: Server) -> None:
    """A stream that is cancelled ends only when no thread works on its receiver any more."""
    working: list[str] = []

    class Slow(Memory):
        def write(self, piece: bytes) -> None:
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
        task = asyncio.ensure_future(transport.stream("x", "/x", FileReceiver(Slow())))
        with pytest.raises(asyncio.CancelledError):
            await task
        working.append("cancelled")
        await transport.close()

    task: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop
    server.answers = [file()]
    asyncio.run(main())

    assert working == ["begun", "ended", "cancelled"]


def test_range(server: Server) -> None:
    """A range comes as it was asked for, also in several tries; from another file nothing is taken."""

    def part(heard: Heard) -> bytes:
        first, last = map(int, heard.headers["range"].removeprefix("bytes=").split("-"))
        given = CONTENT[first : last + 1]
        more = f"ETag: {ETAG}\r\nContent-Range: bytes {first}-{last}/{len(CONTENT)}\r\n"
        whole = reply(given, 206, more=more + "Connection: close\r\n")(heard)
        return whole[: len(whole) - len(given) // 2]  # type: ignore[no-any-return]

    server.answers = [part]
    receiver = RangeReceiver(1_000, 200_999, ETAG)
    receive(server, receiver)
    assert bytes(receiver.content) == CONTENT[1_000:201_000]
    assert len(server.heard) > 2

    server.heard.clear()
    server.answers = [file(etag='"other"')]
    receiver = RangeReceiver(0, 9, ETAG)
    with pytest.raises(Changed):
        receive(server, receiver)
    assert receiver.has_changed
    assert receiver.content == b""
