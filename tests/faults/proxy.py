"""A small HTTP proxy between client and service that spoils what it carries, request by request, as it is told to.

It knows where a message begins and ends, and the name of the operation that a request carries; nothing more. What the
faults lead to is for the tests to say.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import urlsplit

_CHUNK = 1 << 14
_HEAD_END = b"\r\n\r\n"
_LONGEST_DELAY = 0.2
UPLOAD = "upload"
DOWNLOAD = "download"
BUNDLE = "bundle"
SUBSCRIPTION = "subscription"


class Fault(Enum):
    """What can happen to a request and its answer, in the order of an exchange."""

    REFUSED = auto()
    """The connection ends at the first byte of the request."""
    IN_REQUEST_HEAD = auto()
    AFTER_REQUEST_HEAD = auto()
    IN_REQUEST_BODY = auto()
    AFTER_REQUEST = auto()
    """The service got all of it, and may or may not carry it out: its answer is not waited for."""
    BEFORE_ANSWER = auto()
    """The service carried it out and answered, and not a byte of the answer comes through."""
    IN_ANSWER_HEAD = auto()
    AFTER_ANSWER_HEAD = auto()
    IN_ANSWER_BODY = auto()
    AFTER_ANSWER = auto()
    """The answer comes through, and the connection that the client would reuse is gone."""
    SILENCE = auto()
    """The service carried it out; nothing comes through, and the connection stays."""
    SILENCE_IN_ANSWER = auto()
    """Half of the answer comes through, and the connection stays."""
    DELAY = auto()
    """All of it comes, later."""
    RANDOM_BYTES = auto()
    BROKEN_HEAD = auto()
    """A status line, and then no header."""
    TRUNCATED_JSON = auto()
    """Half of the answer, as if that were all of it."""
    LENGTH_TOO_SHORT = auto()
    """The answer is longer than it says: the rest stays on the connection."""
    LENGTH_TOO_LONG = auto()
    CHUNKED_CUT = auto()
    """The answer comes in chunks, and the last ones never."""
    EMPTY = auto()
    """Bytes that are not HTTP, or mean nothing."""
    PAGE = auto()
    """Some other program's web page instead of the answer."""
    BAD_GATEWAY = auto()


CUTS = tuple(fault for fault in Fault if fault.value < Fault.AFTER_ANSWER.value)
SILENT = (Fault.SILENCE, Fault.SILENCE_IN_ANSWER)
"""They last until the client gives up waiting."""
UNHEARD = tuple(fault for fault in Fault if fault.value < Fault.AFTER_REQUEST.value)
"""The service never gets the request as a whole."""


@dataclass(frozen=True)
class Exchange:
    """A request as the proxy saw it."""

    operation: str
    """The name of the GraphQL operation, ``upload``, ``download``, ``bundle`` or ``subscription``."""
    number: int
    """Which request of that operation it is, from 0; every try counts."""


Plan = Callable[[Exchange], "Fault | None"]


def once(operation: str, fault: Fault, count: int = 1) -> Plan:
    """Spoil the first requests of one operation."""
    return lambda exchange: fault if exchange.operation == operation and exchange.number < count else None


def at_random(seed: int, rate: float, faults: tuple[Fault, ...]) -> Plan:
    """Spoil requests at a rate; which ones and how depends on the seed, the operation and its number alone."""

    def plan(exchange: Exchange) -> Fault | None:
        draw = random.Random(f"{seed} {exchange.operation} {exchange.number}")
        return draw.choice(faults) if draw.random() < rate else None

    return plan


class Hold:
    """A request that is stopped on its way, until the test lets it go on."""

    def __init__(self, operation: str, place: Fault) -> None:
        self.operation = operation
        self.place = place
        self.reached = threading.Event()
        self.released = threading.Event()
        self.done = threading.Event()
        """Set once it has gone as far as it may."""


@dataclass
class _Message:
    """One HTTP message: its first line and headers as they came, and its body as far as it was read."""

    head: bytes
    body: bytes = b""
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", 0))

    @property
    def is_upgrade(self) -> bool:
        return "upgrade" in self.headers


class Proxy:
    """Listens on a port of its own, on a thread of its own, for as long as the `with` lasts.

    Parameters
    ----------
    service_url
        Where the requests go.
    plan
        Decides what happens to each request; may be replaced at any time.
    """

    def __init__(self, service_url: str, plan: Plan | None = None) -> None:
        parts = urlsplit(service_url)
        self._service = (str(parts.hostname), int(parts.port or 0))
        self.plan: Plan = plan or (lambda _: None)
        self.upgrades: int | None = None
        """The status with which upgrades to a WebSocket are refused; 0 to hang up; None to carry them."""
        self.url = ""
        self.exchanges: list[tuple[Exchange, Fault | None]] = []
        """Every request, and what happened to it."""
        self.unexpected: list[BaseException] = []
        """What went wrong with the proxy itself."""
        self._counts: dict[str, itertools.count[int]] = {}
        self._holds: list[Hold] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen(started)), name="fault-proxy")
        self._thread.start()
        assert started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self._holds:
            hold.released.set()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        assert not self.unexpected, self.unexpected

    def hold(self, operation: str, place: Fault) -> Hold:
        """Stop the next request of an operation at a place, one of `CUTS`: what comes before it passes."""
        self._holds.append(Hold(operation, place))
        return self._holds[-1]

    def cut(self) -> None:
        """End all connections that there are."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    def faults(self) -> list[Fault]:
        """What has happened so far."""
        return [fault for _, fault in self.exchanges if fault is not None]

    async def _listen(self, started: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._carry_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the service has gone, or the test is over
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.unexpected.append(error)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _carry_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry a request there and its answer back; return whether the connection may be used again."""
        request = _Message(await reader.readuntil(_HEAD_END))
        if request.is_upgrade:
            exchange = self._exchange(SUBSCRIPTION)
        elif request.head.startswith(b"PUT"):
            exchange = self._exchange(UPLOAD)
        elif request.head.startswith(b"GET /artifacts/"):
            exchange = self._exchange(DOWNLOAD)
        elif request.head.startswith(b"POST /bundles/"):
            exchange = self._exchange(BUNDLE)
        else:
            request.body = await reader.readexactly(request.length)
            exchange = self._exchange(json.loads(request.body).get("operationName") or "")
        fault = self.plan(exchange)
        self.exchanges.append((exchange, fault))
        if request.is_upgrade and self.upgrades is not None:
            if self.upgrades:
                writer.write(_written(b"<h1>No</h1>", f"{self.upgrades} No", "Content-Type: text/html"))
                await writer.drain()
            return False
        if fault in CUTS and exchange.number % 2:
            _reset_at_close(writer)
        hold = next((hold for hold in self._holds if hold.operation == exchange.operation), None)
        if hold is not None:
            self._holds.remove(hold)
        try:
            return await self._carry(request, reader, writer, fault, hold)
        finally:
            if hold is not None:
                hold.done.set()

    async def _carry(
        self,
        request: _Message,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fault: Fault | None,
        hold: Hold | None,
    ) -> bool:
        if fault is Fault.REFUSED:
            return False
        if hold is not None and hold.place is Fault.REFUSED:
            await self._stop(hold)
        from_service, to_service = await asyncio.open_connection(*self._service, limit=1 << 20)
        try:
            if not await self._carry_there(request, reader, to_service, fault, hold):
                return False
            if request.is_upgrade:
                return await self._carry_websocket(reader, writer, from_service, to_service, fault)
            if hold is not None and hold.place is Fault.AFTER_REQUEST:
                await self._stop(hold)
            answer = await _answer(from_service)
            if hold is not None:
                await self._carry_back_slowly(answer, writer, hold)
                return True
            return await _carry_back(answer, reader, writer, fault)
        finally:
            to_service.close()

    def _exchange(self, operation: str) -> Exchange:
        return Exchange(operation, next(self._counts.setdefault(operation, itertools.count())))

    async def _carry_there(
        self,
        request: _Message,
        reader: asyncio.StreamReader,
        to_service: asyncio.StreamWriter,
        fault: Fault | None,
        hold: Hold | None,
    ) -> bool:
        """Carry a request to the service, as far as that goes; return whether it got there as a whole."""
        place = fault or (hold.place if hold is not None else None)
        if place is Fault.IN_REQUEST_HEAD:
            to_service.write(request.head[: len(request.head) // 2])
            if fault is not None:
                await to_service.drain()
                return False
            assert hold is not None
            await self._stop(hold)
            to_service.write(request.head[len(request.head) // 2 :])
        else:
            to_service.write(request.head)
        if place is Fault.AFTER_REQUEST_HEAD and not await self._goes_on(fault, hold):
            return False
        half, carried = request.length // 2, 0
        while carried < request.length:
            most = (half if carried < half else request.length) - carried
            part = request.body[carried : carried + most] or await reader.readexactly(min(most, _CHUNK))
            to_service.write(part)
            await to_service.drain()
            carried += len(part)
            if carried == half and place is Fault.IN_REQUEST_BODY and not await self._goes_on(fault, hold):
                return False
        return fault is not Fault.AFTER_REQUEST

    async def _goes_on(self, fault: Fault | None, hold: Hold | None) -> bool:
        if fault is None and hold is not None:
            await self._stop(hold)
        return fault is None

    async def _stop(self, hold: Hold) -> None:
        hold.reached.set()
        while not hold.released.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)

    async def _carry_back_slowly(self, answer: _Message, writer: asyncio.StreamWriter, hold: Hold) -> None:
        text = answer.head + answer.body
        cut = {
            Fault.BEFORE_ANSWER: 0,
            Fault.IN_ANSWER_HEAD: len(answer.head) // 2,
            Fault.AFTER_ANSWER_HEAD: len(answer.head),
            Fault.IN_ANSWER_BODY: len(answer.head) + len(answer.body) // 2,
        }.get(hold.place)
        if cut is not None:
            writer.write(text[:cut])
            await writer.drain()
            await self._stop(hold)
            text = text[cut:]
        writer.write(text)
        await writer.drain()

    async def _carry_websocket(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_service: asyncio.StreamReader,
        to_service: asyncio.StreamWriter,
        fault: Fault | None,
    ) -> bool:
        """Carry whatever comes, both ways; with a fault, only the first few hundred bytes of what the service says."""
        passes = {None: None, Fault.BEFORE_ANSWER: 0, Fault.IN_ANSWER_HEAD: 40}.get(fault, 400)
        there = asyncio.ensure_future(_pipe(reader, to_service, None))
        back = asyncio.ensure_future(_pipe(from_service, writer, passes))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in (there, back):
                pipe.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
        return False


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: int | None) -> None:
    """Carry bytes: all, or that many."""
    with suppress(ConnectionError):
        while passes is None or passes > 0:
            part = await reader.read(_CHUNK if passes is None else passes)
            if not part:
                return
            passes = None if passes is None else passes - len(part)
            writer.write(part)
            await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> _Message:
    answer = _Message(await reader.readuntil(_HEAD_END))
    if "transfer-encoding" not in answer.headers:
        answer.body = await reader.readexactly(answer.length)
        return answer
    # An archive that is made while it is sent: here it is carried as a whole, which says how long it is.
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    lines = [line for line in answer.head.split(b"\r\n") if not line.lower().startswith(b"transfer-encoding")]
    whole = _Message(b"\r\n".join([*lines[:-2], b"Content-Length: %d" % len(body), b"", b""]))
    whole.body = body
    return whole


async def _carry_back(
    answer: _Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None
) -> bool:
    """Send the client the answer, or what the fault makes of it; return whether the connection may be used again."""
    head, body = answer.head, answer.body
    half = body[: len(body) // 2]
    content_type = "Content-Type: " + answer.headers.get("content-type", "application/json")
    ok = b"HTTP/1.1 200 OK"
    garbage = random.Random(len(head) + len(body)).randbytes(600)
    text = (
        {
            Fault.BEFORE_ANSWER: b"",
            Fault.SILENCE: b"",
            Fault.IN_ANSWER_HEAD: head[: len(head) // 2],
            Fault.AFTER_ANSWER_HEAD: head,
            Fault.IN_ANSWER_BODY: head + half,
            Fault.SILENCE_IN_ANSWER: head + half if body else head[: len(head) // 2],
            Fault.RANDOM_BYTES: garbage,
            Fault.BROKEN_HEAD: ok + b"\r\n" + garbage,
            Fault.TRUNCATED_JSON: _written(half, "200 OK", content_type),
            Fault.LENGTH_TOO_SHORT: _written(body, "200 OK", content_type, length=len(half)),
            Fault.LENGTH_TOO_LONG: _written(body, "200 OK", content_type, length=len(body) + 10),
            Fault.CHUNKED_CUT: b"\r\n".join(
                [
                    ok,
                    content_type.encode(),
                    b"Transfer-Encoding: chunked",
                    b"",
                    b"%x" % max(len(half), 1),
                    half or b"{",
                    b"f",
                ]
            ),
            Fault.EMPTY: _written(b"", "200 OK", content_type),
            Fault.PAGE: _written(b"<!doctype html><title>Sign in</title>", "200 OK", "Content-Type: text/html"),
            Fault.BAD_GATEWAY: _written(b"<h1>Bad Gateway</h1>", "502 Bad Gateway", "Content-Type: text/html"),
        }.get(fault, head + body)
        if fault is not None
        else head + body
    )
    if fault is Fault.DELAY:
        await asyncio.sleep(random.Random(len(text)).uniform(0, _LONGEST_DELAY))
    writer.write(text)
    await writer.drain()
    if fault in SILENT:
        assert not await reader.read(1), "the client was to wait"
    return fault in (None, Fault.DELAY, Fault.LENGTH_TOO_SHORT, Fault.EMPTY, Fault.PAGE, Fault.TRUNCATED_JSON)


def _written(body: bytes, status: str, content_type: str, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\n{content_type}\r\nContent-Length: {length}\r\n\r\n".encode() + body


def _reset_at_close(writer: asyncio.StreamWriter) -> None:
    """Let a connection end with a reset, as on a machine that no longer knows of it."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
