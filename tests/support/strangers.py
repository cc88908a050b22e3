"""Servers that listen on a port and are not Grid services."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Stranger:
    """A server that is not a Grid service: it notes what it is sent, and always sends the same answer."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.received: list[bytes] = []
        self._lines: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Hang up."""
        self._listening.close()
        for line in self._lines:
            line.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._listening.accept()
                self._lines.append(line)  # if there is no answer it stays open
                self.received.append(line.recv(1 << 16))
                if self._answer is not None:
                    line.sendall(self._answer)
                    line.shutdown(socket.SHUT_WR)


def http_answer(body: bytes, content_type: str, status: str = "200 OK") -> bytes:
    """Write an HTTP answer that closes its connection."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
