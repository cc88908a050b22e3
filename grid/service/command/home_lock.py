"""Holding a home: the lock that one service has at a time, and the link that tells the others which one.

What client and service both check about a home is in `grid.shared.homes`.
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
"""How long the lock may be held by a process that has not written itself down."""
_POLL_SECONDS = 0.01


class HomeInUse(HomeRefused):
    """Another service uses this home."""


class NotKept(Exception):
    """The keeper that started this service has been told to start none."""


@contextmanager
def taken(workspace: Workspace, *, kept_by: str = "") -> Iterator[locks.Lock]:
    """Hold a home; its folders are made if they do not exist.

    Parameters
    ----------
    workspace
        The home.
    kept_by
        What `service/keeper` must say from now on, if a keeper has started this process.

    Raises
    ------
    HomeInUse
        If another service uses it.
    HomeRefused
        If it cannot be used here.
    NotKept
        If that keeper has been told to end.
    """
    # Checked before anything is made: the home may have been removed after its keeper was ended.
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
            # The record of a service that was killed is no longer true.
            (workspace.service / homes.RECORD).unlink(missing_ok=True)
        except OSError as error:
            raise homes.explained(error, workspace.home) from error
        try:
            # Checked again now that the lock is held: `stop` removes the keeper's link, and then looks for a holder.
            _require_keeper(workspace, kept_by)
            yield lock
        finally:
            if _says(owner, ours):
                owner.unlink()


def holder(home: Path) -> Holder | None:
    """Return the process that holds a home; None if there is none.

    Raises
    ------
    HomeRefused
        If a process holds it, but cannot be identified.
    """
    service = homes.service_folder(home)
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        if not locks.is_held(service / homes.LOCK):
            return None
        # A process that has just taken the lock is about to write itself down.
        if (found := Holder.read(service / homes.OWNER)) is not None and found.is_alive():
            return found
        time.sleep(_POLL_SECONDS)
    message = f"a service uses {home} that cannot be identified from here, perhaps in another container: stop it there"
    raise HomeInUse(message)


def _require_keeper(workspace: Workspace, kept_by: str) -> None:
    if kept_by and not _says(workspace.service / homes.KEEPER, kept_by):
        raise NotKept


def _lock(workspace: Workspace) -> locks.Lock:
    def is_known() -> bool:
        # A client holds the lock for a moment when it checks it, and a command that makes the database for somewhat
        # longer: neither writes itself down.
        found = Holder.read(workspace.service / homes.OWNER)
        return found is not None and found.is_alive()

    try:
        return locks.acquire(workspace.service / homes.LOCK, seconds=_LOCK_SECONDS, unless=is_known)
    except locks.StillHeld:
        message = f"another service uses {workspace.home}: stop it, or choose another GRID_HOME"
        raise HomeInUse(message) from None


def _write_down(owner: Path, ours: str, home: Path) -> None:
    while True:
        # Checked again, and written in one step: another machine may not see our lock.
        homes.refuse_elsewhere(home)
        try:
            owner.symlink_to(ours)
        except FileExistsError:
            # Left by a service that was killed. One of another machine that came just now is refused above.
            if (found := Holder.read(owner)) is None or not found.is_elsewhere():
                owner.unlink(missing_ok=True)
        else:
            return


def _says(link: Path, text: str) -> bool:
    try:
        return str(link.readlink()) == text
    except OSError:  # there is none, or it is not a link
        return False
