"""The options of `serve` and `stop`: from the command line, or else from the environment.

The settings that they become are in `system/settings`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from grid.service.system.settings import DEFAULT_GRACE_SECONDS, OptionError, Options
from grid.shared.wire import MEMORY_FORM, memory_bytes

_DATABASE = "another SQLite file, as a SQLAlchemy URL (default: a file in the home)"
_GRACE = "seconds from SIGTERM to SIGKILL when an experiment is ended (GRID_CANCEL_GRACE; else 10)"


def add_to_serve(serve: argparse.ArgumentParser) -> None:
    """Add the options of `serve` to its parser, except `--home`, which every command has."""
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=0, help="the port to listen on (default: picked by the system)")
    serve.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which clients reach the service, besides localhost and --host; no port (may be repeated)",
    )
    serve.add_argument("--database", default="", help=_DATABASE)
    serve.add_argument("--cpus", help="CPUs that experiments share (GRID_LOCAL_CPUS; else the machine's)")
    serve.add_argument("--gpus", help="GPUs that experiments share (GRID_LOCAL_GPUS; else the machine's)")
    serve.add_argument("--memory", help="memory that they share, as in 16G (GRID_LOCAL_MEMORY; else the machine's)")
    serve.add_argument("--grace", help=_GRACE)
    serve.add_argument("--idle", help="stop after this many idle seconds (GRID_IDLE_TIMEOUT; else 0: never)")
    serve.add_argument("--embedded", action="store_true", help="run scripts with the interpreter that called login()")
    serve.add_argument("--instance-types", type=path, help="a catalogue to use instead of the built-in one")
    serve.add_argument("--stop-experiments", action="store_true", help="also end running experiments when told to stop")
    serve.add_argument("--kept-by", default="", help=argparse.SUPPRESS)


def add_to_stop(stop: argparse.ArgumentParser) -> None:
    """Add the options of `stop` to its parser, except `--home`."""
    stop.add_argument("--stop-experiments", action="store_true", help="also end running experiments, not queued ones")
    stop.add_argument("--database", default="", help=f"{_DATABASE}; needed if no service is running")
    stop.add_argument("--grace", help=f"{_GRACE}; the command waits accordingly")


def for_serve(home: Path, given: argparse.Namespace) -> Options:
    """Return the settings of the service to start.

    Raises
    ------
    OptionError
        If a value is out of range; the message names it as it was given.
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
        memory_bytes=_memory(given),
        grace_seconds=_grace(given),
        idle_seconds=_number(given, "idle", "GRID_IDLE_TIMEOUT", least=0) or 0.0,
        instance_types=given.instance_types,
        stop_experiments=given.stop_experiments,
        kept_by=given.kept_by,
        embedded=given.embedded,
    )


def for_stop(home: Path, given: argparse.Namespace) -> Options:
    """Return the settings of the service to stop, as far as its experiments depend on them.

    Raises
    ------
    OptionError
        If the grace period is out of range.
    """
    return Options(home=home, database=given.database, grace_seconds=_grace(given))


def path(text: str) -> Path:
    """Read a path with `~` for the user's own folder, even if the shell has not expanded it."""
    return Path(text).expanduser().absolute()


def _grace(given: argparse.Namespace) -> float:
    seconds = _number(given, "grace", "GRID_CANCEL_GRACE", least=0)
    return DEFAULT_GRACE_SECONDS if seconds is None else seconds


def _memory(given: argparse.Namespace) -> int:
    """Read an amount of memory from the command line, or else from the environment; 0 if neither has it."""
    for name, text in (("--memory", given.memory), ("GRID_LOCAL_MEMORY", os.environ.get("GRID_LOCAL_MEMORY"))):
        if text is not None:
            if not (size := memory_bytes(text)):
                message = f"{name}={text!r}: expected {MEMORY_FORM}"
                raise OptionError(message)
            return size
    return 0


def _number(
    given: argparse.Namespace, option: str, variable: str, *, least: float, whole: bool = False
) -> float | None:
    """Read a number from the command line, or else from the environment; None if neither has it."""
    for name, text in ((f"--{option}", getattr(given, option)), (variable, os.environ.get(variable))):
        if text is not None:
            return _read_number(name, text, least=least, whole=whole)
    return None


def _read_number(name: str, text: str, *, least: float, whole: bool = False) -> float:
    """Read a number that must not be less than `least`, and must be whole if `whole` is set."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf") or (whole and value != int(value)):
        message = f"{name}={text!r}: expected a {'whole ' if whole else ''}number of at least {least:g}"
        raise OptionError(message)
    return value


def _host_name(name: str, text: str) -> str:
    """Read the name or the address of a host: without a scheme, without a port."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not bare or any(char in "/@[]*" or char.isspace() for char in bare) or bare.count(":") == 1:
        message = f"{name}={text!r}: expected the name of a host, such as grid.example.org, without scheme or port"
        raise OptionError(message)
    return bare
