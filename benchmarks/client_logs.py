"""Logs: from a script's `print` to the iterator of whoever follows it, and reading a long one back."""

from __future__ import annotations

import re
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import grid
from benchmarks.report import beside, line, timed
from grid.session import session as sessions
from tests.support.experiments import only
from tests.support.projects import make_project
from tests.support.services import service_process
from tests.support.waiting import wait_for_run, wait_until

# The clock is that of the machine, the same in every process.
_TICKS = """
import sys, time

for _ in range(int(sys.argv[2])):
    print("tick", time.monotonic_ns(), flush=True)
    time.sleep(0.1)
"""
_MANY = (
    'import sys\nsys.stdout.write("".join(f"step {n}: loss {1 / n:.6f}\\n" for n in range(1, int(sys.argv[2]) + 1)))\n'
)

_EARLY = 30
"""How many ticks may be over before everything follows."""


def follow(folder: Path, experiments: int = 20, ticks: int = 100) -> None:
    """Measure from `print` to the iterator of `logs(follow=True)`, each of 20 experiments in a thread of its own."""
    script = make_project(folder / "project", _TICKS)
    with service_process(folder, "--cpus", str(experiments)) as service:
        sessions.use(service.session())
        run = grid.Run(entrypoint=str(script), script_args=f"--ticks {ticks} --n 'range({experiments})'", cpus=1)
        run.start()
        ours: list[float] = []
        theirs: list[float] = []
        files = [service.home / "experiments" / each.id / "attempt-1" / "output" for each in run]
        wait_until(lambda: all(file.exists() for file in files), "every script")
        # The same files, by a program that the kernel wakes up when they grow.
        tail = subprocess.Popen(["tail", "-q", "-n", "0", "-f", *files], stdout=subprocess.PIPE, text=True)
        assert tail.stdout is not None
        threads = [threading.Thread(target=_note, args=(each.logs(n_lines=0, follow=True), ours)) for each in run]
        threads.append(threading.Thread(target=_note, args=(tail.stdout, theirs)))
        for thread in threads:
            thread.start()
        for thread in threads[:-1]:
            thread.join()
        tail.terminate()
        threads[-1].join()
        tail.stdout.close()
        tail.wait()
    assert len(ours) >= experiments * (ticks - _EARLY)
    line(
        f"print to logs(follow=True), {experiments} at once",
        f"{_median(ours)} p99 {_p99(ours)}",
        f"tail -f {_median(theirs)} p99 {_p99(theirs)}",
        None,
        "100 ms, p99 500 ms",
    )


def _note(lines: Iterable[str], into: list[float]) -> None:
    """Note how long each line was on its way, but for those that were there before anybody followed."""
    for text in lines:
        printed = text.rpartition("tick ")[2]
        if printed.strip().isdigit():
            into.append((time.monotonic_ns() - int(printed)) / 1e6)


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ms" if values else "-"


def _p99(values: list[float]) -> str:
    return f"{sorted(values)[int(len(values) * 0.99)]:.0f} ms" if values else "-"


def _peak(pid: int) -> int:
    """Return the most memory that a process ever took, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024


def read_back(folder: Path, lines: int = 1_000_000, pairs: int = 5) -> None:
    """Measure reading a log of 1,000,000 lines from its first to its last, beside a loop over the file itself."""
    script = make_project(folder / "project", _MANY)
    with service_process(folder) as service:
        sessions.use(service.session())
        run = grid.Run(entrypoint=str(script), script_args=f"--lines {lines}", cpus=1)
        run.start()
        wait_for_run(run)
        experiment = only(run)
        output = service.home / "experiments" / experiment.id / "attempt-1" / "output"

        def ours() -> None:
            assert sum(1 for _ in experiment.logs(n_lines=None)) == lines

        def theirs() -> None:
            with output.open(encoding="utf-8") as file:
                assert sum(1 for each in file if f"[2021-08-10 16:59:58.044] {each[:-1]}") == lines

        before = _peak(service.process.pid)
        measured = beside(timed(ours), timed(theirs), pairs)
        grown = (_peak(service.process.pid) - before) / 1e6
    line(
        f"reading {lines:,} lines back, service {grown:+.0f} MB",
        f"{lines / measured.our_median:,.0f} /s",
        f"a loop over the file {lines / measured.their_median:,.0f} /s",
        measured,
        "100,000 /s, + 50 MB",
    )
