"""The operator's commands: `python -m grid.service serve | stop | status | credentials`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from grid.service.executors.supervisor import boot_id, process_start
from grid.service.options import DEFAULT_GRACE_SECONDS, OptionError, Options, number
from grid.wire import grid_home

EXIT_REFUSED = 78
"""The service cannot serve as it was told to, and starting it again would not help (EX_CONFIG of sysexits.h)."""

_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    home = given.home or grid_home()
    try:
        return int(given.command(home, given))
    except OptionError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grid.service", description="The service behind `from grid import …`."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--home", type=_path, help="where everything is kept (GRID_HOME; else ~/.grid)")
        sub.set_defaults(command=command)
        return sub

    serve = add("serve", _serve, "Serve in the foreground until SIGTERM or Ctrl-C. What runs then goes on.")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=0, help="the port to listen on (default: one that the system picks)")
    serve.add_argument(
        "--database", default="", help="another SQLite file, as SQLAlchemy writes it (default: one in the home)"
    )
    serve.add_argument("--cpus", help="CPUs that experiments share (GRID_LOCAL_CPUS; else the machine's)")
    serve.add_argument("--gpus", help="GPUs that experiments share (GRID_LOCAL_GPUS; else the machine's)")
    serve.add_argument("--grace", help="seconds from SIGTERM to SIGKILL at a cancel (GRID_CANCEL_GRACE; else 10)")
    serve.add_argument("--idle", help="stop after so many idle seconds (GRID_IDLE_TIMEOUT; else 0: never)")
    serve.add_argument("--embedded", action="store_true", help="run scripts with the interpreter of whoever logged in")
    serve.add_argument("--instance-types", type=_path, help="a catalogue instead of the one that is shipped")
    add("stop", _stop, "Stop the service of a home. What runs goes on, and is there when it is started again.")
    add("status", _status, "Say whether a service has a home, and where it listens.")
    add("credentials", _credentials, "Print user id, key and address in the form of credentials.json. They are secret.")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _serve(home: Path, given: argparse.Namespace) -> int:
    # Imported here: the other commands need nothing of it, and it takes most of a second.
    from grid.service.server import HomeInUse, serve  # noqa: PLC0415

    def choose(option: str, variable: str, default: float, *, least: float, whole: bool = False) -> float:
        text = getattr(given, option)
        if text is not None:
            return number(f"--{option}", text, least=least, whole=whole)
        text = os.environ.get(variable)
        return default if text is None else number(variable, text, least=least, whole=whole)

    gpus = choose("gpus", "GRID_LOCAL_GPUS", -1, least=0, whole=True)
    options = Options(
        home=home,
        host=given.host,
        port=given.port,
        database=given.database,
        cpus=int(choose("cpus", "GRID_LOCAL_CPUS", 0, least=1, whole=True)),
        gpus=None if gpus < 0 else int(gpus),
        grace_seconds=choose("grace", "GRID_CANCEL_GRACE", DEFAULT_GRACE_SECONDS, least=0),
        idle_seconds=choose("idle", "GRID_IDLE_TIMEOUT", 0, least=0),
        instance_types=given.instance_types,
        embedded=given.embedded,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # uvicorn stops in good order and then raises the signal that woke it again. As it is, SIGTERM would end the process
    # there and then, as if killed: this end is a good one, and the keeper of an embedded service must not undo it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(serve(options))
    except (HomeInUse, OptionError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 0  # uvicorn has stopped in good order and raises what woke it
    return 0


def _stop(home: Path, _: argparse.Namespace) -> int:
    record = _running(home)
    if record is None:
        sys.stdout.write(f"no service has {home}\n")
        return 0
    with contextlib.suppress(ProcessLookupError):  # it has ended just now
        os.kill(record["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while process_start(record["pid"]) == record["start"]:
        if time.monotonic() > deadline:
            sys.stderr.write(f"error: the service of {home}, process {record['pid']}, has not ended\n")
            return 1
        time.sleep(_POLL_SECONDS)
    sys.stdout.write(f"stopped the service of {home}\n")
    return 0


def _status(home: Path, _: argparse.Namespace) -> int:
    record = _running(home)
    if record is None:
        sys.stdout.write(f"no service has {home}\n")
        return 3  # what init scripts say of a service that is not running
    sys.stdout.write(f"{record['url']}  home {home}  process {record['pid']}  version {record['version']}\n")
    return 0


def _credentials(home: Path, _: argparse.Namespace) -> int:
    record = _running(home)
    if record is None:
        sys.stderr.write(f"error: no service has {home}\n")
        return 3
    credentials = {"UserID": record["user_id"], "APIKey": record["api_key"], "URL": record["url"]}
    sys.stdout.write(json.dumps(credentials, indent=2) + "\n")
    return 0


def _running(home: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((home / "service" / "service.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    alive = record["boot"] == boot_id() and process_start(record["pid"]) == record["start"]
    return record if alive else None


if __name__ == "__main__":
    sys.exit(main())
