"""The options of `serve` and `stop`: what the command line may say, what the environment says where it does not.

What a service makes of them is in `system/settings`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from grid.service.system.settings import DEFAULT_GRACE_SECONDS, OptionError, Options

_DATABASE = "another SQLite file, as SQLAlchemy writes it (default: one in the home)"
_GRACE = "seconds from SIGTERM to SIGKILL when an experiment is ended (GRID_CANCEL_GRACE; else 10)"


def add_to_serve(serve: argparse.ArgumentParser) -> None:
    """Let the parser of `serve` know its options, except `--home`, which every command has."""
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=0, help="the port to listen on (default: one that the system picks)")
    serve.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which clients call it, besides localhost and --host; without a port (may be repeated)",
    )
    serve.add_argument("--database", default="", help=_DATABASE)
    serve.add_argument("--cpus", help="CPUs that experiments share (GRID_LOCAL_CPUS; else the machine's)")
    serve.add_argument("--gpus", help="GPUs that experiments share (GRID_LOCAL_GPUS; else the machine's)")
    serve.add_argument("--grace", help=_GRACE)
    serve.add_argument("--idle", help="stop after so many idle seconds (GRID_IDLE_TIMEOUT; else 0: never)")
    serve.add_argument("--embedded", action="store_true", help="run scripts with the interpreter of whoever logged in")
    serve.add_argument("--instance-types", type=path, help="a catalogue instead of the one that is shipped")
    serve.add_argument("--stop-experiments", action="store_true", help="end what runs, too, when it is told to stop")
    serve.add_argument("--kept-by", default="", help=argparse.SUPPRESS)


def add_to_stop(stop: argparse.ArgumentParser) -> None:
    """Let the parser of `stop` know its options, except `--home`."""
    stop.add_argument("--stop-experiments", action="store_true", help="end what runs, too; what is queued stays so")
    stop.add_argument("--database", default="", help=f"{_DATABASE}; needed where no service runs")
    stop.add_argument("--grace", help=f"{_GRACE}; how long to wait depends on it")


def for_serve(home: Path, given: argparse.Namespace) -> Options:
    """Return how a service is to be set up.

    Raises
    ------
    OptionError
        If a value is out of its range; the message names it as it was given.
    """
    gpus = _number(given, "gpus", "GRID_LOCAL_GPUS", least=0, whole=True)
    return Options(
        home=home,
        host=given.host,
        port=given.port,
        allowed_hosts=tuple(_host_name("--allowed-host", each) for each in given.allowed_host),
        database=given.database,
        cpus=int(_number(given, "cpus", "GRID_LOCAL_CPUS", least=1, whole=True) or 0),
        gpus=None if gpus is None else int(gpus),
        grace_seconds=_grace(given),
        idle_seconds=_number(given, "idle", "GRID_IDLE_TIMEOUT", least=0) or 0.0,
        instance_types=given.instance_types,
        stop_experiments=given.stop_experiments,
        kept_by=given.kept_by,
        embedded=given.embedded,
    )


def for_stop(home: Path, given: argparse.Namespace) -> Options:
    """Return how the service whose experiments are ended is set up, as far as that matters to them.

    Raises
    ------
    OptionError
        If the grace period is out of its range.
    """
    return Options(home=home, database=given.database, grace_seconds=_grace(given))


def path(text: str) -> Path:
    """Read a path as a shell would have, where it did not: with `~` for the user's own folder."""
    return Path(text).expanduser().absolute()


def _grace(given: argparse.Namespace) -> float:
    seconds = _number(given, "grace", "GRID_CANCEL_GRACE", least=0)
    return DEFAULT_GRACE_SECONDS if seconds is None else seconds


def _number(
    given: argparse.Namespace, option: str, variable: str, *, least: float, whole: bool = False
) -> float | None:
    """Read a number from the command line, else from the environment; None where neither has it."""
    for name, text in ((f"--{option}", getattr(given, option)), (variable, os.environ.get(variable))):
        if text is not None:
            return _read_number(name, text, least=least, whole=whole)
    return None


def _read_number(name: str, text: str, *, least: float, whole: bool = False) -> float:
    """Read a number that is at least so large, and a whole one where that is asked for."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf") or (whole and value != int(value)):
        message = f"{name}={text!r}: a {'whole ' if whole else ''}number of at least {least:g} is expected"
        raise OptionError(message)
    return value


def _host_name(name: str, text: str) -> str:
    """Read the name or the address of a host: without a scheme, without a port."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not bare or any(char in "/@[]*" or char.isspace() for char in bare) or bare.count(":") == 1:
        message = f"{name}={text!r}: the name of a host is expected, as in grid.example.org, without scheme and port"
        raise OptionError(message)
    return bare
