"""Finds the embedded service of this ``GRID_HOME``, and starts it if there is none. Imports nothing of it.

The service holds a lock on ``service/service.lock`` for as long as it lives, and writes where it is to
``service/service.json``. It outlives this process: a keeper starts it again when it ends uncleanly, and it ends by
itself after it has been idle for a while.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from grid.errors import EmbeddedServiceFailed
from grid.session.waiting import told
from grid.shared import environment, homes, locks
from grid.shared.holder import Holder
from grid.shared.homes import HomeRefused
from grid.shared.wire import grid_home

_START_SECONDS = 30.0
_POLL_SECONDS = 0.01
_PAUSE_SECONDS = 0.1
_IDLE_SECONDS = 30 * 60
_LOG_LINES = 15

# The keeper first reads a line: its own record, once that has been written to `service/keeper`. If the process that
# started it dies before that, there is nothing for it to do. Then it starts the service, again and again for as long as
# its record is there.
#
# It ends with the service if that ended well (0) or would fail to start again (78, see `grid.service.command`).
# Otherwise it starts another: the first time at once, then after a pause that doubles up to a hundred times the first
# one, which is less than a client waits for a service. After a service that lived for a minute it begins anew. It gives
# up after eight in a row that have not served; if what is missing may come back (75: room on the disk), only if none
# has served yet, because somebody waits for the first.
_KEEPER = """
read -r record || exit 1
exec </dev/null
folder=$1
least=$2
shift 2
code=0
failures=0
once=
pause=0
while [ "$(readlink "$folder/keeper")" = "$record" ]; do
    rm -f "$folder/served"
    begun=$(date +%s)
    "$@" --kept-by "$record"
    code=$?
    case $code in 0|78) break;; esac
    if [ -e "$folder/served" ]; then
        once=1
        failures=0
        [ $(($(date +%s) - begun)) -lt 60 ] || pause=0
    elif [ "$code" -eq 75 ]; then
        [ -n "$once" ] || break
    else
        failures=$((failures + 1))
        [ "$failures" -lt 8 ] || break
    fi
    seconds=$((pause / 1000)).$(printf %03d $((pause % 1000)))
    echo "$(date '+%Y-%m-%d %H:%M:%S') the service ended with code $code: starting another in $seconds s"
    [ "$pause" -eq 0 ] || sleep "$seconds" || sleep 1
    pause=$((pause * 2))
    [ "$pause" -gt 0 ] || pause=$least
    [ "$pause" -le $((least * 100)) ] || pause=$((least * 100))
done
[ "$(readlink "$folder/keeper")" = "$record" ] && rm -f "$folder/keeper"
exit "$code"
"""

# The folder that grid was found in may be one that only this process searches; it goes last, so that it hides nothing.
_ENTRY = "import sys; sys.path.append(sys.argv.pop(1)); from grid.service.__main__ import main; sys.exit(main())"


def find_or_start(*, pause_seconds: float = _PAUSE_SECONDS) -> dict[str, Any]:
    """Return what the embedded service says about itself: ``url``, ``user_id``, ``api_key`` and more.

    Two processes that call this at once get the same service.

    Parameters
    ----------
    pause_seconds
        The shortest pause that a keeper which is started here makes between two services.

    Raises
    ------
    EmbeddedServiceFailed
        If it cannot be started, or this home cannot be used; the message says why, or quotes the end of its log.
    """
    try:
        locks.require_support()
    except locks.Unsupported:
        message = f"the embedded service does not run on {sys.platform}; set GRID_URL to the address of a service"
        raise EmbeddedServiceFailed(message) from None
    home = grid_home()
    try:
        try:
            running = None
            while running is None:
                folder = homes.prepare(home)
                running = homes.read_record(home) or _find(home, folder, pause_seconds)
        except OSError as error:
            raise homes.explained(error, home) from error
    except HomeRefused as error:
        raise EmbeddedServiceFailed(str(error)) from error
    return running


def _find(home: Path, folder: Path, pause_seconds: float) -> dict[str, Any] | None:
    """Start the service, unless another process does; None if the home was removed while we waited for that one."""
    with told(f"another process, which is starting or stopping the service of {home}"):
        lock = locks.acquire(folder / homes.START_LOCK)
    with lock:
        return None if lock.is_lost() else _start(home, folder, pause_seconds)


def _start(home: Path, folder: Path, pause_seconds: float) -> dict[str, Any]:
    """Wait for the service; start a keeper if nothing else will bring it back."""
    keeper: subprocess.Popen[bytes] | None = None
    begun = 0
    deadline = time.monotonic() + _START_SECONDS
    try:
        with told(lambda: f"{_awaited(folder)}; its log is {folder / homes.LOG}"):
            while (running := homes.read_record(home)) is None:
                if time.monotonic() > deadline:
                    raise _failure(folder, "does not answer", begun)
                # The last two in this order: the keeper on record starts the service that takes the lock.
                if keeper is None and not _is_kept(folder) and not locks.is_held(folder / homes.LOCK):
                    keeper, begun = _launch(home, folder, pause_seconds)
                # A service that lost to another one has ended, too, and that other one is what we want.
                elif keeper is not None and keeper.poll() is not None and not locks.is_held(folder / homes.LOCK):
                    raise _failure(folder, f"ended with code {keeper.returncode}", begun)
                time.sleep(_POLL_SECONDS)
    finally:
        if keeper is not None and keeper.returncode is None:
            # Nothing waits for the keeper: it outlives us.
            keeper.returncode = 0
    return running


def _awaited(folder: Path) -> str:
    """Return what a process waits for that has found no record of the service."""
    if locks.is_held(folder / homes.LOCK):
        owner = Holder.read(folder / homes.OWNER)
        return f"the embedded service{f', process {owner.pid},' if owner else ''} to say where it listens"
    keeper = Holder.read(folder / homes.KEEPER)
    return f"the embedded service to start{f', which process {keeper.pid} sees to' if keeper else ''}"


def _launch(home: Path, folder: Path, pause_seconds: float) -> tuple[subprocess.Popen[bytes], int]:
    """Start a keeper and put it on record; return it, and where its part of the log begins."""
    idle = os.environ.get("GRID_IDLE_TIMEOUT", str(_IDLE_SECONDS))
    service = [sys.executable, "-c", _ENTRY, str(Path(__file__).parents[2])]
    service += ["serve", "--home", str(home), "--embedded", "--idle", idle]
    with _log(folder / homes.LOG) as output:
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "grid-keeper", str(folder), str(round(pause_seconds * 1000)), *service],
            env=environment.of_service(os.environ),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,  # Ctrl-C at this prompt is not meant for it
        )
        assert keeper.stdin is not None
        try:
            holder = Holder.of(keeper.pid)
            holder.write(folder / homes.KEEPER)
            keeper.stdin.write(f"{holder}\n".encode())
            keeper.stdin.close()
        except BaseException:
            with contextlib.suppress(BrokenPipeError):
                keeper.stdin.close()
            keeper.wait()  # it has read nothing, and ends
            raise
        return keeper, output.tell()


def _log(path: Path) -> IO[bytes]:
    """Open the log for appending. A log that has become long is kept under another name, replacing the one before.

    The service does the same while it runs. But services that never get that far write into it, too.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > homes.MAX_LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    log = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)  # noqa: SIM115 - returned
    try:
        os.fchmod(log.fileno(), 0o600)
        try:
            # A full disk shows up here: the service could not even report it.
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} starting the embedded service\n".encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        log.close()
        raise
    return log


def _failure(folder: Path, why: str, begun: int) -> EmbeddedServiceFailed:
    log = folder / homes.LOG
    try:
        with log.open("rb") as file:
            file.seek(min(begun, os.fstat(file.fileno()).st_size))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    message = f"the embedded service {why}; the end of its log, {log}:\n" + "\n".join(lines[-_LOG_LINES:])
    return EmbeddedServiceFailed(message)


def _is_kept(folder: Path) -> bool:
    """Return whether a keeper is alive, which will bring the service back."""
    keeper = Holder.read(folder / homes.KEEPER)
    return keeper is not None and keeper.is_alive()
