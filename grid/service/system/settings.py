"""A service's options and limits, and the errors of wrong options. `grid.service.command` reads the options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_GRACE_SECONDS = 10.0
MAX_EXPERIMENTS = 10_000
MAX_BODY_BYTES = 16 * 1024**2
"""The longest body of a request, and the longest message over a WebSocket."""


class OptionError(ValueError):
    """An option or an environment variable is wrong."""


class TryLater(OptionError):
    """The service cannot have what it needs now, but another try may help: a disk is full, a database is locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a service is set up. Each may be given on the command line or in the environment."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0 lets the system choose one."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names by which clients may address it, besides those of loopback and ``host``."""
    database: str = ""
    """A URL of SQLAlchemy's; empty for an SQLite file in ``home``."""
    cpus: int = 0
    """0 for all that the machine has."""
    gpus: int | None = None
    """None for all that the machine has."""
    memory_bytes: int = 0
    """0 for all that the machine has."""
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    idle_seconds: float = 0.0
    """How long it stays with nothing to do; 0 for ever."""
    instance_types: Path | None = None
    """A catalogue to use instead of the one that is shipped."""
    stop_experiments: bool = False
    """Whether running experiments end with the service."""
    kept_by: str = ""
    """What the keeper that started it has written down: see `grid.session.embedded`."""
    embedded: bool = False
    """Whether its callers are on this machine, so that the interpreter they name can be used here."""
    max_experiments: int = MAX_EXPERIMENTS
