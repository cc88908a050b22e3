"""The operator's commands: `python -m grid.service serve | stop | status | credentials | users | teams`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from grid.service.command import admin, options
from grid.service.system.settings import OptionError, TryLater
from grid.shared import homes
from grid.shared.holder import Holder
from grid.shared.homes import HomeRefused, NoSpace
from grid.shared.wire import grid_home

if TYPE_CHECKING:
    from grid.service.command.shutdown import Stopped

EXIT_REFUSED = 78
"""The service cannot serve as configured, and starting it again will not help (EX_CONFIG of sysexits.h)."""
EXIT_TRY_LATER = 75
"""The service cannot serve now, but another try may help (EX_TEMPFAIL)."""
EXIT_NOT_DONE = 1
"""Something has not ended that should have."""
EXIT_NOT_RUNNING = 3
"""No service is running; as init scripts have it."""
EXIT_UNKNOWN = 4
"""A service is running, and does not say where; as init scripts have it."""

_RECORD_SECONDS = 5.0
_POLL_SECONDS = 0.02


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    home = given.home or grid_home()
    try:
        try:
            homes.refuse_not_utf8(home)
            code = int(given.command(home, given))
            sys.stdout.flush()
        except OSError as error:
            if homes.is_no_space(error):
                sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - what is left would be tried again
                message = f"{error.strerror}: make room on that disk, and run this again"
                return _refused(NoSpace(message), EXIT_TRY_LATER)
            if given.command is _serve:  # a fault of a service: its keeper starts another
                raise
            raise homes.explained(error, home) from error
    except (HomeRefused, OptionError) as error:
        return _refused(error, EXIT_TRY_LATER if isinstance(error, (NoSpace, TryLater)) else EXIT_REFUSED)
    return code


def _refused(error: Exception, code: int) -> int:
    """Print why a command failed; return the exit code."""
    sys.stderr.write(f"error: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grid.service", description="The service behind `from grid import …`."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--home", type=options.path, help="the folder that holds everything (GRID_HOME; else ~/.grid)")
        sub.set_defaults(command=command)
        return sub

    options.add_to_serve(
        add("serve", _serve, "Serve in the foreground until SIGTERM or Ctrl-C. Running experiments continue.")
    )
    options.add_to_stop(
        add("stop", _stop, "Stop the service of a home. Running experiments continue; the next start finds them again.")
    )
    add("status", _status, "Print whether a service is running, and where it listens.")
    add("credentials", _credentials, "Print user id, address and secret key in the format of credentials.json.")
    admin.add_commands(commands, _running)
    return parser


def _serve(home: Path, given: argparse.Namespace) -> int:
    # Until the service has handlers of its own. By default, SIGTERM would end the process as if it were killed; this
    # must be a regular end, which a keeper does not undo.
    for each in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, signal.default_int_handler)
    # Imported here: the other commands do not need these, and they take most of a second.
    from grid.service.command.home_lock import NotKept  # noqa: PLC0415
    from grid.service.command.logs import log_to  # noqa: PLC0415
    from grid.service.command.server import serve  # noqa: PLC0415
    from grid.service.command.shutdown import ExperimentsLeft  # noqa: PLC0415
    from grid.service.store.faults import DatabaseUnavailable  # noqa: PLC0415

    chosen = options.for_serve(home, given)
    log_to(homes.service_folder(home) / homes.LOG if chosen.kept_by else None)
    try:
        asyncio.run(serve(chosen))
    except ExperimentsLeft as error:
        return _refused(error, EXIT_NOT_DONE)
    except DatabaseUnavailable as error:
        return _refused(error, EXIT_TRY_LATER)  # the log names the file
    except (KeyboardInterrupt, NotKept):
        return 0  # it was told to stop before it served
    return 0


def _stop(home: Path, given: argparse.Namespace) -> int:
    from grid.service.command.shutdown import NotStopped, stop, stop_with_experiments  # noqa: PLC0415 - only this needs it

    try:
        if given.stop_experiments:
            said = _words(home, stop_with_experiments(options.for_stop(home, given)))
        elif stop(home):
            said = f"stopped the service of {home}"
        else:
            said = f"no service is running in {home}"
    except NotStopped as error:
        return _refused(error, EXIT_NOT_DONE)
    sys.stdout.write(f"{said}\n")
    return 0


def _words(home: Path, stopped: Stopped) -> str:
    """Return what `stop --stop-experiments` has done, and no more than it has seen."""
    if stopped.has_looked:
        if stopped.was_running:
            return f"stopped the service of {home} and its experiments"
        return f"no service was running in {home}; no experiments run now"
    found = f"stopped the service of {home}" if stopped.was_running else f"no service was running in {home}"
    return (
        f"{found}; there is no database in it, so nothing is known of experiments: if it has another, give --database"
    )


def _status(home: Path, _: argparse.Namespace) -> int:
    record = _settled(home)
    if record is None:
        return _not_running(home, sys.stdout, "")
    sys.stdout.write(f"{record['url']}  home {home}  process {record['pid']}  version {record['version']}\n")
    return 0


def _credentials(home: Path, _: argparse.Namespace) -> int:
    record = _settled(home)
    if record is None:
        return _not_running(home, sys.stderr, "error: ")
    credentials = {"UserID": record["user_id"], "APIKey": record["api_key"], "URL": record["url"]}
    sys.stdout.write(json.dumps(credentials, indent=2) + "\n")
    return 0


def _not_running(home: Path, file: TextIO, before: str) -> int:
    """Say that there is no record of a service, and whether there is a service; return the exit code."""
    if not homes.is_taken(home):
        file.write(f"{before}no service is running in {home}\n")
        return EXIT_NOT_RUNNING
    owner = Holder.read(homes.service_folder(home) / homes.OWNER)
    process = f", process {owner.pid}," if owner else ""
    file.write(f"{before}a service{process} uses {home} but does not say where it listens: see its log\n")
    return EXIT_UNKNOWN


def _settled(home: Path) -> dict[str, Any] | None:
    """Return the record of the service that has a home; wait for one that is starting, or writes it again."""
    deadline = time.monotonic() + _RECORD_SECONDS
    while (record := _running(home)) is None and homes.is_taken(home) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return record


def _running(home: Path) -> dict[str, Any] | None:
    homes.refuse_elsewhere(home)
    return homes.read_record(home)
