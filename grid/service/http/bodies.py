"""Limits the size of a request's body: ASGI middleware around any application."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from grid.service.api.errors import ApiError, coded
from grid.service.system.settings import MAX_BODY_BYTES
from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["limit_body"]


class _BodyTooLarge(Exception):
    """Unwinds the application that was reading the body."""


def limit_body(app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> ASGIApp:
    """Wrap an ASGI application so that no request body is read beyond a limit.

    When the application begins to read the body, the client gets status 413 and a coded error if the length that it
    announces exceeds the limit, and later as soon as what it has sent does. The application receives no more of the
    body, and the connection is closed. Before it begins to read, the application decides alone: it may refuse the
    client's key.

    The server must keep reading for a while, as `HttpProtocol` does: otherwise a client that is still sending is reset
    before it reads the answer.

    Parameters
    ----------
    app
        The application.
    max_bytes
        The largest body that is allowed.

    Returns
    -------
    ASGI application
        The limited application.
    """

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        announced, received = _announced(scope), 0
        exceeded = answered = False

        async def counting() -> Message:
            nonlocal received, exceeded
            if announced <= max_bytes:
                message = await receive()
                received += len(message.get("body", b""))
            if max(announced, received) > max_bytes:
                exceeded = True
                raise _BodyTooLarge
            return message

        async def watching(message: Message) -> None:
            nonlocal answered
            # The application's own answer to the exception that interrupted it is not what the client needs to know.
            if not exceeded or answered:
                answered = True
                await send(message)

        with suppress(_BodyTooLarge):
            await app(scope, counting, watching)
        if exceeded and not answered:
            await _refuse_body(send, max_bytes)

    return limited


def _announced(scope: Scope) -> int:
    return max(
        (int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), default=0
    )


async def _refuse_body(send: Send, max_bytes: int) -> None:
    error = ApiError(
        ErrorCode.LIMIT_EXCEEDED,
        f"the body of the request is too large: at most {max_bytes} bytes are allowed",
        {"limit": max_bytes},
    )
    body = orjson.dumps({"errors": [coded(error, error.code)]})
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
