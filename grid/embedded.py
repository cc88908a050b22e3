"""Finds the embedded service of this ``GRID_HOME``, and starts it where there is none. Imports nothing of it.

The service holds a lock on ``service/service.lock`` for as long as it lives and says in ``service/service.json`` where
it is. It outlives this process: a keeper starts it again when it ends uncleanly, and it ends by itself when it has been
idle.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grid.errors import EmbeddedServiceFailed
from grid.wire import grid_home

_START_SECONDS = 30.0
_POLL_SECONDS = 0.01
_IDLE_SECONDS = 30 * 60
_LOG_LINES = 15

# Ends with the service where it ended well (0) or would not start again either (78, see `grid.service.__main__`);
# otherwise starts it again, at once at first, and gives up after ten times of less than ten seconds in a row.
_KEEPER = """
failures=0
while :; do
    begun=$(date +%s)
    "$@" && exit 0
    code=$?
    [ "$code" -eq 78 ] && exit 78
    if [ $(($(date +%s) - begun)) -lt 10 ]; then failures=$((failures + 1)); else failures=1; fi
    [ "$failures" -ge 10 ] && exit "$code"
    [ "$failures" -gt 1 ] && sleep 1
done
"""

# Where grid was found may be a folder that only this process looks into; at the end, so that it hides nothing.
_ENTRY = "import sys; sys.path.append(sys.argv.pop(1)); from grid.service.__main__ import main; sys.exit(main())"


def find_or_start() -> dict[str, Any]:
    """Return what the embedded service says of itself: ``url``, ``user_id``, ``api_key`` and more.

    Two processes that call this at once get the same service.

    Raises
    ------
    EmbeddedServiceFailed
        If it cannot be started; the message quotes the end of its log.
    """
    home = grid_home()
    folder = home / "service"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        running = _read(folder)
        if running is None:
            with _only_one(folder):
                running = _read(folder) or _start(home, folder)
    except OSError as error:
        message = (
            f"cannot use {error.filename or home}: {error.strerror}; set GRID_HOME to a folder that you can write to"
        )
        raise EmbeddedServiceFailed(message) from error
    return running


def _read(folder: Path) -> dict[str, Any] | None:
    """Return what a service says of itself that is alive."""
    if not _is_held(folder / "service.lock"):
        return None
    try:
        record: dict[str, Any] = json.loads((folder / "service.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # damaged is as good as none: a service that lives writes it again
        return None
    return record


def _start(home: Path, folder: Path) -> dict[str, Any]:
    log = folder / "service.log"
    idle = os.environ.get("GRID_IDLE_TIMEOUT", str(_IDLE_SECONDS))
    service = ["-c", _ENTRY, str(Path(__file__).parents[1]), "serve", "--home", str(home), "--embedded", "--idle", idle]
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "grid-keeper", sys.executable, *service],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,  # Ctrl-C at this prompt is not meant for it
        )
    deadline = time.monotonic() + _START_SECONDS
    while (running := _read(folder)) is None:
        if keeper.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            why = f"ended with code {keeper.returncode}" if keeper.returncode is not None else "does not answer"
            message = f"the embedded service {why}; the end of its log, {log}:\n" + "\n".join(lines[-_LOG_LINES:])
            raise EmbeddedServiceFailed(message)
        time.sleep(_POLL_SECONDS)
    # Nobody waits for the keeper: it outlives us.
    keeper.returncode = 0
    return running


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    fcntl = _fcntl()
    with open(os.open(folder / "start.lock", os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_held(path: Path) -> bool:
    fcntl = _fcntl()
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _fcntl() -> Any:
    try:
        import fcntl  # noqa: PLC0415 - not everywhere
    except ImportError:
        message = f"the embedded service does not run on {sys.platform}; set GRID_URL to the address of a service"
        raise EmbeddedServiceFailed(message) from None
    return fcntl
