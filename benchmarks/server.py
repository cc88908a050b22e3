"""The speed of the service: small queries and whole pages, beside the same server with constant answers, and stalls."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import grid
from benchmarks.report import beside, line, milliseconds
from grid.session import session as sessions
from tests.support.projects import make_project
from tests.support.services import ServiceProcess, service_process

_CONSTANT = """
import asyncio, pathlib, socket, sys, uvicorn

ANSWER = pathlib.Path(sys.argv[2]).read_bytes()

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
    with service_process(folder) as service:
        answer = json.dumps({"data": {"viewer": {"username": service.username}}}).encode()
        body = json.dumps({"query": "{ viewer { username } }"}).encode()
        load = _Load(service, body, clients, seconds)
        with _constant(folder, answer) as port:
            measured = beside(load.rate, lambda: load.rate(port), pairs)
    line(
        f"small query, {clients} clients",
        f"{measured.our_median:,.0f} /s p99 {load.p99(load.port):.0f} ms",
        f"a constant {measured.their_median:,.0f} /s p99 {load.p99(port):.0f} ms",
        measured,
        "none: the more the better",
    )


def pages(folder: Path, experiments: int = 1_000, clients: int = 4, seconds: float = 3.0, pairs: int = 5) -> None:
    """Measure pages of 1,000 experiments with all that the client asks for, from a few clients at once."""
    script = make_project(folder / "project", "print()")
    with service_process(folder) as service:
        session = service.session()
        sessions.use(session)
        grid.pause_cluster("local")
        run = grid.Run(entrypoint=str(script), script_args=f"--n 'range({experiments})' --lr 0.1", cpus=1)
        run.start()
        query = session.registry.get("GetExperiments")
        variables = {"run": run.name, "first": experiments}
        body = json.dumps({"query": query.text, "operationName": query.name, "variables": variables}).encode()
        load = _Load(service, body, clients, seconds)
        page = asyncio.run(_one(load.port, load.request))
        assert len(json.loads(page)["data"]["run"]["experiments"]["nodes"]) == experiments
        process = psutil.Process(service.process.pid)
        spent: list[float] = []

        def rate() -> float:
            before = sum(process.cpu_times()[:2])
            measured = load.rate()
            # Each client also asks once before the time that is measured.
            spent.append((sum(process.cpu_times()[:2]) - before) / (measured * seconds + clients))
            return measured

        with _constant(folder, page) as port:
            measured = beside(rate, lambda: load.rate(port), pairs)
    line(
        f"page of {experiments:,} experiments, {clients} clients",
        f"{measured.our_median:,.0f} /s CPU {statistics.median(spent) * 1e3:.1f} ms",
        f"a constant {measured.their_median:,.0f} /s p99 {load.p99(port):.0f} ms",
        measured,
        "100 /s",
    )


def stalls(folder: Path, experiments: int = 10_000, pairs: int = 5) -> None:
    """Measure the slowest of many small answers while a run of 10,000 experiments is started, and while none is."""
    script = make_project(folder / "project", "print()")
    with service_process(folder) as service:
        sessions.use(service.session())
        grid.pause_cluster("local")
        body = json.dumps({"query": "{ viewer { username } }"}).encode()
        load = _Load(service, body, 1, 0)

        def start() -> None:
            grid.Run(entrypoint=str(script), script_args=f"--n 'range({experiments})' --lr 0.1", cpus=1).start()

        begun = time.perf_counter()
        start()
        lasts = time.perf_counter() - begun
        measured = beside(lambda: _slowest(load, start), lambda: _slowest(load, lambda: time.sleep(lasts)), pairs)
    line(
        f"slowest answer during a start of {experiments:,}",
        milliseconds(measured.our_median),
        f"without a start {milliseconds(measured.their_median)}",
        measured,
        "none: the less the better",
    )


def _slowest(load: _Load, action: Callable[[], None]) -> float:
    """Return the longest that a small answer took while something was done on another thread."""

    async def ask() -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
        await _ask(reader, writer, load.request)
        doing = asyncio.ensure_future(asyncio.to_thread(action))
        slowest = 0.0
        while not doing.done():
            begun = time.perf_counter()
            await _ask(reader, writer, load.request)
            slowest = max(slowest, time.perf_counter() - begun)
        await doing
        writer.close()
        return slowest

    return asyncio.run(ask())


@contextmanager
def _constant(folder: Path, answer: bytes) -> Iterator[int]:
    """Run the service's server with an application that always answers the same; yield its port."""
    (folder / "answer").write_bytes(answer)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = listening.fileno()
        command = [sys.executable, "-c", _CONSTANT, str(descriptor), str(folder / "answer")]
        constant = subprocess.Popen(command, pass_fds=[descriptor])
        try:
            yield listening.getsockname()[1]
        finally:
            constant.terminate()
            constant.wait()


class _Load:
    """The same request from many clients at once, each asking again as soon as it has an answer."""

    def __init__(self, service: ServiceProcess, body: bytes, clients: int, seconds: float) -> None:
        self.port = int(service.endpoint.url.rpartition(":")[2])
        self.request = _request(self.port, body, service.endpoint.authorization)
        self._clients = clients
        self._seconds = seconds
        self._slowest: dict[int, list[float]] = {}

    def rate(self, port: int | None = None) -> float:
        """Return how many requests a second are answered at a port, the service's if none is given."""
        times = asyncio.run(_load(port or self.port, self.request, self._clients, self._seconds))
        self._slowest.setdefault(port or self.port, []).append(sorted(times)[int(len(times) * 0.99)])
        return len(times) / self._seconds

    def p99(self, port: int) -> float:
        """Return how many milliseconds all but a hundredth of the answers took at most."""
        return statistics.median(self._slowest[port]) * 1e3


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


async def _one(port: int, request: bytes) -> bytes:
    """Return the body of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = await _ask(reader, writer, request)
    writer.close()
    return body


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    headers = await reader.readuntil(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 200"), headers
    length = int(headers.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    return await reader.readexactly(length)
