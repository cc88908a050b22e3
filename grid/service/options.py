"""How a service is set up: what the command line and the environment say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_GRACE_SECONDS = 10.0
MAX_EXPERIMENTS = 10_000
MAX_BODY_BYTES = 16 * 1024**2


class OptionError(ValueError):
    """An option or a variable of the environment is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a service is set up. Each may be given on the command line or in the environment."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0 lets the system pick one."""
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
    embedded: bool = False
    """Whether its callers are on this machine, so that an interpreter they name is one of ours."""
    max_experiments: int = MAX_EXPERIMENTS


def number(name: str, text: str, *, least: float, whole: bool = False) -> float:
    """Read a number that is at least so large, and a whole one where that is asked for."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf") or (whole and value != int(value)):
        message = f"{name}={text!r}: a {'whole ' if whole else ''}number of at least {least:g} is expected"
        raise OptionError(message)
    return value
