"""Experiments that do nothing, so that only Grid's own share is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

import grid
from benchmarks.report import beside, line, timed
from grid import models
from grid.session import session as sessions
from tests.support.projects import make_project
from tests.support.services import service_process


def trivial(folder: Path, number: int = 200, pairs: int = 7) -> None:
    """Measure trivial experiments with one CPU each, from `start()` to the last end, beside `xargs -P2`.

    The CPU time is that of all processes: the service, its spawner, the supervisors, the scripts and the client.
    """
    script = make_project(folder / "project", "pass\n")

    def plain() -> None:
        numbers = "\n".join(map(str, range(number)))
        command = ["xargs", "-P2", "-I{}", sys.executable, str(script), "--n", "{}"]
        subprocess.run(command, input=numbers, text=True, check=True)

    with service_process(folder, "--cpus", "2") as service:
        session = service.session()
        sessions.use(session)

        def ours() -> None:
            run = grid.Run(entrypoint=str(script), script_args=f"--n 'range({number})'", cpus=1)
            run.start()
            for _ in session.subscribe(models.RunStatusChanged, name=run.name):
                pass
            assert {word: len(names) for word, names in run.status().items()} == {"SUCCEEDED": number}

        measured = beside(timed(ours), timed(plain), pairs)
        costs = beside(_costing(ours, service.process.pid), _costing(plain), pairs)
    line(
        f"{number} trivial experiments",
        f"{measured.our_median:.2f} s",
        f"xargs -P2 {measured.their_median:.2f} s",
        measured,
        "1.5 x",
    )
    line(
        "CPU time of all processes for them",
        f"{costs.our_median:.2f} s",
        f"xargs -P2 {costs.their_median:.2f} s",
        costs,
        "none: the less the better",
    )


def _costing(action: Callable[[], object], *services: int) -> Callable[[], float]:
    """Return a function that does something and returns the CPU seconds that it takes, here and in these processes."""

    def spent() -> float:
        trees = [
            each for pid in services for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
        ]
        total = 0.0
        for each in (psutil.Process(), *trees):
            with suppress(psutil.NoSuchProcess):  # it has ended since, and its parent has its time
                times = each.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def cost() -> float:
        before = spent()
        action()
        return spent() - before

    return cost
