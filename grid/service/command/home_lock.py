"""Having a home: the lock that one service holds at a time, and the link that tells everybody else who does.

What both the client and the service judge of a home is in `grid.shared.homes`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grid.service.system.workspace import Workspace
from grid.shared import homes, locks
from grid.shared.holder import Holder
from grid.shared.homes import HomeRefused

_LOCK_SECONDS = 5.0
"""How long the lock may be held by somebody who is not known."""
_POLL_SECONDS = 0.01


class HomeInUse(HomeRefused):
    """Another service has this home."""


class NotKept(Exception):
    """The keeper that has started this service is not to do so any more."""


@contextmanager
def taken(workspace: Workspace, *, kept_by: str = "") -> Iterator[locks.Lock]:
    """Have a home, whose folders are made where they are not there.

    Parameters
    ----------
    workspace
        The home.
    kept_by
        What `service/keeper` has to say from now on, where a keeper has started this process.

    Raises
    ------
    HomeInUse
        If another service has it.
    HomeRefused
        If it cannot be used here.
    NotKept
        If that keeper has been told to end.
    """
    # Before anything is made: whoever has ended the keeper may have removed the home, too.
    _require_keeper(workspace, kept_by)
    try:
        homes.prepare(workspace.home)
        workspace.prepare()
        lock = _lock(workspace)
    except OSError as error:
        raise homes.explained(error, workspace.home) from error
    with lock:
        ours = str(Holder.of(os.getpid()))
        owner = workspace.service / homes.OWNER
        try:
            _write_down(owner, ours, workspace.home)
            # What a service that was killed said of itself is not true any more.
            (workspace.service / homes.RECORD).unlink(missing_ok=True)
        except OSError as error:
            raise homes.explained(error, workspace.home) from error
        try:
            # Looked at now: who ends a keeper removes this, and then looks who has the lock.
            _require_keeper(workspace, kept_by)
            yield lock
        finally:
            if _says(owner, ours):
                owner.unlink()


def holder(home: Path) -> Holder | None:
    """Return the process that has a home; None where nobody has.

    Raises
    ------
    HomeRefused
        If somebody has it, and it cannot be told who.
    """
    service = homes.service_folder(home)
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        if not locks.is_held(service / homes.LOCK):
            return None
        # One that has just taken the lock is about to write itself down.
        if (found := Holder.read(service / homes.OWNER)) is not None and found.is_alive():
            return found
        time.sleep(_POLL_SECONDS)
    message = f"a service has {home} that cannot be told from here, perhaps in another container: stop it there"
    raise HomeInUse(message)


def _require_keeper(workspace: Workspace, kept_by: str) -> None:
    if kept_by and not _says(workspace.service / homes.KEEPER, kept_by):
        raise NotKept


def _lock(workspace: Workspace) -> locks.Lock:
    def is_known() -> bool:
        # A client holds it for a moment when it looks whether somebody does, and a command that makes the database
        # for somewhat longer: neither writes itself down.
        found = Holder.read(workspace.service / homes.OWNER)
        return found is not None and found.is_alive()

    try:
        return locks.acquire(workspace.service / homes.LOCK, seconds=_LOCK_SECONDS, unless=is_known)
    except locks.StillHeld:
        message = f"another service has {workspace.home}: stop it, or choose another GRID_HOME"
        raise HomeInUse(message) from None


def _write_down(owner: Path, ours: str, home: Path) -> None:
    while True:
        # Again, and in one step: another machine may not see our lock.
        homes.refuse_elsewhere(home)
        try:
            owner.symlink_to(ours)
        except FileExistsError:
            # Of a service that was killed. One of another machine that has come this very moment is refused above.
            if (found := Holder.read(owner)) is None or not found.is_elsewhere():
                owner.unlink(missing_ok=True)
        else:
            return


def _says(link: Path, text: str) -> bool:
    try:
        return str(link.readlink()) == text
    except OSError:  # there is none, or it is no link
        return False
