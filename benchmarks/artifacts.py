"""Artifacts over plain HTTP, without Grid's client: one large file, and many small ones as one archive."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.report import beside, line, timed
from grid.session import session as sessions
from tests.support.artifacts import bundle_path, download_path
from tests.support.experiments import only, starter, work_of
from tests.support.raw_http import address_of
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run

_MAKE = """
import os
with open('large', 'wb') as file:
    for _ in range({mebibytes}): file.write(os.urandom(1 << 20))
os.mkdir('small')
for number in range({files}):
    with open(f'small/{{number}}', 'wb') as file: file.write(os.urandom(1000))
"""
_BLOCK = 1 << 20


def sent(folder: Path, mebibytes: int = 2_048, files: int = 10_000, pairs: int = 5) -> None:
    """Measure how long files take into another file by way of the service, beside copying them."""
    with service_process(folder) as service:
        sessions.use(service.session())
        run = starter(folder)(_MAKE.format(mebibytes=mebibytes, files=files))
        wait_for_run(run, seconds=600)
        experiment, target = only(run), folder / "target"
        work = work_of(service, experiment)
        path = download_path(service.endpoint, experiment.id, "large", wait=0)
        with _memory(service) as grown:
            large = beside(
                timed(lambda: _fetch(service, "GET", path, target)),
                timed(lambda: shutil.copyfile(work / "large", target)),
                pairs,
            )
        assert target.stat().st_size == mebibytes << 20
        where = bundle_path(service.endpoint, experiment.id)
        names = json.dumps([f"small/{number}" for number in range(files)]).encode()
        small = beside(
            timed(lambda: _fetch(service, "POST", where, target, names)),
            timed(lambda: _copy_tree(work / "small", folder / "copies")),
            pairs,
        )
    line(
        f"an artifact of {mebibytes:,} MiB, by the service",
        f"{large.our_median:.2f} s",
        f"copying it {large.their_median:.2f} s",
        large,
        "2.00 x",
    )
    line("memory that the service takes more for it", f"{grown[0]:.0f} MB", "before it 0 MB", None, "50 MB")
    line(
        f"{files:,} files of 1 KB as one archive",
        f"{small.our_median:.2f} s",
        f"copying them {small.their_median:.2f} s",
        small,
        "5 s",
    )


def _fetch(service: ServiceProcess, method: str, path: str, target: Path, body: bytes | None = None) -> None:
    connection = http.client.HTTPConnection(*address_of(service), timeout=600)
    connection.request(method, path, body)
    answer = connection.getresponse()
    assert answer.status == http.HTTPStatus.OK
    buffer = memoryview(bytearray(_BLOCK))
    with target.open("wb", buffering=0) as file:
        while number := answer.readinto(buffer):
            file.write(buffer[:number])
    connection.close()


def _copy_tree(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


@contextmanager
def _memory(service: ServiceProcess) -> Iterator[list[float]]:
    """Yield a list that afterwards holds by how many megabytes the service has grown at most."""
    process, is_over, grown = psutil.Process(service.process.pid), threading.Event(), [0.0]
    before = process.memory_info().rss

    def watch() -> None:
        while not is_over.is_set():
            grown[0] = max(grown[0], (process.memory_info().rss - before) / 1e6)
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield grown
    finally:
        is_over.set()
        thread.join()
