"""A raw HTTP server whose every answer the test writes, and a client that asks it: for the tests of the transport."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grid import errors
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "a-secret-key"
QUICK = {"first_wait": 0.001, "max_wait": 0.002}


@dataclass(frozen=True)
class Query:
    """An operation as the registry gives it."""

    name: str = "getRun"
    text: str = "query getRun { run }"


@dataclass
class Heard:
    """A request as it reached the server."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A raw HTTP server on a thread.

    `answers` are functions of a request, the last one repeated. Bytes are written as they are; `None` cuts the line.
    """

    answers: list[Callable[[Heard], Any]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    url: str = ""
    connections: int = 0
    # Nothing else refers to a task that hangs: the garbage collector would take it while it is pending.
    tasks: set[Any] = field(default_factory=set)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def __enter__(self) -> Server:
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.listen(started)))
        self.thread.start()
        assert started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()

    async def listen(self, started: threading.Event) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self.over.wait()
        server.close()
        for task in self.tasks:  # what still hangs
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        # One that was closed while nobody read what was written waits for that for ever.
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # the sockets are closed one turn of the loop later

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        self.writers.append(writer)
        connection = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                pairs = [line.partition(": ") for line in head[1:] if line]
                headers = {name.lower(): value for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                heard = Heard(connection, method, path, headers, body)
                self.heard.append(heard)
                answer = self.answers[min(len(self.heard), len(self.answers)) - 1](heard)
                answer = await answer if inspect.isawaitable(answer) else answer
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer:
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            writer.close()


def reply(body: bytes | str | object, status: int = 200, content_type: str = "application/json", more: str = "") -> Any:
    """Return an answer for `Server.answers`."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    body = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return lambda _: head.encode() + body


def fault(code: str | None, message: str = "it is wrong", status: int = 200) -> Any:
    """Return an answer that is a GraphQL error."""
    extensions = {} if code is None else {"extensions": {"code": code}}
    return reply({"data": None, "errors": [{"message": message, **extensions}]}, status)


async def hang(_: Heard) -> None:
    """Never answer."""
    await asyncio.Event().wait()


GOOD = reply({"data": {"run": 1}})


def ask(url: str, variables: dict[str, Any] | None = None, *, times: int = 1, **policy: Any) -> tuple[Any, Transport]:
    """Execute a query on a loop of its own; return the last answer, or the error, and the transport."""

    async def main() -> tuple[Any, Transport]:
        transport = Transport(Endpoint(url, "ada", KEY), RetryPolicy(**{**QUICK, **policy}))
        answer: Any = None
        try:
            for _ in range(times):
                answer = await transport.execute(Query(), variables or {})
        except errors.GridError as error:
            answer = error
        finally:
            await transport.close()
        return answer, transport

    return asyncio.run(main())


def refusal(url: str, **policy: Any) -> errors.GridError:
    """Return the error of a query, which shows no secret."""
    error, _ = ask(url, **policy)
    assert isinstance(error, errors.GridError)
    assert KEY not in str(error)
    assert base64.b64encode(f"ada:{KEY}".encode()).decode() not in str(error)
    return error
