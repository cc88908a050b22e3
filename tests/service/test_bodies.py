"""Tests of the limit on a request's body, as ASGI messages."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from grid.service.http.bodies import limit_body


class Exchange:
    """One HTTP request as ASGI messages: the body in parts of one size, and what came back."""

    def __init__(self, part: int, parts: int | None, length: bytes | None = None) -> None:
        self.scope = {"type": "http", "headers": [(b"content-length", length)] if length else []}
        self.read = 0
        self.sent: list[dict[str, Any]] = []
        self._part = part
        self._parts = parts

    async def receive(self) -> dict[str, Any]:
        """Hand out the next part of the body."""
        self.read += self._part
        more = self._parts is None or self.read < self._part * self._parts
        return {"type": "http.request", "body": b"x" * self._part, "more_body": more}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a part of the answer."""
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        assert not self.sent[-1].get("more_body")
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    """Answer with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


async def swallowing(scope: Any, receive: Any, send: Any) -> None:
    """Answer as a framework does that turns every exception into its own page."""
    try:
        await echo(scope, receive, send)
    except Exception:  # noqa: BLE001 - that is what it is here for
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"oops"})


def assert_too_large(exchange: Exchange) -> None:
    """Require the answer for a body above 10 bytes."""
    assert exchange.sent[0]["status"] == 413
    assert (b"connection", b"close") in exchange.sent[0]["headers"]
    (error,) = orjson.loads(exchange.body)["errors"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": 10}
    assert "10 bytes" in error["message"]


@pytest.mark.parametrize("app", [echo, swallowing])
@pytest.mark.parametrize(
    ("length", "part", "parts", "read"),
    [
        (b"11", 11, 1, 0),
        (b"1000000", 1, None, 0),
        (b"10", 6, 3, 12),
        (b"10", 6, None, 12),
        (None, 4, None, 12),
    ],
)
def test_body_is_read_no_further_than_allowed(
    app: Any, length: bytes | None, part: int, parts: int | None, read: int
) -> None:
    """A body above the limit gets a coded 413, and is read no further than the part that exceeds it."""
    exchange = Exchange(part, parts, length)
    asyncio.run(limit_body(app, 10)(exchange.scope, exchange.receive, exchange.send))
    assert exchange.read == read
    assert_too_large(exchange)


def test_what_was_announced_too_large_is_not_read() -> None:
    """A length above the limit is answered as soon as the application begins to read: no byte of it is received."""
    exchange = Exchange(11, 1, b"11")
    asyncio.run(limit_body(echo, 10)(exchange.scope, exchange.receive, exchange.send))
    assert exchange.read == 0
    assert_too_large(exchange)


def test_application_that_reads_nothing_decides_alone() -> None:
    """An application that refuses the client's key does so whatever the length of the body."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    exchange = Exchange(11, 1, b"11")
    asyncio.run(limit_body(app, 10)(exchange.scope, exchange.receive, exchange.send))
    assert (exchange.read, exchange.sent[0]["status"]) == (0, 401)


def test_body_within_the_limit_passes() -> None:
    """A body of exactly the limit reaches the application."""
    exchange = Exchange(5, 2, b"10")
    asyncio.run(limit_body(echo, 10)(exchange.scope, exchange.receive, exchange.send))
    assert (exchange.sent[0]["status"], exchange.body) == (200, b"10")
