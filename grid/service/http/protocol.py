"""HTTP on one connection, as uvicorn speaks it; what it leaves without an end is bounded here."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HttpProtocol"]

MAX_HEAD_BYTES = 64 * 1024


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, which reads address, headers and the like without end: this one no more than `MAX_HEAD_BYTES`."""

    _head = 0
    _unread = 0
    """Bytes since the last of which something was made: of a header, until it ends, the parser tells nothing."""

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The address or the headers of the request are too large.")

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, which may stand behind the body too."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, whose size is limited elsewhere."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end."""
        self._unread = 0
        super().on_message_complete()

    def _count(self, *parts: bytes) -> None:
        # Some bytes more for each: many small headers weigh more than they say.
        self._head += sum(len(part) + 16 for part in parts)
        if self._head > MAX_HEAD_BYTES:
            message = "the address and the headers of a request are too large"
            raise ValueError(message)  # which the parser stops at: the request is answered as one that is no HTTP
