"""What runs an attempt. Every executor answers to :class:`Executor`; it never touches the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from grid.shared.wire import Reason


class AttemptName(NamedTuple):
    """One attempt of one experiment: by this, everybody who says something of it names it."""

    experiment_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt, as an executor is told to run it."""

    attempt: AttemptName
    snapshot: str
    """Digest of the source code."""
    command: tuple[str, ...]
    environment: Mapping[str, str]
    timeout_seconds: float | None = None
    """From the script's start until its processes are ended; None for as long as it takes."""
    resume: bool = False
    """Whether the working copy also gets what the attempt before left in its own."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, as far as its executor knows."""

    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    """What the reason alone does not say, in words for its user."""
    last_lines: str = ""
    """The end of what the script wrote, a traceback whole; empty where it succeeded."""
    final_line: str | None = None
    """The last line of that traceback, which names the exception; None where there is none."""
    started_at: int | None = None
    """Microseconds since the epoch; None where the script never started."""
    finished_at: int | None = None
    """Microseconds since the epoch; None where nothing was recorded."""

    @property
    def succeeded(self) -> bool:
        """Whether the script ended by itself with exit code 0."""
        return self.reason is Reason.EXIT_CODE and self.exit_code == 0


class Listener(Protocol):
    """Whom an executor tells what happens, on the event loop."""

    def on_started(self, attempt: AttemptName, started_at: int) -> None:
        """The script's process exists."""

    def on_ended(self, attempt: AttemptName, ending: Ending) -> None:
        """No process of the attempt is left."""


class Executor(Protocol):
    """Runs attempts."""

    async def open(self, listener: Listener) -> None:
        """Be ready to run."""

    async def start(self, job: Job) -> None:
        """Run an attempt; repeated for the same attempt, it still runs once."""

    async def adopt(self, job: Job, *, was_running: bool, handed_over_at: int | None) -> None:
        """Go on with an attempt that an earlier service may have started, or start it where it had not.

        Parameters
        ----------
        job
            The attempt.
        was_running
            Whether it was recorded that its script was started. Then it is not started, whatever else is to be found.
        handed_over_at
            When its turn came, in microseconds since the epoch; None where that is not known. Where the machine that it
            is on was started since then, it may have run, and is not started either.
        """

    async def cancel(self, attempt: AttemptName) -> None:
        """Begin to end an attempt; its end is told to the listener."""

    async def stop(self, attempt: AttemptName) -> None:
        """Begin to end an attempt because the service shuts down; its end is told to the listener."""

    async def close(self) -> None:
        """Stop watching; what runs goes on."""
