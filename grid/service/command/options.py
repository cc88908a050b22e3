"""How a service is set up, read from the command line and, for some of it, from the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from grid.service.system.settings import DEFAULT_GRACE_SECONDS, OptionError, Options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def read_options(home: Path, given: argparse.Namespace) -> Options:
    """Read what the command ``serve`` was told.

    Raises
    ------
    OptionError
        If something of it is wrong.
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
        grace_seconds=grace_seconds(given),
        idle_seconds=_number(given, "idle", "GRID_IDLE_TIMEOUT", least=0) or 0.0,
        instance_types=given.instance_types,
        stop_experiments=given.stop_experiments,
        kept_by=given.kept_by,
        embedded=given.embedded,
    )


def grace_seconds(given: argparse.Namespace) -> float:
    """Read how long a process may take from SIGTERM to its end."""
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
