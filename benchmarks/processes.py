"""Whole processes: the cost of an import, and the time until a script has its list of runs."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from benchmarks.report import beside, line, milliseconds, timed
from tests.support.services import clean_environment, end_everything


def _python(code: str, home: Path) -> None:
    subprocess.run([sys.executable, "-c", code], env=clean_environment(home), check=True, capture_output=True)


def imports(folder: Path, pairs: int = 15) -> None:
    """Measure `import grid` and the imports of the walk-through, beside a bare interpreter."""
    bare = timed(lambda: _python("pass", folder))
    for code, target in (("import grid", "60 ms more"), ("from grid import login, Run, list_runs", "200 ms more")):
        measured = beside(timed(lambda code=code: _python(code, folder)), bare, pairs)
        more = f"{measured.difference * 1e3:+.1f} ms"
        line(f"python -c '{code}'", more, f"python -c pass {milliseconds(measured.their_median)}", measured, target)


def sessions(folder: Path, cold: int = 5, warm: int = 7) -> None:
    """Measure a process that imports, logs in and lists runs, without a service at first, and then with one."""
    code = "from grid import login, list_runs; login(); list_runs()"
    bare = timed(lambda: _python("pass", folder))
    numbers = itertools.count()

    def start() -> None:
        home = folder / str(next(numbers))
        home.mkdir()
        _python(code, home)

    try:
        for what, ours, pairs, target in (
            ("cold start", start, cold, "2.5 s"),
            ("service running", lambda: _python(code, folder / "0"), warm, "0.8 s"),
        ):
            measured = beside(timed(ours), bare, pairs)
            line(
                f"login, list runs: {what}",
                milliseconds(measured.our_median),
                f"python -c pass {milliseconds(measured.their_median)}",
                measured,
                target,
            )
    finally:
        for home in folder.glob("*/.grid"):
            end_everything(home)
