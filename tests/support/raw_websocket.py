"""WebSockets as a stranger may speak them: frames written byte by byte, none of them checked."""

from __future__ import annotations

import json
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.raw_http import PROTOCOL, address_of, socket_to
from tests.support.services import ServiceProcess

TEXT, BINARY, CONT, CLOSE, PING = 1, 2, 0, 8, 9
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


def opening(path: str = "/graphql", *headers: str) -> bytes:
    """The request that opens a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {PROTOCOL}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(kind: int, content: bytes, *, is_last: bool = True, is_compressed: bool = False) -> bytes:
    """A frame of a client's; its mask is zero, so that the content is as it was given."""
    first = kind | (0x80 if is_last else 0) | (0x40 if is_compressed else 0)
    size = len(content)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + content


def compressed(content: bytes) -> bytes:
    """A text frame with the content compressed, as `permessage-deflate` has it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)
    return frame(TEXT, packed.removesuffix(b"\0\0\xff\xff"), is_compressed=True)


def message(kind: str, **more: Any) -> bytes:
    """A text frame with a message of graphql-transport-ws."""
    return frame(TEXT, json.dumps({"type": kind, **more}).encode())


class Line:
    """An open WebSocket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            part = connection.recv(1)
            assert part, self.head
            self.head += part
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head

    def send(self, content: bytes) -> None:
        """Send these bytes."""
        self.connection.sendall(content)

    def receive(self) -> tuple[int, bytes]:
        """Return the kind and the content of the next frame."""
        first, size = self._exactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(size)

    def end(self) -> tuple[int, str]:
        """Return the code and the reason with which the service closes; agree, and require that it says no more."""
        kind, content = self.receive()
        while kind != CLOSE:
            kind, content = self.receive()
        self.send(frame(CLOSE, content[:2]))
        assert self.connection.recv(1) == b""
        return struct.unpack("!H", content[:2])[0], content[2:].decode()

    def _exactly(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = self.connection.recv(size - len(content))
            if not part:
                raise EOFError(f"the connection ended after {content!r}")
            content += part
        return content


@contextmanager
def upgraded(service: ServiceProcess, *headers: str) -> Iterator[Line]:
    """Open a WebSocket and say nothing yet."""
    with socket_to(*address_of(service)) as connection:
        connection.settimeout(60)
        connection.sendall(opening("/graphql", *headers))
        yield Line(connection)


def reset(connection: socket.socket) -> None:
    """Close a connection so that the other side is told at once, and cannot send anything."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def noise(size: int) -> bytes:
    """Bytes that are not text."""
    return b"\xff" + os.urandom(size - 1)
