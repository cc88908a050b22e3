"""The interface of what runs attempts: every executor implements :class:`Executor`, and never touches the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Protocol

from grid.service.system.workspace import LAYOUT
from grid.shared.wire import Reason


class AttemptName(NamedTuple):
    """Identifies one attempt of one experiment, between scheduler and executor and in the spawner's reports."""

    experiment_id: str
    number: int


class EarlierAttempt(NamedTuple):
    """An attempt of the same experiment that has ended, whose script was started."""

    number: int
    layout: int


OUTPUT = "../../output"
"""The path of what an attempt has printed, as `Files` knows it; every other path is a file's in the script's room."""

BESIDE = "../"
"""How the path of a file begins that lies in the room around the working copy."""


class Written(NamedTuple):
    """An attempt whose files are asked for, as its row describes it."""

    experiment_id: str
    number: int
    layout: int
    started_at: int | None = None
    """When its script was started, in microseconds since the epoch; None if that is not known."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A regular file of an attempt at a moment."""

    path: str
    size: int
    modified_at: int
    """When it was last written to, in microseconds since the epoch; a program may set that to whatever it likes."""
    inode: int
    changed_at: int
    """When anything about it was last changed, in microseconds since the epoch; no program can set that."""


class Passed(NamedTuple):
    """How far a walk has come that has not found a file for a while."""

    path: str
    """Up to here there are no other files than those that it has found. It is no file's path."""


class Files(Protocol):
    """Where the bytes lie that attempts have written.

    Its methods block, so they are for threads. A path is `OUTPUT`, or leads from the working copy to a file in it or,
    beginning with `BESIDE`, in the room around it; its parts are spelled as `grid.service.system.spelling` does. What
    is not a regular file, or is reached through a link or a mount, is not there.
    """

    def state(self, attempt: Written, path: str) -> FileState | None:
        """Return how a file is now; None if there is none."""

    def read(self, attempt: Written, path: str, offset: int, limit: int) -> bytes:
        """Return at most `limit` bytes of a file from an offset on; fewer at its end, none if it is not there."""

    def open(self, attempt: Written, path: str) -> tuple[BinaryIO, FileState] | None:
        """Open a file for reading, and return it with its state; None if there is none."""

    def open_all(self, attempt: Written, snapshot: str, paths: Iterable[str]) -> Iterator[tuple[BinaryIO, FileState]]:
        """Open files that `list` yields, leaving out what is not there; each is closed before the next."""

    def find(self, attempt: Written, snapshot: str, path: str) -> FileState | None:
        """Return a file that `list` yields; None if it yields none of that path."""

    def list(self, attempt: Written, snapshot: str, after: str | None = None) -> Iterator[FileState | Passed]:
        """Yield the files of the room that do not equal the snapshot, in the order of their paths, by code points.

        What changes meanwhile may be there or not. What cannot be read is left out, and so are folders named
        ``__pycache__``, and what has a path of more than 16 KiB. Where much is on the way that is none of them,
        how far it has come is told from time to time.

        Parameters
        ----------
        attempt
            Whose files.
        snapshot
            The digest of the source code that the working copy was made from.
        after
            A path: only files after it are looked at; None for all. That of a `Passed` goes on from there.
        """


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt, as an executor is told to run it."""

    attempt: AttemptName
    snapshot: str
    """Digest of the source code."""
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str = ""
    """Where the script starts, seen from the root of the source code; empty for the root."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Links to be there when the script starts: from paths in the working copy, or beside it with one `..`."""
    memory_bytes: int = 0
    """How much memory the script and its processes may use; 0 for no limit."""
    timeout_seconds: float | None = None
    """How long the script may run before its processes are ended; None for as long as it takes."""
    layout: int = LAYOUT
    """How its files are laid out, according to its row."""
    resume: EarlierAttempt | None = None
    """The attempt whose files its room begins with; None for nothing but the snapshot."""
    is_cancelled: bool = False
    """Whether its cancel was recorded before it was handed over."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, as far as its executor knows."""

    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    """What the reason alone does not say, as a message for the user."""
    last_lines: str = ""
    """The last lines that the script wrote, with the whole traceback; empty if it succeeded."""
    final_line: str | None = None
    """The line of that traceback that names the exception; None if there is no traceback."""
    started_at: int | None = None
    """Microseconds since the epoch; None if the script never started."""
    finished_at: int | None = None
    """Microseconds since the epoch; None if nothing was recorded."""

    @property
    def succeeded(self) -> bool:
        """Whether the script ended by itself with exit code 0."""
        return self.reason is Reason.EXIT_CODE and self.exit_code == 0


class Listener(Protocol):
    """What an executor reports to, on the event loop."""

    def on_started(self, attempt: AttemptName, started_at: int) -> None:
        """Note that the script's process exists."""

    def on_ended(self, attempt: AttemptName, ending: Ending) -> None:
        """Note that no process of the attempt is left."""


class Executor(Protocol):
    """Runs attempts, and reports to a `Listener` what becomes of them."""

    @property
    def files(self) -> Files:
        """What its attempts have written."""

    async def open(self, listener: Listener) -> None:
        """Get ready to run attempts, and report to the listener from now on."""

    async def start(self, job: Job) -> None:
        """Run an attempt; it runs only once, even if this is called again for it."""

    async def adopt(self, job: Job, *, was_running: bool, handed_over_at: int | None) -> None:
        """Go on with an attempt that an earlier service may have started, or start it if that service had not.

        Parameters
        ----------
        job
            The attempt.
        was_running
            Whether it was recorded that its script was started. It is then not started, whatever else is found.
        handed_over_at
            When its turn came, in microseconds since the epoch; None if that is not known. If its machine was started
            after that, the attempt may have run, and is not started either.
        """

    async def cancel(self, attempt: AttemptName) -> None:
        """Begin to end an attempt because a user cancelled it; its end is reported to the listener.

        One that was not handed over is not begun either: its job says so.
        """

    async def stop(self, attempt: AttemptName) -> None:
        """Begin to end an attempt because the service shuts down; its end is reported to the listener."""

    def forget(self, attempts: Collection[AttemptName]) -> None:
        """Remove the evidence about attempts: their ends are recorded where nothing is lost."""

    async def others(self) -> list[AttemptName]:
        """Return the attempts with evidence that were neither started nor adopted, and do not run.

        Asked before any attempt is started.
        """

    async def remove(self, experiment_id: str, attempts: int) -> None:
        """Remove all that attempts of an experiment have left; none of them runs, and none will.

        Parameters
        ----------
        experiment_id
            The experiment.
        attempts
            How many attempts it had.

        Raises
        ------
        OSError
            If the disk refuses it. Repeated, it finishes what was begun.
        """

    async def close(self) -> None:
        """Stop watching; running attempts go on."""
