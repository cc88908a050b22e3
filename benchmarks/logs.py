"""Logs: what a service costs that has nothing to do, how fast many lines are read, and how soon a line is told."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import grid
from benchmarks.report import beside, line, timed
from grid.session import session as sessions
from tests.support.logs import following
from tests.support.projects import make_project
from tests.support.requests import ask
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run

_LINE = "epoch 3 step {} loss 0.3127 accuracy 0.912"

_PRINTS = f"""\
import sys
for number in range(int(sys.argv[1])):
    print({_LINE!r}.format(number))
"""
# The time at which it is printed is the line.
_TICKS = """\
import sys, time
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    print(time.time(), flush=True)
    time.sleep(float(sys.argv[2]))
"""

_PAGE = """\
query($id: ID!, $number: Int!) { experiment(id: $id) { log(number: $number) {
    number count text times { number at isApproximate } isEnd
} } }
"""


def idle(folder: Path, seconds: float = 30.0) -> None:
    """Measure the CPU of a service with nothing to do, beside a process that sleeps."""
    with service_process(folder, is_fresh=True) as service:
        sessions.use(service.session())
        # One that has had something to do, so that everything is there that may go on.
        run = grid.Run(entrypoint=str(make_project(folder / "project", _PRINTS)), script_args="1", cpus=1)
        run.start()
        wait_for_run(run)
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        try:
            time.sleep(min(seconds, 2))
            processes = [psutil.Process(service.process.pid), psutil.Process(sleeper.pid)]
            begun, before = time.perf_counter(), [_cpu(each) for each in processes]
            time.sleep(seconds)
            passed = time.perf_counter() - begun
            ours, theirs = ((_cpu(each) - was) / passed for each, was in zip(processes, before, strict=True))
        finally:
            sleeper.kill()
            sleeper.wait()
    line(
        "service with nothing to do",
        f"{ours * 100:.3f} % of a core",
        f"sleep {theirs * 100:.3f} % of a core",
        None,
        "0.1 %",
    )


def reading(folder: Path, lines: int = 1_000_000, pairs: int = 3) -> None:
    """Measure reading a log back page by page, beside reading the file; and the memory that the service takes."""
    with service_process(folder, is_fresh=True) as service:
        sessions.use(service.session())
        run = grid.Run(entrypoint=str(make_project(folder / "project", _PRINTS)), script_args=str(lines), cpus=1)
        run.start()
        wait_for_run(run)
        (experiment,) = run
        output = service.home / "experiments" / experiment.id / "attempt-1" / "output"
        process = psutil.Process(service.process.pid)
        ask(service.endpoint, _PAGE, id=experiment.id, number=1)
        with _highest(process) as highest:
            measured = beside(
                timed(lambda: _read_back(service, experiment.id, lines)),
                timed(lambda: _read_file(output, lines)),
                pairs,
            )
    rate, theirs = lines / measured.our_median, lines / measured.their_median
    line(
        f"{lines:,} lines read back",
        f"{rate:,.0f} lines/s",
        f"from the file {theirs:,.0f} lines/s",
        measured,
        "100,000",
    )
    grown = (highest[1] - highest[0]) / 1e6
    line("memory of the service meanwhile", f"{grown:+.1f} MB", f"before {highest[0] / 1e6:.1f} MB", None, "+50 MB")


def telling(folder: Path, experiments: int = 20, seconds: float = 20.0, every: float = 0.25) -> None:
    """Measure how long it takes from `print` to the subscription, beside a process that reads the same from a pipe."""
    script = make_project(folder / "project", _TICKS)
    with service_process(folder, "--cpus", str(experiments), is_fresh=True) as service:
        sessions.use(service.session())
        arguments = f"{seconds} {every} --n 'range({experiments})'"
        run = grid.Run(entrypoint=str(script), script_args=arguments, cpus=1)
        process = psutil.Process(service.process.pid)
        run.start()
        took: list[float] = []
        with following(service.endpoint, run.id) as pages:
            begun, before = time.perf_counter(), _cpu(process)
            for page in pages:
                now = time.time()
                took += [now - float(each) for each in page["text"].split()]
            used = (_cpu(process) - before) / (time.perf_counter() - begun)
    piped = _piped(script, min(seconds, 5.0), every)
    baseline = f"through a pipe {statistics.median(piped) * 1e3:.1f} ms p99 {_p99(piped) * 1e3:.1f} ms"
    what = f"from print to subscription, {experiments} printing"
    figure = f"{statistics.median(took) * 1e3:.1f} ms p99 {_p99(took) * 1e3:.0f} ms"
    line(what, figure, baseline, None, "100 ms, p99 500 ms")
    line(
        "CPU of the service meanwhile",
        f"{used * 100:.1f} % of a core",
        f"for {len(took):,} lines told",
        None,
        "none: the less the better",
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _read_back(service: ServiceProcess, experiment_id: str, lines: int) -> None:
    number = 1
    while True:
        page = ask(service.endpoint, _PAGE, id=experiment_id, number=number)["data"]["experiment"]["log"]
        assert page["text"].count("\n") == page["count"] > 0
        number += page["count"]
        if page["isEnd"]:
            break
    assert number == lines + 1


def _read_file(output: Path, lines: int) -> None:
    with output.open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == lines


@contextmanager
def _highest(process: psutil.Process) -> Iterator[list[float]]:
    """Yield a list that has how much memory a process has at first, and afterwards the most that it had."""
    found = [process.memory_info().rss]
    over = threading.Event()
    seen = [found[0]]

    def watch() -> None:
        while not over.wait(0.01):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        found.append(max(seen))


def _piped(script: Path, seconds: float, every: float) -> list[float]:
    command = [sys.executable, str(script), str(seconds), str(every)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return [time.time() - float(each) for each in process.stdout]


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
