"""HTTP on one connection, as uvicorn speaks it, with limits where uvicorn has none.

Connections are closed gracefully. Closing one while the client is still sending resets it, and a reset makes the client
lose an answer that it has not read yet. So the service closes only its own direction, keeps reading for a while, and
discards what comes. `websocket` does the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LINGER_BYTES", "LINGER_SECONDS", "MAX_HEAD_BYTES", "HttpProtocol"]

MAX_HEAD_BYTES = 64 * 1024

LINGER_SECONDS = 30.0
"""How long the service keeps reading once it has answered."""
LINGER_BYTES = 64 * 1024**2
"""How much it then reads at most: several times the largest body that a request may have."""

_SLICE_BYTES = 4 * 1024
"""How much is parsed at once: until it is answered, a request that is small takes many times its size."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, within limits.

    uvicorn's reads an address and headers of any size, this one at most `MAX_HEAD_BYTES`. If a request is answered
    before it has arrived completely, uvicorn's reads the rest without a limit, or nothing at all if the connection will
    be closed; this one reads it for a while. uvicorn's parses the requests behind one that is not answered yet, however
    many there are; this one leaves them as they came. uvicorn's adds the trailers of a body to the headers of its
    request, which the application may have acted on already; this one drops them.
    """

    _wrapped: _WrappedTransport
    _unparsed = b""
    _head = 0
    _is_in_head = False
    _is_handed_over = False
    _unread = 0
    """Bytes that came since the parser last reported something: it reports a header only when it is complete."""
    _has_more = False
    """Whether a request has begun that has not arrived completely, as far as is known."""
    _behind = 0
    """Bytes that came after the last answer and belong to the request that it was for."""
    _limit: asyncio.TimerHandle | None = None
    """Cuts the connection when these bytes have been read for long enough; None if no such bytes are awaited."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Wrap the transport, which uvicorn would close as soon as it has answered."""
        super().connection_made(transport)
        self._wrapped = _WrappedTransport(transport, self._close, self._go_on)
        self.transport = cast("asyncio.Transport", self._wrapped)
        self.flow = FlowControl(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the limit: there is nothing left to read."""
        self._stop_limit()
        self._unparsed = b""
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand over the bare transport: a WebSocket has messages of its own for its end."""
        self.transport = self._wrapped.transport
        self._is_handed_over = True
        self._wrapped.set_reading(to=True)
        self._unparsed = b""  # no client may send anything before it is answered
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """Close the connection unless its client waits for an answer: others must not delay the end of the service."""
        is_done = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first
        if self._wrapped.is_ending or is_done:
            self._wrapped.transport.close()
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless nothing will be answered any longer."""
        if self._limit is not None:
            self._behind += len(data)
            if self._behind > LINGER_BYTES:
                self._wrapped.transport.abort()
                return
        if not self._wrapped.is_ending:
            self._unparsed = self._unparsed + data if self._unparsed else data
            self._parse()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and expect more of it to come."""
        self._has_more = True
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Start to count the head of a request."""
        self._head = 0
        self._is_in_head = True
        self._has_more = True
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the address, which comes in parts."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; drop it if it follows the body."""
        self._count(name, value)
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to answer: the head is complete."""
        self._is_in_head = False
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body; `bodies` limits their total size."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Continue with the next request, even if this one was answered before it was complete."""
        self._unread = 0
        self._has_more = False
        if self._limit is not None:
            self._stop_limit()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Limit what still comes of a request that was answered before it was complete."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._start_limit()
        if self._unparsed or not self._wrapped.is_reading:
            self._parse()

    def _parse(self) -> None:
        """Parse what has come, until the application has enough to do: what is left waits, and no more is read."""
        unparsed = memoryview(self._unparsed)
        parsed = 0
        while parsed < len(self._unparsed) and not (
            self.pipeline or self.flow.read_paused or self._wrapped.transport.is_closing()
        ):
            part = unparsed[parsed : parsed + _SLICE_BYTES]
            parsed += len(part)
            self._unread += len(part)
            super().data_received(part)  # type: ignore[arg-type]  # the parser takes it, and nothing else sees it
            if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The address or the headers of the request are too large.")
        self._unparsed = self._unparsed[parsed:]
        self._set_reading()

    def _go_on(self) -> None:
        # Not at once: uvicorn calls this in the middle of its work.
        self.loop.call_soon(self._parse)

    def _set_reading(self) -> None:
        if self._is_handed_over:
            return
        is_busy = self._unparsed or self.pipeline or self.flow.read_paused
        self._wrapped.set_reading(to=self._wrapped.is_ending or not is_busy)

    def _close(self) -> None:
        """Close a connection that gets no further answers, once nothing more is expected from its client."""
        transport = self._wrapped.transport
        self._unparsed = b""
        if self._has_more and not transport.is_closing():
            if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]  # as above
                # An application that waits for the rest of a body must hear that it will not come.
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            with suppress(OSError):  # the client has reset it, which the transport is about to learn
                transport.write_eof()
            self._start_limit()
            self._set_reading()
        else:
            transport.close()

    def _start_limit(self) -> None:
        self._stop_limit()
        self._behind = 0
        self._limit = self.loop.call_later(LINGER_SECONDS, self._wrapped.transport.abort)

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _count(self, *parts: bytes) -> None:
        # Some extra bytes for each: many small headers use more memory than their length.
        self._head += sum(len(part) + 16 for part in parts)
        if self._head > MAX_HEAD_BYTES:
            message = "the address and the headers of a request are too large"
            raise ValueError(message)  # stops the parser: the request is answered as one that is not HTTP


class _WrappedTransport:
    """A transport as uvicorn sees it: once closed, it writes nothing more.

    `HttpProtocol` decides when it ends, and when it reads on.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], go_on: Callable[[], None]) -> None:
        self.transport = transport
        self.is_ending = False
        self._close = close
        self.is_reading = True
        self.resume_reading = go_on

    def write(self, data: bytes) -> None:
        if not self.is_ending:
            self.transport.write(data)

    def pause_reading(self) -> None:
        self.set_reading(to=False)

    def set_reading(self, *, to: bool) -> None:
        if to != self.is_reading:
            self.is_reading = to
            (self.transport.resume_reading if to else self.transport.pause_reading)()

    def is_closing(self) -> bool:
        return self.is_ending or self.transport.is_closing()

    def close(self) -> None:
        if not self.is_ending:
            self.is_ending = True
            self._close()
