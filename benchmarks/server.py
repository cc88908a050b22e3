"""The service's own speed: small queries from many clients, beside the same server answering a constant."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import line
from tests.support.services import service_process

_CLIENTS = 50
_SECONDS = 4.0

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


def requests(folder: Path) -> None:
    """`{ viewer { username } }` from 50 clients at once, each asking again as soon as it is answered."""
    body = json.dumps({"query": "{ viewer { username } }"}).encode()
    with service_process(folder) as service:
        host, port = service.endpoint.url.removeprefix("http://").split(":")
        answer = json.dumps({"data": {"viewer": {"username": service.username}}})
        rate, p99 = asyncio.run(_load(host, int(port), body, service.endpoint.authorization))
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = listening.fileno()
        command = [sys.executable, "-c", _CONSTANT, str(descriptor), answer]
        constant = subprocess.Popen(command, pass_fds=[descriptor])
        try:
            most, least = asyncio.run(_load("127.0.0.1", listening.getsockname()[1], body, "none"))
        finally:
            constant.terminate()
            constant.wait()
    line(
        f"small query, {_CLIENTS} clients",
        f"{rate:,.0f} /s p99 {p99 * 1e3:.0f} ms",
        f"a constant {most:,.0f} /s p99 {least * 1e3:.0f} ms",
        rate / most,
        "none: the more the better",
    )


async def _load(host: str, port: int, body: bytes, authorization: str) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of their times in seconds."""
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    times: list[float] = []
    measuring = asyncio.Event()
    end = time.perf_counter() + _SECONDS + 1

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while (begun := time.perf_counter()) < end:
            writer.write(request)
            headers = await reader.readuntil(b"\r\n\r\n")
            assert headers.startswith(b"HTTP/1.1 200"), headers
            length = int(headers.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            if measuring.is_set():
                times.append(time.perf_counter() - begun)
        writer.close()

    async def warm_up() -> None:
        await asyncio.sleep(1)
        measuring.set()

    await asyncio.gather(warm_up(), *(client() for _ in range(_CLIENTS)))
    times.sort()
    return len(times) / _SECONDS, times[int(len(times) * 0.99)]
