"""HTTP on one connection, as uvicorn speaks it; what it leaves without an end has one here.

A connection is closed in good order. To close it while the client still sends is to reset it, and a reset takes from
the client the answer that it has not read yet: so the service says that it has nothing more to say, reads on for a
while, and throws away what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HttpProtocol"]

MAX_HEAD_BYTES = 64 * 1024

_LINGER_SECONDS = 30.0
"""How long the service reads on when it has answered."""
_LINGER_BYTES = 64 * 1024**2
"""How much it reads then: several times the largest body that a request may have."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, within limits.

    uvicorn's reads address and headers without end, this one no more than `MAX_HEAD_BYTES`. Of a request that is
    answered before it has come whole, uvicorn's reads the rest without end, or nothing at all if the connection will be
    closed; this one reads it for a while.
    """

    _line: _Line
    _head = 0
    _unread = 0
    """Bytes since the last of which something was made: of a header, until it ends, the parser tells nothing."""
    _has_more = False
    """Whether a request has begun that has not come whole, as far as can be told."""
    _behind = 0
    """Bytes that came since the last answer, of the request that it was for."""
    _limit: asyncio.TimerHandle | None = None
    """Cuts the connection when they have been read for long enough; None while there is nothing to wait for."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Put a line before the transport, which uvicorn would close as soon as it has answered."""
        super().connection_made(transport)
        self._line = _Line(transport, self._close)
        self.transport = cast("asyncio.Transport", self._line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limit: there is nothing left to read."""
        self._stop_limit()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Give the bare transport away: a WebSocket says by messages of its own that it ends."""
        self.transport = self._line.transport
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """Let nobody delay the end of the service who waits for no answer."""
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]  # None at first
            self._line.transport.close()
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless nothing is answered any more."""
        if self._limit is not None:
            self._behind += len(data)
            if self._behind > _LINGER_BYTES:
                self._line.transport.abort()
                return
        if self._line.is_ending:
            return
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The address or the headers of the request are too large.")

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and expect that more of it comes."""
        self._has_more = True
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Count the head of each request anew."""
        self._head = 0
        self._has_more = True
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the address, which comes in parts."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, which may stand behind the body too."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer: the head has an end."""
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on; how large all of them may be is decided by `bodies`."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on with the next request, also where this one was answered before its end."""
        self._unread = 0
        self._has_more = False
        if self._limit is not None:
            self._stop_limit()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Limit what still comes of a request that is answered before its end."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._start_limit()

    def _close(self) -> None:
        """Close a connection on which nothing is said any more, as soon as nothing more is to come."""
        transport = self._line.transport
        if self._has_more and not transport.is_closing():
            with suppress(OSError):  # the client has reset it, which the transport is told in a moment
                transport.write_eof()
            self._start_limit()
            self.flow.resume_reading()
        else:
            transport.close()

    def _start_limit(self) -> None:
        self._stop_limit()
        self._behind = 0
        self._limit = self.loop.call_later(_LINGER_SECONDS, self._line.transport.abort)

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _count(self, *parts: bytes) -> None:
        # Some bytes more for each: many small headers weigh more than they say.
        self._head += sum(len(part) + 16 for part in parts)
        if self._head > MAX_HEAD_BYTES:
            message = "the address and the headers of a request are too large"
            raise ValueError(message)  # which the parser stops at: the request is answered as one that is not HTTP


class _Line:
    """A transport as uvicorn sees it: where it is closed, nothing more is written, and `close` sees to the rest."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.transport = transport
        self.is_ending = False
        self._close = close

    def write(self, data: bytes) -> None:
        if not self.is_ending:
            self.transport.write(data)

    def is_closing(self) -> bool:
        return self.is_ending or self.transport.is_closing()

    def close(self) -> None:
        if not self.is_ending:
            self.is_ending = True
            self._close()
