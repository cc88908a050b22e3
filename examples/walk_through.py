"""Plays a Python session with Grid on a project of its own in a temporary folder; `make demo` runs this.

Nothing outside that folder is touched, and nothing is left behind: no file and no process.
"""

from __future__ import annotations

import doctest
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import grid

DEMO_PROJECT = Path(__file__).with_name("demo_project")

WALK_THROUGH = """
Log in. Nothing is configured, so this starts the embedded service.

>>> from grid import login, Run, list_runs
>>> login()

Define a run: two values of one argument, one random draw of the other.

>>> r = Run(
...     entrypoint='./Demo_Project/run.py',
...     script_args='--max_epochs "[10, 20]" --learning_rate "uniform(1e-3, 1e-5, 1)"',
...     instance_type='t2.xlarge',
...     cpus=3,
... )
>>> r

What would run? Nothing is created yet, and what is shown is what will run.

>>> r.preview()

What would it cost, in US dollars per hour?

>>> r.estimated_hourly_cost

Start it.

>>> r.start()
>>> r
>>> r.status()
>>> r.experiments

Wait until all experiments have ended. On a terminal and in a notebook a line shows how far they are.

>>> r.wait()
>>> e = r.experiments[f'{r.name}-exp0']
>>> e

What has an experiment printed, and when? `follow=True` goes on until it has ended.

>>> for line in e.logs(n_lines=3):
...     print(line)
...

Which files has it made?

>>> e.artifacts
>>> e.artifacts['result.json'].read_bytes()
>>> r.download_artifacts('results')

Start a second run, whose first experiment would take hours, see it start, and cancel it.

>>> second = Run(
...     entrypoint='./Demo_Project/run.py',
...     script_args='--max_epochs "[1000000, 10]" --learning_rate 0.001',
...     cpus=1,
... )
>>> second.start()
>>> next(event for event in second.watch() if event.status == 'RUNNING')
>>> second.experiments[f'{second.name}-exp0'].cancel()
>>> for e in second.as_completed():
...     print(e.name, e.status())
...

List all runs, newest first, and load the first one by its name.

>>> list_runs()
>>> rr = Run(list_runs()[-1])
>>> rr
"""


def main() -> int:
    """Play the walk-through; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    for name in [name for name in os.environ if name.startswith("GRID_")]:
        del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="grid-demo-"))
    os.environ["GRID_HOME"] = str(folder / "home")
    try:
        make_project(folder / "Demo_Project")
        os.chdir(folder)
        play(WALK_THROUGH)
    except KeyboardInterrupt:
        return 130
    finally:
        os.chdir("/")
        end_service(folder / "home")
        shutil.rmtree(folder)
    return 0


def make_project(folder: Path) -> None:
    """Copy the demo project and make it a git repository with a remote, like a user's own project."""
    shutil.copytree(DEMO_PROJECT, folder)
    # Ignore the user's own git configuration: it may lack an identity, have hooks, or require signed commits.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=Demo", "-c", "user.email=demo@example.org")
    for command in (
        ("init", "--quiet"),
        ("add", "."),
        (*identity, "commit", "--quiet", "--message", "The demo project"),
        ("remote", "add", "origin", "https://git.example.org/gridai/Demo_Project.git"),
    ):
        subprocess.run(["git", *command], cwd=folder, env=environment, check=True)


def play(text: str) -> None:
    """Print prose as comments, and examples as a Python prompt shows them, with their real output.

    Parameters
    ----------
    text
        Prose and examples as in a docstring, but without the output of the examples.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    warnings.simplefilter("always")
    # As a prompt shows them, but on stdout, in order with the rest.
    warnings.showwarning = lambda message, category, file, line, *_: print(
        warnings.formatwarning(message, category, file, line, ""), end=""
    )
    for part in doctest.DocTestParser().parse(text):
        if isinstance(part, doctest.Example):
            first, *rest = part.source.splitlines()
            if rest and rest[-1].startswith(" "):
                rest.append("")  # an empty line ends a block at a prompt
            print("\n".join([f">>> {first}", *(f"... {line}".rstrip() for line in rest)]), flush=True)
            # Compiled as at a prompt, so that a value is shown.
            exec(compile(part.source, "<stdin>", "single"), names)  # noqa: S102 - the text above, and nothing else
        elif part.strip():
            print(f"\n# {part.strip()}\n", flush=True)


def end_service(home: Path) -> None:
    """Cancel what is still running, and end the embedded service."""
    if not (home / "service").exists():
        return
    try:
        for run in grid.runs.values():
            run.cancel()
    except grid.GridError as error:
        print(f"cannot cancel what is still running: {error}", file=sys.stderr)
    stop = [sys.executable, "-m", "grid.service", "stop", "--home", str(home)]
    subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
