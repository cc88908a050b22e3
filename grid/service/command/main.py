"""The operator's commands: `python -m grid.service serve | stop | status | credentials | users | teams`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from grid.service.command import admin, options
from grid.service.system.settings import OptionError, TryLater
from grid.shared import homes
from grid.shared.holder import Holder
from grid.shared.homes import HomeRefused, NoSpace
from grid.shared.wire import grid_home

EXIT_REFUSED = 78
"""The service cannot serve as configured, and starting it again will not help (EX_CONFIG of sysexits.h)."""
EXIT_TRY_LATER = 75
"""The service cannot serve now, but another try may help (EX_TEMPFAIL)."""
EXIT_NOT_DONE = 1
"""Something has not ended that should have."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    home = given.home or grid_home()
    try:
        return int(given.command(home, given))
    except (HomeRefused, OptionError) as error:
        return _refused(error, EXIT_TRY_LATER if isinstance(error, (NoSpace, TryLater)) else EXIT_REFUSED)


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
    from grid.service.command.server import serve  # noqa: PLC0415
    from grid.service.command.shutdown import ExperimentsLeft  # noqa: PLC0415
    from grid.service.store.faults import DatabaseUnavailable  # noqa: PLC0415

    chosen = options.for_serve(home, given)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
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

    ended, missing = f"stopped the service of {home}", f"no service is running in {home}"
    try:
        if given.stop_experiments:
            was_running = stop_with_experiments(options.for_stop(home, given))
            ended, missing = f"{ended} and its experiments", f"no service was running in {home}; no experiments run now"
        else:
            was_running = stop(home)
    except NotStopped as error:
        return _refused(error, EXIT_NOT_DONE)
    sys.stdout.write(f"{ended if was_running else missing}\n")
    return 0


def _status(home: Path, _: argparse.Namespace) -> int:
    record = _running(home)
    if record is None:
        sys.stdout.write(f"no service is running in {home}\n")
        return 3  # what init scripts return for a service that is not running
    sys.stdout.write(f"{record['url']}  home {home}  process {record['pid']}  version {record['version']}\n")
    return 0


def _credentials(home: Path, _: argparse.Namespace) -> int:
    record = _running(home)
    if record is None:
        sys.stderr.write(f"error: no service is running in {home}\n")
        return 3
    credentials = {"UserID": record["user_id"], "APIKey": record["api_key"], "URL": record["url"]}
    sys.stdout.write(json.dumps(credentials, indent=2) + "\n")
    return 0


def _running(home: Path) -> dict[str, Any] | None:
    homes.refuse_elsewhere(home)
    try:
        record: dict[str, Any] = json.loads((homes.service_folder(home) / homes.RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    process = Holder(record["pid"], record["start"], record["boot"], "", record["host"])
    return record if process.is_alive() else None
