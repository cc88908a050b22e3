"""Ending what holds a home: first the keeper, then the service and, on request, its experiments.

The command `stop` does all of this; a service that is told to stop ends its experiments with the same function.

The keeper comes first. Without its link it starts no more services, and a service that it has just started ends by
itself once it has the lock. So the service that then holds the lock is the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from grid.service.command import home_lock
from grid.service.system.settings import Options
from grid.service.system.workspace import Workspace
from grid.shared import homes, locks
from grid.shared.holder import Holder
from grid.shared.processes import PROC

if TYPE_CHECKING:
    from grid.service.http.app import Application

_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02
_EXPERIMENTS_SECONDS = 15.0
"""How long experiments may take to end beyond the grace period."""
_STRANGERS_SECONDS = 5.0
"""The same for those that this process cannot end itself."""
_NAMED = 10
"""How many of the remaining experiments an error names."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was found, and what is known of the experiments now."""

    was_running: bool
    """Whether there was a service, or its keeper."""
    has_looked: bool
    """Whether there is a database, and it has no running experiments any more."""


class NotStopped(RuntimeError):
    """A process or an experiment has not ended."""


class ExperimentsLeft(NotStopped):
    """Experiments that were to end with the service have not ended."""


def stop(home: Path) -> bool:
    """End the service of a home and its keeper; return whether there was one. Running experiments continue.

    Raises
    ------
    HomeRefused
        If the service runs on another machine, or cannot be identified.
    NotStopped
        If it does not end.
    """
    homes.refuse_elsewhere(home)
    was_kept = _end_keeper(home)
    return _end_service(home, signal.SIGTERM, _STOP_SECONDS) or was_kept


def stop_with_experiments(options: Options) -> Stopped:
    """End the service of a home, its keeper, and all running experiments.

    Queued experiments stay queued. If no service is running, or it could not end them all, this process does.

    Parameters
    ----------
    options
        How the service is set up: its home, its database unless one is running that says which, and the grace period of
        its experiments.

    Raises
    ------
    HomeRefused, NotStopped
        As for `stop`; also if experiments do not end.
    OptionError
        If the database cannot be used.
    """
    home = options.home
    homes.refuse_elsewhere(home)
    if not options.database and (record := homes.read_record(home)) is not None:
        options = replace(options, database=record.get("database", ""))
    was_running = _end_keeper(home)
    with _no_login(home):
        was_running |= _end_keeper(home)
        was_running |= _end_service(home, signal.SIGUSR1, options.grace_seconds + _STOP_SECONDS)
        has_looked = bool(options.database) or Workspace(home).database.exists()
        if has_looked:
            asyncio.run(_end_experiments(options))
    _wait_for_strangers(home, options.grace_seconds + _STRANGERS_SECONDS)
    return Stopped(was_running, has_looked)


async def end_experiments(application: Application, insisted: asyncio.Event) -> None:
    """End all running experiments, and return when their ends are recorded.

    Parameters
    ----------
    application
        The open application.
    insisted
        Set when a second signal asks not to wait any longer.

    Raises
    ------
    ExperimentsLeft
        If some have not ended in time.
    """
    limit = application.options.grace_seconds + _EXPERIMENTS_SECONDS
    ending = asyncio.create_task(application.stop_experiments())
    insisting = asyncio.create_task(insisted.wait())
    await asyncio.wait({ending, insisting}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    insisting.cancel()
    if ending.done():
        await ending
        return
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    left = await application.running_experiments()
    if left:
        why = "cut short by a second signal" if insisted.is_set() else f"{limit:g} s were not enough"
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        message = (
            f"not every experiment has ended ({why}): {', '.join(left[:_NAMED])}{more}; "
            f"to end them, run python -m grid.service stop --stop-experiments --home {application.options.home}"
        )
        raise ExperimentsLeft(message)


async def _end_experiments(options: Options) -> None:
    # Imported here: only this needs it, and it takes most of a second.
    from grid.service.http.app import opened  # noqa: PLC0415

    insisted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, insisted.set)
    with home_lock.taken(Workspace(options.home)):
        async with opened(options, starting=False) as application:
            await end_experiments(application, insisted)


def _wait_for_strangers(home: Path, seconds: float) -> None:
    """Wait for processes of experiments that no record tells of: those of a home that was removed, and made again.

    They end by themselves, or not: they are nobody's here.

    Raises
    ------
    NotStopped
        If some have not ended.
    """
    deadline = time.monotonic() + seconds
    while pids := _marked(home):
        if time.monotonic() > deadline:
            message = (
                f"processes of experiments are running that {home} has no record of, perhaps of an earlier home in its "
                f"place: {', '.join(map(str, pids))}; to end them, run kill {' '.join(map(str, pids))}"
            )
            raise NotStopped(message)
        time.sleep(_POLL_SECONDS)


def _marked(home: Path) -> list[int]:
    """Return the processes that have a home and an experiment in their environment; none if that cannot be seen."""
    found, place = [], os.fsencode(os.path.realpath(home))
    for folder in Path(PROC).glob("[1-9]*"):
        try:
            environment = dict(each.partition(b"=")[::2] for each in (folder / "environ").read_bytes().split(b"\0"))
        except OSError:  # it has ended, or is another user's
            continue
        if b"GRID_EXPERIMENT_ID" in environment and os.path.realpath(environment.get(b"GRID_HOME", b"/")) == place:
            found.append(int(folder.name))
    return sorted({*found} - {os.getpid()})


def _end_keeper(home: Path) -> bool:
    link = homes.service_folder(home) / homes.KEEPER
    keeper = Holder.read(link)
    if keeper is None or keeper.is_elsewhere():
        return False
    link.unlink(missing_ok=True)
    if not keeper.is_alive():
        return False
    _end(keeper, signal.SIGKILL, _STOP_SECONDS, f"the keeper of {home}")  # it has nothing to clean up
    return True


def _end_service(home: Path, number: signal.Signals, seconds: float) -> bool:
    service = home_lock.holder(home)
    if service is None:
        return False
    _end(service, number, seconds, f"the service of {home}")
    return True


def _end(process: Holder, number: signal.Signals, seconds: float, what: str) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(process.pid, number)
    deadline = time.monotonic() + seconds
    while process.is_alive():
        if time.monotonic() > deadline:
            message = f"{what}, process {process.pid}, has not ended"
            raise NotStopped(message)
        time.sleep(_POLL_SECONDS)


@contextmanager
def _no_login(home: Path) -> Iterator[None]:
    """Keep every `login()` from starting a service meanwhile, by making it wait."""
    try:
        lock = locks.acquire(homes.service_folder(home) / homes.START_LOCK, seconds=_STOP_SECONDS)
    except (FileNotFoundError, NotADirectoryError):  # there is no home
        yield
        return
    except locks.StillHeld:
        message = f"another process has been starting the service of {home} for {_STOP_SECONDS:g} s"
        raise NotStopped(message) from None
    with lock:
        yield
