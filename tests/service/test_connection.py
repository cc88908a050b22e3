"""Tests of how a connection ends: an answer reaches a client that still sends, and no client is read from for ever."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.toy_service import serving, toy_service
from tests.support.waiting import wait_until

PART = bytes(1 << 20)
PARTS = 40
KEY, WRONG = "Authorization: Basic good", "Authorization: Basic bad"
LENGTH, CHUNKED = f"Content-Length: {PARTS << 20}", "Transfer-Encoding: chunked"
CLOSE = "Connection: close"

# Each is answered before its body has come: its head, and the status.
EARLY = {
    "announced too large": (["POST", KEY, LENGTH], 413),
    "found too large": (["POST", KEY, CHUNKED], 413),
    "announced too large, without a key": (["POST", WRONG, LENGTH, CLOSE], 401),
    "no key, in chunks": (["POST", WRONG, CHUNKED, CLOSE], 401),
    "no key, connection kept": (["POST", WRONG, CHUNKED], 401),
    "no such method": (["PUT", KEY, CHUNKED, CLOSE], 405),
    "not HTTP": (["POST", f"X: {'x' * 70_000}"], 400),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a service that knows one key."""
    with toy_service() as address:
        yield address


def opened(url: str, lines: list[str]) -> closing[socket.socket]:
    """Connect, and send the head of a request: its method and its headers."""
    address = urlsplit(url)
    connection = socket.create_connection((str(address.hostname), address.port), timeout=20)
    method, *headers = lines
    head = [f"{method} {address.path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return closing(connection)


def send(connection: socket.socket, lines: list[str], parts: int = PARTS) -> None:
    """Send that many parts of a body, of a MiB each, as the head has announced them."""
    for _ in range(parts):
        connection.sendall(b"%x\r\n%b\r\n" % (len(PART), PART) if CHUNKED in lines else PART)


def read_all(connection: socket.socket) -> bytes:
    """Read until the service says that it has nothing more to say."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def status(answer: bytes) -> int:
    """The status of an answer, which must be there whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower(), answer
    assert b"application/json" not in head or json.loads(body)["errors"]
    return int(head.split()[1])


@pytest.mark.parametrize("case", EARLY)
def test_answer_reaches_a_client_that_sends_everything_first(url: str, case: str) -> None:
    """A client that reads nothing until it has sent 40 MiB finds its answer, and the end of the connection."""
    lines, expected = EARLY[case]
    for _ in range(3):
        with opened(url, lines) as connection:
            send(connection, lines)
            connection.shutdown(socket.SHUT_WR)
            assert status(read_all(connection)) == expected


@pytest.mark.parametrize("case", EARLY)
def test_answer_reaches_a_client_that_sends_slowly(url: str, case: str) -> None:
    """A client that sends most of its body long after it was answered finds the answer afterwards."""
    lines, expected = EARLY[case]
    with opened(url, lines) as connection:
        send(connection, lines, 17 if expected == 413 and CHUNKED in lines else 0)
        for _ in range(3):
            assert connection.recv(1, socket.MSG_PEEK)  # it is there, and stays for later
            send(connection, lines, 5)
        connection.shutdown(socket.SHUT_WR)
        assert status(read_all(connection)) == expected


@pytest.mark.parametrize("case", sorted(EARLY.keys() - {"no key, connection kept"}))
def test_client_that_listens_hears_the_end_at_once(url: str, case: str) -> None:
    """A client that reads while it sends is told that nothing more will come, and need not send the rest."""
    lines, expected = EARLY[case]
    with opened(url, lines) as connection:
        send(connection, lines, 17 if expected == 413 and CHUNKED in lines else 0)
        assert status(read_all(connection)) == expected
        send(connection, lines, 1)


@pytest.mark.parametrize("case", EARLY)
@pytest.mark.parametrize("limit", ["SECONDS", "BYTES"])
def test_no_client_is_read_from_for_ever(url: str, monkeypatch: pytest.MonkeyPatch, case: str, limit: str) -> None:
    """A client that never stops sending is cut off after a time, and after an amount."""
    monkeypatch.setattr(f"grid.service.http.connection.LINGER_{limit}", {"SECONDS": 0.05, "BYTES": 1 << 20}[limit])
    lines, _ = EARLY[case]
    with opened(url, lines) as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        send(connection, lines, 100_000)


@pytest.mark.parametrize("parts", [0, 1])
def test_connection_without_use_is_closed(parts: int) -> None:
    """A kept connection is closed when it has been idle, however its last request was answered."""
    with toy_service(timeout_keep_alive=0) as url:
        lines = ["POST", WRONG, f"Content-Length: {len(PART)}"]
        with opened(url, lines) as connection:
            assert connection.recv(1, socket.MSG_PEEK)
            send(connection, lines, parts)
            assert status(read_all(connection)) == 401


def test_connection_goes_on_behind_a_refusal() -> None:
    """A request that was refused before its body came is followed by another on the same connection."""
    with toy_service(timeout_keep_alive=1) as url:
        lines = ["POST", WRONG, f"Content-Length: {len(PART)}"]
        with opened(url, lines) as connection:
            refusal = b""
            while not refusal.endswith(b"}"):
                refusal += connection.recv(1 << 16)
            assert status(refusal) == 401
            address = urlsplit(url)
            query = b'{"query": "{ who }"}'
            head = f"POST {address.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{KEY}\r\n"
            connection.sendall(PART + head.encode() + b"Content-Length: %d\r\n\r\n" % len(query) + query)
            assert b'{"who":"good"}' in read_all(connection)


@pytest.mark.parametrize("case", sorted(EARLY.keys() - {"no key, connection kept"}))
def test_silent_client_is_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """A client that has its answer, and neither sends on nor closes, is let go of after a time."""
    monkeypatch.setattr("grid.service.http.connection.LINGER_SECONDS", 0.05)
    lines, _ = EARLY[case]
    with opened(url, lines) as connection:
        send(connection, lines, 17 if CHUNKED in lines and CLOSE not in lines else 0)
        read_all(connection)
        ours = connection.getsockname()[1]
        process = psutil.Process()
        wait_until(
            lambda: not any(each.raddr and each.raddr.port == ours for each in process.net_connections("tcp")),
            "the end of the service's side",
        )


def test_application_hears_that_a_body_will_not_come() -> None:
    """A body that cannot be parsed half way is refused, and the application that waits for the rest of it is told."""
    heard: list[str] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        del scope, send
        while "http.disconnect" not in heard:
            heard.append((await receive())["type"])

    with serving(listen) as url, opened(url, ["POST", CHUNKED]) as connection:
        connection.sendall(b"1\r\nx\r\n")
        wait_until(lambda: heard, "the first part of the body")
        connection.sendall(b"zz\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
        wait_until(lambda: heard[-1] == "http.disconnect", "the word that nothing more will come")


def test_trailers_are_no_headers() -> None:
    """What follows a body is dropped: the application acts on the headers that came before it, and on no others."""
    heard: list[tuple[bytes, bytes]] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        heard.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with serving(listen) as url, opened(url, ["POST", CHUNKED]) as connection:
        for _ in range(2):
            heard.clear()
            connection.sendall(b"1\r\nx\r\n0\r\nAuthorization: Basic good\r\nHost: evil.example\r\n\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 204 ")
            names = [name for name, _ in heard]
            assert names == [b"host", b"content-type", b"transfer-encoding"]
            address = urlsplit(url)
            head = f"POST {address.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{CHUNKED}\r\n"
            connection.sendall(head.encode() + b"\r\n")
        connection.shutdown(socket.SHUT_WR)
