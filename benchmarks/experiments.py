"""Experiments that do nothing, so that what is measured is ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grid
from benchmarks.report import beside, line
from grid import models
from grid.session import session as sessions
from tests.support.projects import make_project
from tests.support.services import service_process

_NUMBER = 200
_REPEATS = 3


def trivial(folder: Path) -> None:
    """200 trivial experiments of one CPU, from `start()` to the last end, beside `xargs -P2` with the same commands."""
    script = make_project(folder / "project", "pass\n")

    def plain() -> None:
        numbers = "\n".join(map(str, range(_NUMBER)))
        command = ["xargs", "-P2", "-I{}", sys.executable, str(script), "--n", "{}"]
        subprocess.run(command, input=numbers, text=True, check=True)

    with service_process(folder, "--cpus", "2") as service:
        session = service.session()
        sessions.use(session)

        def ours() -> None:
            run = grid.Run(entrypoint=str(script), script_args=f"--n 'range({_NUMBER})'", cpus=1)
            run.start()
            for _ in session.subscribe(models.RunStatusChanged, name=run.name):
                pass
            assert {word: len(names) for word, names in run.status().items()} == {"SUCCEEDED": _NUMBER}

        taken, theirs = beside(ours, plain, _REPEATS)
    line(f"{_NUMBER} trivial experiments", f"{taken:.2f} s", f"xargs -P2 {theirs:.2f} s", taken / theirs, "1.5 x")
