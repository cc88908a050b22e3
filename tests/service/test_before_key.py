"""What somebody without a key can make a service do: next to nothing. A real process, its memory, and exact bytes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest

from grid.service.http.websocket import MAX_BYTES_BEFORE_KEY
from tests.support.raw_http import address_of, basic, call, key_of, socket_to
from tests.support.raw_websocket import (
    BINARY,
    CONT,
    DEFLATE,
    PING,
    TEXT,
    Line,
    compressed,
    frame,
    message,
    noise,
    opening,
    reset,
    upgraded,
)
from tests.support.services import ServiceProcess

MIB = 1 << 20
GROWTH = 40 * MIB
"""How much more memory a service may take while it is attacked over ten connections."""

LARGE = b'{"type": "ping", "payload": "' + b"a" * (15 * MIB) + b'"}'
COMPRESSED = compressed(LARGE)


class Peak:
    """The most memory that a process takes while it is watched."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._is_over = threading.Event()
        self.before = self.most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(0.002):
            self.most = max(self.most, self._process.memory_info().rss)

    def growth(self) -> int:
        """Stop to watch; return by how much it has grown at most."""
        self._is_over.set()
        self._thread.join()
        return self.most - self.before


@contextmanager
def watched(service: ServiceProcess, most: int = GROWTH) -> Iterator[None]:
    """Require that the service takes little more memory, and that it answers while all that goes on and afterwards."""
    peak = Peak(service.process.pid)
    try:
        yield
        assert call(service, "GET", "/health").status == 200
    finally:
        growth = peak.growth()
    assert growth < most, f"{growth / MIB:.0f} MiB"


def at_once(service: ServiceProcess, attack: Callable[[ServiceProcess], None]) -> None:
    """Attack over ten connections at the same time; the service answers others meanwhile."""
    threads = [threading.Thread(target=attack, args=[service]) for _ in range(10)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert call(service, "GET", "/health").status == 200
    for thread in threads:
        thread.join()


def large_pings(service: ServiceProcess) -> None:
    """Send eight pings of 15 MiB before `connection_init`, compressed if the service lets a client."""
    with upgraded(service, DEFLATE) as line, suppress(ConnectionError):
        is_small = b"permessage-deflate" in line.head
        for _ in range(8):
            line.send(COMPRESSED if is_small else frame(TEXT, LARGE))
        if is_small:
            line.receive()


def fragments(service: ServiceProcess) -> None:
    """Send a message of a million parts, which never ends, before `connection_init`."""
    part = frame(CONT, b"a", is_last=False) * (MIB // 16)
    with upgraded(service) as line, suppress(ConnectionError):
        line.send(frame(TEXT, b'{"', is_last=False))
        for _ in range(16):
            line.send(part)


def frames_without_end(service: ServiceProcess) -> None:
    """Begin a frame of 15 MiB, and do not finish it."""
    with upgraded(service) as line, suppress(ConnectionError):
        line.send(frame(TEXT, LARGE)[:-1])


def bodies(service: ServiceProcess) -> None:
    """Send a body of 16 MiB with a wrong key."""
    with socket_to(*address_of(service)) as connection, suppress(ConnectionError):
        key = basic(service.endpoint.user_id, "wrong")
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: {key}\r\n"
        )
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % (16 * MIB))
        connection.sendall(bytes(16 * MIB))


@pytest.mark.parametrize("attack", [large_pings, fragments, frames_without_end, bodies])
def test_memory(service: ServiceProcess, attack: Callable[[ServiceProcess], None]) -> None:
    """Ten connections without a key cannot make the service take much memory, nor keep it from answering others."""
    with watched(service):
        at_once(service, attack)


def test_memory_for_many_requests_in_a_row(service: ServiceProcess) -> None:
    """Requests that are sent without waiting for answers are taken up one after the other."""
    many = b"GET / HTTP/1.1\r\n\r\n" * (1 << 14)
    with watched(service), ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(socket_to(*address_of(service)))
            connection.setblocking(False)
            assert connection.send(many) > 100_000
        assert call(service, "GET", "/health").status == 200


def test_requests_in_a_row_are_all_answered(service: ServiceProcess) -> None:
    """Requests behind one that is not answered yet wait, and are answered in their order."""
    count = 2_000
    with socket_to(*address_of(service)) as connection:
        many = b"".join(
            b"POST /%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc" % number for number in range(count)
        )
        connection.sendall(many + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answers.count(b"HTTP/1.1 404 ") == count
    assert answers.rpartition(b"HTTP/1.1 ")[2].startswith(b"200 ")


# With a key a message may be as large as a body, however it is sent


@contextmanager
def let_in(service: ServiceProcess) -> Iterator[Line]:
    """Open a WebSocket with the right key."""
    with upgraded(service, ": ".join(key_of(service))) as line:
        line.send(message("connection_init"))
        assert json.loads(line.receive()[1]) == {"type": "connection_ack"}
        yield line


def test_memory_for_parts_of_a_message(service: ServiceProcess) -> None:
    """A message takes no more memory if it comes in small parts."""
    with watched(service, GROWTH // 2), let_in(service) as line:
        line.send(frame(TEXT, b'{"type": "ping", "payload": "', is_last=False))
        for _ in range(4):
            line.send(frame(CONT, b"aa", is_last=False) * (MIB // 16))
        line.send(frame(CONT, b'"}'))
        assert json.loads(line.receive()[1]) == {"type": "pong"}


def test_memory_for_answers_that_nobody_reads(service: ServiceProcess) -> None:
    """A client that pings and does not read the answers gets no more of them."""
    with watched(service, GROWTH // 2), let_in(service) as line:
        for _ in range(24):
            line.send(frame(PING, b"a" * 125) * (1 << 13))
        line.connection.settimeout(0.2)
        with suppress(TimeoutError):
            while line.connection.recv(MIB):
                pass


@pytest.mark.parametrize("size", [16 * MIB - 100, 16 * MIB])
def test_messages_are_as_large_as_bodies(service: ServiceProcess, size: int) -> None:
    """A message of 16 MiB is read; of a larger one the client hears that it is too large, even while it sends it."""
    with let_in(service) as line:
        line.send(frame(TEXT, b'{"type": "ping", "payload": "' + b"a" * size + b'"}'))
        if size < 16 * MIB - 50:
            assert json.loads(line.receive()[1]) == {"type": "pong"}
        else:
            assert line.end()[0] == 1009


# The beginning of a WebSocket, byte by byte

INIT = message("connection_init")


def padded(size: int) -> bytes:
    """A `connection_init` whose frame has that many bytes."""
    empty = len(message("connection_init", payload={"a": "x" * 1_000})) - 1_000
    return message("connection_init", payload={"a": "x" * (size - empty)})


def test_as_much_as_is_allowed_before_the_answer(service: ServiceProcess) -> None:
    """Exactly the limit may be sent before `connection_ack`, in as many pieces as one likes; and afterwards more."""
    with upgraded(service, ": ".join(key_of(service))) as line:
        content = padded(MAX_BYTES_BEFORE_KEY)
        assert len(content) == MAX_BYTES_BEFORE_KEY
        for start in range(0, len(content), 100):
            line.send(content[start : start + 100])
        assert json.loads(line.receive()[1]) == {"type": "connection_ack"}
        line.send(message("ping", payload={"a": "x" * (2 * MAX_BYTES_BEFORE_KEY)}))
        assert json.loads(line.receive()[1]) == {"type": "pong"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(padded(MAX_BYTES_BEFORE_KEY + 1), id="message"),
        pytest.param(frame(TEXT, LARGE)[: MAX_BYTES_BEFORE_KEY + 1], id="part of a frame"),
        pytest.param(frame(PING, b"x" * 100) * 200, id="pings"),
        pytest.param(frame(TEXT, b"x", is_last=False) + frame(CONT, b"", is_last=False) * 4_000, id="empty parts"),
    ],
)
@pytest.mark.parametrize("has_key", [True, False])
def test_more_than_is_allowed_before_the_answer(service: ServiceProcess, content: bytes, has_key: bool) -> None:
    """What is more ends the connection before a frame is complete, and the client that sends on learns why."""
    with upgraded(service, *([": ".join(key_of(service))] if has_key else [])) as line:
        line.send(content)
        with suppress(ConnectionError):
            line.send(bytes(MIB))
        assert line.end() == (1009, f"at most {MAX_BYTES_BEFORE_KEY} bytes may be sent before connection_ack")


NO_MESSAGE, TOO_EARLY = (4400, "Invalid message received"), (4401, "Unauthorized")
FIRST = {
    "ping": (message("ping"), TOO_EARLY),
    "pong": (message("pong"), TOO_EARLY),
    "complete": (message("complete", id="1"), TOO_EARLY),
    "subscribe": (message("subscribe", id="1", payload={"query": "{ apiVersion }"}), TOO_EARLY),
    "what a service sends": (message("connection_ack"), NO_MESSAGE),
    "unknown": (message("hello"), NO_MESSAGE),
    "no JSON": (frame(TEXT, b"{"), NO_MESSAGE),
    "bytes": (frame(BINARY, noise(100)), NO_MESSAGE),
    "no text": (frame(TEXT, noise(100)), (1007, "the text is not UTF-8")),
    "twice": (INIT + INIT, (4429, "Too many initialisation requests")),
}


@pytest.mark.parametrize("first", FIRST)
def test_nothing_else_comes_first(service: ServiceProcess, first: str) -> None:
    """Before `connection_ack` a client sends `connection_init` alone, or is closed with the protocol's code."""
    with upgraded(service, ": ".join(key_of(service))) as line:
        content, end = FIRST[first]
        line.send(content)
        assert line.end() == end


def test_nothing_is_compressed(service: ServiceProcess) -> None:
    """Nobody may compress: neither with a key nor without."""
    for headers in ([], [": ".join(key_of(service))]):
        with upgraded(service, DEFLATE, *headers) as line:
            assert b"sec-websocket-extensions" not in line.head.lower()
            line.send(compressed(b'{"type": "connection_init"}'))
            assert line.end()[0] == 1002


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(opening("/graphql?" + "a" * 9_000), id="address"),
        pytest.param(opening("/graphql", "X: " + "a" * 9_000), id="header"),
        pytest.param(opening("/graphql", *["X: a"] * 150), id="headers"),
        pytest.param(opening("/graphql", "Content-Length: 3") + b"abc", id="body"),
    ],
)
def test_openings_that_are_too_large(service: ServiceProcess, request_: bytes) -> None:
    """The opening of a WebSocket that is too large for one is answered, and the connection ends."""
    with socket_to(*address_of(service)) as connection:
        connection.sendall(request_)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
    assert b"8 KiB" in body


# A key comes before everything else


@pytest.mark.parametrize("length", ["3", str(16 * MIB + 1), "9" * 18])
@pytest.mark.parametrize("path", ["/graphql", "/snapshots/" + "0" * 64 + "?size=3&expires=9&signature=0"])
def test_no_body_is_asked_for_before_the_key(service: ServiceProcess, path: str, length: str) -> None:
    """A client that asks whether to send its body is refused for its key, whatever the length that it announces."""
    method, status = ("POST", 401) if path == "/graphql" else ("PUT", 403)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    with socket_to(*address_of(service)) as connection:
        connection.sendall(f"{head}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"100 Continue" not in answer


# The log


def wrong_key(service: ServiceProcess) -> None:
    """Ask with a wrong key."""
    call(service, headers=[("Authorization", basic("somebody", "wrong"))], body=b"{}")


def signed_address(service: ServiceProcess) -> None:
    """Try to open a WebSocket at the address of an upload."""
    said(service, opening(SIGNED))


def forged_address(service: ServiceProcess) -> None:
    """Upload to an address that the service did not sign."""
    assert call(service, "PUT", SIGNED, body=b"abc").status == 403


def no_http(service: ServiceProcess) -> None:
    """Send what is not HTTP."""
    said(service, b"GET " + SIGNED.encode() + b" SSH-2.0\r\n\r\n")


def other_protocol(service: ServiceProcess) -> None:
    """Ask for another protocol than HTTP and WebSockets."""
    said(
        service,
        f"GET {SIGNED} HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n".encode(),
    )


def too_long(service: ServiceProcess) -> None:
    """Open a WebSocket at an address that is too long."""
    said(service, opening(SIGNED + "a" * 9_000))


def no_text(service: ServiceProcess) -> None:
    """Open a WebSocket, and send what is not text."""
    with upgraded(service) as line:
        line.send(frame(TEXT, noise(10)))
        line.end()


def no_frame(service: ServiceProcess) -> None:
    """Open a WebSocket, and send what is not a frame."""
    with upgraded(service) as line:
        line.send(b"\xff" * 10)
        line.end()


def no_key(service: ServiceProcess) -> None:
    """Open a WebSocket, and send no key."""
    with upgraded(service) as line:
        line.send(INIT)
        assert line.end()[0] == 4403


def other_host(service: ServiceProcess) -> None:
    """Open a WebSocket at another host."""
    said(service, opening(SIGNED).replace(b"localhost", b"evil.example"))


def gone(service: ServiceProcess) -> None:
    """Open a WebSocket, and reset the connection before it is answered."""
    for content in (opening(SIGNED), opening(), opening() + INIT):
        connection = socket_to(*address_of(service))
        connection.sendall(content)
        reset(connection)


def too_early(service: ServiceProcess) -> None:
    """Send what is not a frame before the WebSocket is open."""
    with socket_to(*address_of(service)) as connection, suppress(ConnectionError):
        connection.sendall(opening())
        connection.sendall(b"\xff" * 10)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass


SIGNED = "/snapshots/" + "0" * 64 + "?size=3&expires=9&signature=secret"
NUISANCES = [wrong_key, signed_address, forged_address, no_http, other_protocol, too_long, no_text, no_frame, no_key]
NUISANCES += [other_host, gone, too_early]


def said(service: ServiceProcess, request_: bytes) -> bytes:
    """Send these bytes, and return all that is answered."""
    with socket_to(*address_of(service)) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return b""


@pytest.mark.parametrize("nuisance", NUISANCES)
def test_log_does_not_grow(service: ServiceProcess, nuisance: Callable[[ServiceProcess], None]) -> None:
    """Whatever somebody without a key does, and however often: of each kind there is a line a minute at most."""
    before = service.log.stat().st_size
    for _ in range(30):
        nuisance(service)
    assert call(service, "GET", "/health").status == 200
    with service.log.open() as log:
        log.seek(before)
        lines = log.read().splitlines()
    assert len(lines) <= 2, lines
    assert "Traceback" not in "".join(lines)
    assert "signature" not in "".join(lines)


def test_refused_subscription_leaves_no_trace(service: ServiceProcess) -> None:
    """A subscription to what there is not is answered, and is no fault that the log would have to show."""
    before = service.log.stat().st_size
    with let_in(service) as line:
        query = 'subscription { runStatusChanged(name: "nothing") { revision } }'
        line.send(message("subscribe", id="1", payload={"query": query}))
        (error,) = json.loads(line.receive()[1])["payload"]["errors"]
        assert error["extensions"]["code"] == "RUN_NOT_FOUND"
        assert json.loads(line.receive()[1])["type"] == "complete"
    assert service.log.stat().st_size == before
