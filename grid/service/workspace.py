"""Names every file and folder below the service's home. Nothing else builds such a path.

The supervisor does not import this module: it is told its folder, and knows the names in it (``AttemptFolder``'s
constants come from there, so that the two cannot differ).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from grid.service.executors import supervisor

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """One attempt of one experiment: where service, supervisor and script meet."""

    path: Path

    def make(self) -> None:
        """Make the folder where it is not there, and the experiment's around it, readable by their user only."""
        for folder in (self.path.parent, self.path):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)

    @property
    def claim(self) -> Path:
        """Who does it."""
        return self.path / supervisor.CLAIM

    @property
    def cancel(self) -> Path:
        """Exists once a cancel was recorded."""
        return self.path / supervisor.CANCEL

    @property
    def started(self) -> Path:
        """When the script was started, and its pid."""
        return self.path / supervisor.STARTED

    @property
    def exit(self) -> Path:
        """How the script ended."""
        return self.path / supervisor.EXIT

    @property
    def output(self) -> Path:
        """What the script wrote to stdout and stderr."""
        return self.path / supervisor.OUTPUT

    @property
    def work(self) -> Path:
        """The working copy."""
        return self.path / supervisor.WORK


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything below ``$GRID_HOME`` that belongs to the service."""

    home: Path

    def prepare(self) -> None:
        """Make the folders, readable by their user only."""
        for folder in (self.home, self.snapshots, self.incoming, self.experiments, self.service):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        self.home.chmod(PRIVATE_FOLDER)

    def clear_incoming(self) -> None:
        """Remove what a service that was killed had of uploads. Nobody else may have this home."""
        shutil.rmtree(self.incoming)
        self.incoming.mkdir(mode=PRIVATE_FOLDER)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.home / "grid.sqlite3"

    @property
    def service(self) -> Path:
        """Where the embedded service says where it is: see ``grid.embedded``."""
        return self.home / "service"

    @property
    def snapshots(self) -> Path:
        """Unpacked snapshots, one folder for each digest."""
        return self.home / "snapshots"

    @property
    def incoming(self) -> Path:
        """Uploads that are not complete yet."""
        return self.home / "incoming"

    @property
    def experiments(self) -> Path:
        """One folder for each experiment."""
        return self.home / "experiments"

    def snapshot(self, digest: str) -> Path:
        """The unpacked tree of a snapshot."""
        return self.snapshots / digest

    def attempt(self, experiment_id: str, number: int) -> AttemptFolder:
        """The folder of one attempt."""
        return AttemptFolder(self.experiments / experiment_id / f"attempt-{number}")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its user can read, so that a reader sees all of it or the one before."""
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
