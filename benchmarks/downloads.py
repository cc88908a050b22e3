"""What it takes to get files from a service: a large one beside `cp`, and many small ones."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.report import beside, line, timed
from grid.experiment import Experiment
from grid.session import session as sessions
from tests.support.experiments import only, starter, work_of
from tests.support.services import service_process
from tests.support.waiting import wait_for_run

_SCRIPT = """
import os, sys
megabytes, files = int(sys.argv[2]), int(sys.argv[4])
block = os.urandom(1 << 20)
with open("large.bin", "wb") as file:
    for _ in range(megabytes):
        file.write(block)
for number in range(files):
    os.makedirs(f"small/{number // 1000}", exist_ok=True)
    with open(f"small/{number // 1000}/{number}", "wb") as file:
        file.write(block[number:number + 1024])
"""
_MB = 1e6
_LOOK = 0.02  # seconds between two looks at how much memory a process has


def artifacts(folder: Path, megabytes: int = 2_048, files: int = 10_000, pairs: int = 3) -> None:
    """Measure `download_artifacts` of one large file beside `cp`, its memory, and that of many small files."""
    with service_process(folder) as service:
        sessions.use(service.session())
        run = starter(folder)(_SCRIPT, f"--megabytes {megabytes} --files {files}")
        wait_for_run(run, 600)
        experiment = only(run)
        here, there = psutil.Process(), psutil.Process(service.process.pid)
        work = work_of(service, experiment)

        def copy(name: str) -> None:
            subprocess.run(["cp", "-r", "--reflink=never", str(work / name), str(folder / "copy")], check=True)

        def measure(match: str, name: str) -> None:
            ours = timed(lambda: _download(experiment, folder / "out", match))
            theirs = timed(lambda: copy(name))

            def clean(measured: object) -> object:
                shutil.rmtree(folder / "out", ignore_errors=True)
                subprocess.run(["rm", "-rf", str(folder / "copy")], check=True)
                return measured

            with _peaks(here, there) as grown:
                pairs_of_both = beside(lambda: clean(ours()), lambda: clean(theirs()), pairs)
            seconds, beside_it = pairs_of_both.our_median, pairs_of_both.their_median
            if match == "large":
                line(
                    f"downloading a file of {megabytes:,} MiB",
                    f"{megabytes * (1 << 20) / _MB / seconds:,.0f} MB/s",
                    f"cp {megabytes * (1 << 20) / _MB / beside_it:,.0f} MB/s",
                    pairs_of_both,
                    "2 x",
                )
                line(
                    "memory for that, the client's",
                    f"+{grown[0]:.0f} MB",
                    f"the service's {grown[1]:.0f} MB",
                    None,
                    "50 MB",
                )
            else:
                line(
                    f"downloading {files:,} files of 1 KiB",
                    f"{seconds:.2f} s",
                    f"cp -r {beside_it:.2f} s",
                    pairs_of_both,
                    "5 s",
                )

        _download(experiment, folder / "warm", "small/0/0$")  # what is imported once
        measure("large", "large.bin")
        measure("small", "small")


def _download(experiment: Experiment, folder: Path, match: str) -> None:
    assert experiment.download_artifacts(folder, match=match, progress=False)


@contextmanager
def _peaks(*processes: psutil.Process) -> Iterator[list[float]]:
    """Yield a list that afterwards has how many megabytes each process has grown by at most."""
    before = [process.memory_info().rss for process in processes]
    most, over = list(before), threading.Event()
    grown: list[float] = []

    def look() -> None:
        while not over.wait(_LOOK):
            most[:] = [max(peak, process.memory_info().rss) for peak, process in zip(most, processes, strict=True)]

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield grown
    finally:
        over.set()
        looking.join()
        grown.extend((peak - start) / _MB for peak, start in zip(most, before, strict=True))
