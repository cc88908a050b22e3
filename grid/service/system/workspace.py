"""Names every file and folder below the service's home. Nothing else builds such a path.

The supervisor is the exception: it is told its folder, and takes the names in it from
`grid.service.system.attempt_files`.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from grid.service.system import attempt_files, failpoints, removal
from grid.shared import homes

_log = logging.getLogger(__name__)

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600


LAYOUT = 2
"""How the files of attempts that begin now are laid out; 1 is what was before: all of it in the attempt's folder."""


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The files of one attempt of one experiment: where service, supervisor and script meet."""

    path: Path
    """What the script works with."""
    record: Path
    """The evidence about it, which the script has nothing to do with."""

    @property
    def has_room(self) -> bool:
        """Whether the script has a room around its working copy, and the evidence a place of its own."""
        return self.record != self.path

    def make_record(self) -> None:
        """Make the folder for the evidence, unless it exists, readable only by the service's user."""
        if not self.has_room:
            self.path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        self.record.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)

    @property
    def claim(self) -> Path:
        """Says which supervisor runs the attempt."""
        return self.record / attempt_files.CLAIM

    @property
    def cancel(self) -> Path:
        """Exists once a cancel has been recorded."""
        return self.record / attempt_files.CANCEL

    @property
    def stop(self) -> Path:
        """Exists once a service that shuts down has asked the attempt to end."""
        return self.record / attempt_files.STOP

    @property
    def cgroup(self) -> Path:
        """Says which control group its processes are in."""
        return self.record / attempt_files.CGROUP

    @property
    def started(self) -> Path:
        """Says when the script was started, and its pid."""
        return self.record / attempt_files.STARTED

    @property
    def exit(self) -> Path:
        """Says how the script ended."""
        return self.record / attempt_files.EXIT

    @property
    def tmp(self) -> Path:
        """Says which temporary folder it has."""
        return self.record / attempt_files.TMP

    @property
    def output(self) -> Path:
        """What the script wrote to stdout and stderr."""
        return self.path / attempt_files.OUTPUT

    @property
    def metrics(self) -> Path:
        """What the script measures."""
        return self.path / attempt_files.METRICS

    @property
    def room(self) -> Path:
        """The script's own room: what is carried over to the next attempt on request."""
        return self.path / (attempt_files.ROOM if self.has_room else attempt_files.WORK)

    @property
    def work(self) -> Path:
        """The working copy that the script runs in."""
        return self.room / attempt_files.WORK if self.has_room else self.room


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything below ``$GRID_HOME`` that belongs to the service."""

    home: Path

    def prepare(self) -> None:
        """Make the folders, readable only by the service's user."""
        for folder in (self.home, *self.folders):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        self.home.chmod(PRIVATE_FOLDER)

    def clear_incoming(self) -> None:
        """Remove the unfinished uploads of a service that was killed. No other service may be using this home."""
        folder = removal.open_folder(str(self.incoming))
        try:
            removal.empty(folder)
        except OSError as error:
            # Nobody uses their names again, so they are in nobody's way.
            _log.warning("an unfinished upload in %s cannot be removed: %s", self.incoming, error)
        finally:
            os.close(folder)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders in the home that are always there."""
        return (self.snapshots, self.incoming, self.experiments, self.records, self.results, self.service)

    @property
    def database(self) -> Path:
        """The SQLite file, unless another database is configured."""
        return self.home / "grid.sqlite3"

    @property
    def pairing(self) -> Path:
        """The id by which a database outside the home knows it."""
        return self.home / "home-id"

    @property
    def service(self) -> Path:
        """Where the embedded service leaves its address: see ``grid.session.embedded``."""
        return homes.service_folder(self.home)

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

    @property
    def records(self) -> Path:
        """One folder for each attempt whose end is not recorded in the database: the evidence about it."""
        return self.home / "records"

    @property
    def spawner(self) -> Path:
        """Says which spawner's supervisors may begin attempts."""
        return self.records / attempt_files.SPAWNER

    @property
    def results(self) -> Path:
        """One folder for each attempt, for what the service itself makes of it."""
        return self.home / "results"

    @property
    def trash(self) -> Path:
        """What is being removed."""
        return self.home / "trash"

    def snapshot(self, digest: str) -> Path:
        """The unpacked tree of a snapshot."""
        return self.snapshots / digest

    def experiment(self, experiment_id: str) -> Path:
        """The folder of an experiment, with one for each attempt in it."""
        return self.experiments / experiment_id

    def attempt(self, experiment_id: str, number: int, layout: int = LAYOUT) -> AttemptFolder:
        """The files of one attempt."""
        path = self.experiment(experiment_id) / f"attempt-{number}"
        return AttemptFolder(path, path if layout == 1 else self.record(experiment_id, number))

    def record(self, experiment_id: str, number: int) -> Path:
        """The folder for the evidence about an attempt."""
        return self.records / f"{experiment_id}-{number}"

    def result(self, experiment_id: str, number: int) -> Path:
        """The folder for what the service makes of an attempt."""
        return self.results / f"{experiment_id}-{number}"

    def log_index(self, experiment_id: str, number: int) -> Path:
        """The index of what an attempt has printed."""
        return self.result(experiment_id, number) / "log"


def remove_tree(tree: Path, aside: Path) -> None:
    """Remove a tree, or what is left of one: it leaves its place in one step, so nobody ever sees half of it there.

    Parameters
    ----------
    tree
        What to remove: usually a folder. It need not exist.
    aside
        Where to move it first, on the same disk; what an earlier call has left there is removed, too.

    Raises
    ------
    OSError
        If something of it cannot be moved or removed. Everything else is gone then, and a later call tries again.
    """
    failpoints.reached("file.aside.before")
    try:
        removal.move(str(tree), str(aside))
    except FileNotFoundError:
        if os.path.lexists(tree):
            raise  # there is no folder to move it into
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # An earlier call had no time for what is there, or could not remove it: that keeps no tree in its place.
        folder = removal.open_folder(str(aside))
        try:
            removal.move(str(tree), os.urandom(16).hex(), dst_dir_fd=folder)
        finally:
            os.close(folder)
    failpoints.reached("file.aside.after")
    removal.remove(str(aside))


def put_link(path: Path, text: str) -> None:
    """Make a link that leads nowhere, in place of whatever is there; a reader sees either it or what was there."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    temporary.symlink_to(text)
    temporary.replace(path)


def write_private(path: Path, content: bytes, *, folder: int | None = None) -> None:
    """Write a file that only the service's user can read; a reader sees either all of it or the file before it.

    With the descriptor of a folder, the path is below that one, wherever it is now.
    """
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    failpoints.reached(f"file.{path.stem}.before")
    os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
    failpoints.reached(f"file.{path.stem}.after")
