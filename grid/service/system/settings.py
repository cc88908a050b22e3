"""How a service is set up, with the errors of that and its limits. What fills it is above: `grid.service.command`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_GRACE_SECONDS = 10.0
MAX_EXPERIMENTS = 10_000
MAX_BODY_BYTES = 16 * 1024**2
"""The longest body of a request, and the longest message over a WebSocket."""


class OptionError(ValueError):
    """An option or a variable of the environment is wrong."""


class TryLater(OptionError):
    """What was asked for is not to be had now, and may be at the next try: a disk is full, a database locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a service is set up. Each may be given on the command line or in the environment."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0 lets the system pick one."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients may call it, besides those of loopback and ``host``."""
    database: str = ""
    """As SQLAlchemy writes it; empty for SQLite in ``home``."""
    cpus: int = 0
    """0 for the machine's."""
    gpus: int | None = None
    """None for the machine's."""
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    idle_seconds: float = 0.0
    """0 to stay for ever."""
    instance_types: Path | None = None
    """A catalogue instead of the one that is shipped."""
    stop_experiments: bool = False
    """Whether what runs ends with the service."""
    kept_by: str = ""
    """What the keeper that has started it has written down: see `grid.session.embedded`."""
    embedded: bool = False
    """Whether its callers are on this machine, so that an interpreter they name is one of ours."""
    max_experiments: int = MAX_EXPERIMENTS
