"""A WebSocket as uvicorn speaks it, with limits where uvicorn has none.

What a client may send before it is let in is counted where it arrives: neither a frame that is not complete nor one
that nobody reads takes more room than that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

from grid.service.http import connection

if TYPE_CHECKING:
    from websockets.frames import Frame
    from websockets.http11 import Request

__all__ = ["LET_IN", "MAX_BYTES_BEFORE_KEY", "WebSocketProtocol"]

MAX_BYTES_BEFORE_KEY = 16 * 1024

LET_IN = "grid.let_in"
"""The name of an ASGI extension: its `call` is what an application calls once it has accepted the client's key."""

_NO_HANDSHAKE = (
    b"This cannot be the beginning of a WebSocket: its address and each of its headers may have 8 KiB, "
    b"of headers there may be 128, and there must be no body."
)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, within limits.

    A client may send `MAX_BYTES_BEFORE_KEY` until the application says, by way of the extension `LET_IN`, that its key
    was accepted. uvicorn's keeps each part of a message as an object of its own, however small, and each answer to a
    ping, however many the client leaves unread; it does not answer an opening that the parser refuses; and it resets a
    connection that it ends for a fault of the client's, which may then not learn why.
    """

    _is_let_in = False
    _before_key = 0
    _is_ending = False
    _behind = 0
    """Bytes that came after the end."""

    def let_in(self) -> None:
        """Stop to count: the client's key was accepted."""
        self._is_let_in = True

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is too much for a client without a key."""
        if self._is_ending:
            self._behind += len(data)
            if self._behind > connection.LINGER_BYTES:
                self.transport.abort()
            return
        if self.handshake_initiated and not self._is_let_in:
            self._before_key += len(data)
            if self._before_key > MAX_BYTES_BEFORE_KEY:
                reason = f"at most {MAX_BYTES_BEFORE_KEY} bytes may be sent before connection_ack"
                self._fail(CloseCode.MESSAGE_TOO_BIG, reason)
                return
        super().data_received(data)
        if not self.handshake_initiated:  # the head comes as a whole: the parser has refused it
            self._refuse_handshake()

    def handle_connect(self, event: Request) -> None:
        """Let the application say when the client's key was accepted."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"][LET_IN] = {"call": self.let_in}

    def handle_cont(self, event: Frame) -> None:
        """Join the parts of a message as they come."""
        whole: Any = self.frames[0]
        if not isinstance(whole, bytearray):
            whole = bytearray(whole)
            self.frames = [cast("bytes", whole)]
        whole += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read the answers."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def send_receive_event_to_app(self) -> None:
        """Pass on a message, unless it claims to be text and is not."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_DATA, "the text is not UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """End the connection for what cannot be parsed."""
        if not self.handshake_complete:
            self.transport.abort()  # no client may send anything before it is answered
            return
        close = self.conn.close_sent
        code, reason = (close.code, close.reason) if close else (CloseCode.ABNORMAL_CLOSURE, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._linger()

    async def send(self, message: Any) -> None:
        """Send what the application says; after a whole refusal nothing is missing."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def _refuse_handshake(self) -> None:
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
        self.transport.write(head % len(_NO_HANDSHAKE) + b"connection: close\r\n\r\n" + _NO_HANDSHAKE)
        self.handshake_complete = self.close_sent = True
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more will come, and read on for a while: see `connection`."""
        self.stop_keepalive()
        self._is_ending = True
        if self.close_timer is not None:
            self.close_timer.cancel()
        # uvicorn closes a connection when the application returns, unless there is such a timer.
        self.close_timer = self.loop.call_later(connection.LINGER_SECONDS, self.transport.abort)
        with suppress(OSError):  # the client has reset it, which the transport is about to learn
            self.transport.write_eof()
        self.transport.resume_reading()
