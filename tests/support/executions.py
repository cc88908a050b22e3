"""The local executor without a service: real processes, and a listener that notes what it is told."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from grid.service.executors.local import LocalExecutor
from grid.service.executors.protocol import AttemptName, Ending, Job
from grid.service.system.workspace import AttemptFolder, Workspace

SECRET = b"secret" * 5


class Told:
    """What an executor has reported, in order: which attempt, and when it started or how it ended."""

    def __init__(self) -> None:
        self.started: list[tuple[AttemptName, int]] = []
        self.ended: list[tuple[AttemptName, Ending]] = []

    def on_started(self, attempt: AttemptName, started_at: int) -> None:
        self.started.append((attempt, started_at))

    def on_ended(self, attempt: AttemptName, ending: Ending) -> None:
        self.ended.append((attempt, ending))


class Execution:
    """An executor that is open, and its workspace."""

    def __init__(self, home: Path, grace_seconds: float, margin_seconds: float) -> None:
        self.workspace = Workspace(home)
        self.workspace.prepare()
        self.executor = LocalExecutor(
            self.workspace, SECRET, grace_seconds=grace_seconds, margin_seconds=margin_seconds
        )
        self.told = Told()

    def job(self, script: str, *arguments: str, number: int = 1, attempt: int = 1, **more: Any) -> Job:
        """Return a job for a script: `sh` runs it, or Python if it begins with an import."""
        snapshot = self.workspace.snapshot(f"snapshot-{number}")
        snapshot.mkdir(exist_ok=True)
        (snapshot / "run").write_text(script)
        # The name of a control group is unique on the machine; the next executor of this home has the same.
        identity = f"{sha256(str(self.workspace.home).encode()).hexdigest()[:16]}-{number}"
        interpreter = sys.executable if script.startswith("import ") else "/bin/sh"
        # Not TMPDIR: who names that himself gets no folder of his own.
        inherited = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
        environment = {**inherited, "GRID_EXPERIMENT_ID": identity, "PYTHONUNBUFFERED": "1"}
        return Job(
            **{
                "attempt": AttemptName(identity, attempt),
                "snapshot": snapshot.name,
                "command": (interpreter, "run", *arguments),
                "environment": environment,
                **more,
            }
        )

    def folder(self, job: Job) -> AttemptFolder:
        """Return the folder of a job's attempt."""
        return self.workspace.attempt(*job.attempt)

    async def ending(self, job: Job) -> Ending:
        """Wait for the end of a job's attempt; return what was reported."""

        def found() -> Ending | None:
            return next((ending for attempt, ending in self.told.ended if attempt == job.attempt), None)

        return await until(found, f"the end of {job.attempt}")


@asynccontextmanager
async def execution(folder: Path, grace_seconds: float = 1, margin_seconds: float = 10) -> AsyncIterator[Execution]:
    """Yield an executor whose home is in a folder; when it is closed, what runs goes on."""
    running = Execution(folder / "home", grace_seconds, margin_seconds)
    await running.executor.open(running.told)
    try:
        yield running
    finally:
        await running.executor.close()


async def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Return the value of the condition once it is true; the event loop goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        await asyncio.sleep(0.01)
    return value
