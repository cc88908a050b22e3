"""The speed of the service: small queries from many clients, beside the same server with a constant answer."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import beside, line
from tests.support.services import service_process

_CONSTANT = """
import asyncio, socket, sys, uvicorn

ANSWER = sys.argv[2].encode()

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})

listening = socket.socket(fileno=int(sys.argv[1]))
config = uvicorn.Config(app, access_log=False, log_config=None, lifespan="off", server_header=False)
asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
"""


def requests(folder: Path, clients: int = 50, seconds: float = 2.0, pairs: int = 5) -> None:
    """Measure `{ viewer { username } }` from 50 clients at once, each asking again as soon as it has an answer."""
    body = json.dumps({"query": "{ viewer { username } }"}).encode()
    slowest: dict[int, list[float]] = {}

    def rate(port: int, authorization: str) -> float:
        times = asyncio.run(_load(port, _request(port, body, authorization), clients, seconds))
        slowest.setdefault(port, []).append(sorted(times)[int(len(times) * 0.99)])
        return len(times) / seconds

    with service_process(folder) as service, socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = listening.fileno()
        ours, theirs = int(service.endpoint.url.rpartition(":")[2]), listening.getsockname()[1]
        answer = json.dumps({"data": {"viewer": {"username": service.username}}})
        command = [sys.executable, "-c", _CONSTANT, str(descriptor), answer]
        constant = subprocess.Popen(command, pass_fds=[descriptor])
        try:
            authorization = service.endpoint.authorization
            measured = beside(lambda: rate(ours, authorization), lambda: rate(theirs, "none"), pairs)
        finally:
            constant.terminate()
            constant.wait()
    p99 = {port: statistics.median(times) * 1e3 for port, times in slowest.items()}
    line(
        f"small query, {clients} clients",
        f"{measured.our_median:,.0f} /s p99 {p99[ours]:.0f} ms",
        f"a constant {measured.their_median:,.0f} /s p99 {p99[theirs]:.0f} ms",
        measured,
        "none: the more the better",
    )


def _request(port: int, body: bytes, authorization: str) -> bytes:
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """Return how long each request took within the given time; each client asks once before, to warm up."""
    times: list[float] = []
    warm = asyncio.Barrier(clients)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await _ask(reader, writer, request)
        await warm.wait()
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            await _ask(reader, writer, request)
            times.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return times


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    headers = await reader.readuntil(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 200"), headers
    length = int(headers.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
