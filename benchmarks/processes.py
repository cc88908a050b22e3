"""Whole processes: what an import costs, and what it takes until a script has its list of runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.report import line, milliseconds, seconds
from tests.support.services import clean_environment, end_everything

_REPEATS = 15


def _python(code: str, home: Path) -> None:
    subprocess.run([sys.executable, "-c", code], env=clean_environment(home), check=True, capture_output=True)


def imports(folder: Path) -> None:
    """`import grid` and the names of the walk-through, beside a bare interpreter."""
    bare = seconds(lambda: _python("pass", folder), _REPEATS)
    for code, target in (("import grid", "60 ms more"), ("from grid import login, Run, list_runs", "200 ms more")):
        taken = seconds(lambda code=code: _python(code, folder), _REPEATS)
        more = f"+{milliseconds(taken - bare)}"
        line(f"python -c '{code}'", more, f"python -c pass {milliseconds(bare)}", taken / bare, target)


def sessions(folder: Path) -> None:
    """A process that imports, logs in and lists runs: with no service yet, and with one."""
    code = "from grid import login, list_runs; login(); list_runs()"
    bare = seconds(lambda: _python("pass", folder), _REPEATS)
    homes = iter([folder / str(number) for number in range(3)])

    def cold() -> None:
        home = next(homes)
        home.mkdir()
        _python(code, home)

    try:
        taken = seconds(cold, 3)
        line(
            "login, list runs: cold start",
            milliseconds(taken),
            f"python -c pass {milliseconds(bare)}",
            taken / bare,
            "2.5 s",
        )
        taken = seconds(lambda: _python(code, folder / "0"), 5)
        line(
            "login, list runs: service running",
            milliseconds(taken),
            f"python -c pass {milliseconds(bare)}",
            taken / bare,
            "0.8 s",
        )
    finally:
        for number in range(3):
            end_everything(folder / str(number) / ".grid")
