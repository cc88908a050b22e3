"""The spawner without a service: it gets jobs, and tests read what it reports and leaves in their folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from grid.service.executors import evidence
from grid.service.executors.protocol import Ending
from grid.service.executors.spawner_client import spawner_command
from grid.service.system.workspace import AttemptFolder, Workspace
from tests.support.waiting import wait_until

KEY = b"key" * 8


def attempt_of(folder: Path, number: int = 1) -> AttemptFolder:
    """The files of an attempt of the only experiment of a home."""
    return Workspace(folder).attempt(_identity(folder), number)


def _identity(folder: Path) -> str:
    # The name of a control group is unique on the machine.
    return sha256(str(folder).encode()).hexdigest()[:16]


def job_for(folder: Path, script: str, *, number: int = 1, **more: Any) -> dict[str, Any]:
    """What a spawner is told about an attempt of a script; Python runs what begins with an import, `sh` the rest."""
    (folder / "snapshot").mkdir(exist_ok=True)
    (folder / "snapshot" / "run").write_text(script)
    files = attempt_of(folder, number)
    files.path.parent.parent.mkdir(exist_ok=True)
    return {
        "spawner": "any",
        "experiment": _identity(folder),
        "attempt": number,
        "home": str(folder),
        "record": str(files.record.relative_to(folder)),
        "folders": [str(each) for each in (files.path.parent, files.path, files.metrics, files.room)],
        "output": str(files.output),
        "work": str(files.work),
        "temporary": None,
        "key": KEY.hex(),
        "snapshot": str(folder / "snapshot"),
        "earlier": None,
        "folder": "",
        "links": {},
        "command": [sys.executable if script.startswith("import ") else "/bin/sh", "run"],
        "environment": {**os.environ, "GRID_EXPERIMENT_ID": _identity(folder), "PYTHONUNBUFFERED": "1"},
        "grace_seconds": 1,
        "timeout_seconds": None,
        **more,
    }


class SpawnerProcess:
    """A spawner, as the service starts it."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            spawner_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def send(self, *jobs: dict[str, Any]) -> None:
        """Send it jobs."""
        assert self.process.stdin is not None
        self.process.stdin.writelines(f"{json.dumps(job)}\n" for job in jobs)
        self.process.stdin.flush()

    def hear(self) -> tuple[str, int]:
        """Return the next event that it reports, and the number of its attempt."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the spawner has ended"
        report = json.loads(line)
        return report["event"], report["attempt"]

    def hear_of_the_end(self, jobs: int = 1) -> list[str]:
        """Return what it reports until that many supervisors have ended, except those ends."""
        said: list[str] = []
        while jobs:
            event, _ = self.hear()
            said.append(event)
            jobs -= event == "gone"
        return [event for event in said if event != "gone"]


@contextmanager
def spawner(**environment: str) -> Iterator[SpawnerProcess]:
    """Yield a spawner, and end it."""
    running = SpawnerProcess(**environment)
    try:
        yield running
    finally:
        running.process.communicate()


def ending_of(attempt: AttemptFolder) -> Ending:
    """How an attempt ended, as soon as that is recorded."""
    return wait_until(lambda: evidence.ending_of(attempt, KEY), f"the end of {attempt.path}")
