"""Holding a home: the locks that one service has at a time, and what it tells others meanwhile.

What client and service both check about a home is in `grid.shared.homes`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from grid.service.system.workspace import PRIVATE_FILE, PRIVATE_FOLDER, Workspace, write_private
from grid.shared import homes, locks
from grid.shared.holder import Holder
from grid.shared.homes import HomeRefused

_LOCK_SECONDS = 10.0
"""How long the locks may be held by a process that is not on record, or that has lost one of them and is ending."""
_POLL_SECONDS = 0.01


class HomeInUse(HomeRefused):
    """Another service uses this home."""


class NotKept(Exception):
    """The keeper that started this service has been told to start none."""


class HeldHome:
    """A home that this process has, until it is removed.

    Its folders are known by their descriptors. Another home may take the place of one that was removed, and its service
    has records of the same names: those are never touched.

    Parameters
    ----------
    workspace
        The home.
    home, service
        The locks of the home itself, and of the file in its folder `service`.
    """

    def __init__(self, workspace: Workspace, home: locks.Lock, service: locks.Lock) -> None:
        self._workspace = workspace
        self._locks = (home, service)
        self._holder = Holder.of(os.getpid())
        self._record: dict[str, Any] | None = None
        self._missing: set[str] = set()
        self._home = home.fileno()
        self._service = os.open(workspace.service.name, os.O_RDONLY, dir_fd=self._home)

    def close(self) -> None:
        """Remove what still says that this process has the home, and let go of its folder."""
        try:
            if self._owner() == str(self._holder):
                os.unlink(homes.OWNER, dir_fd=self._service)
        finally:
            os.close(self._service)

    def is_lost(self) -> bool:
        """Return whether the home, or the file with its lock, was removed: another service may have it by now."""
        return any(lock.is_lost() for lock in self._locks)

    def sign(self) -> None:
        """Put this process on record as the one that has the home.

        Raises
        ------
        HomeRefused
            If the home was removed meanwhile, or a service of another machine has it.
        """
        self._sign()
        # The record of a service that was killed is no longer true.
        with suppress(FileNotFoundError):
            os.unlink(homes.RECORD, dir_fd=self._service)

    def require(self) -> None:
        """Do nothing while the home is there.

        Raises
        ------
        HomeRefused
            If it was removed.
        """
        if self.is_lost():
            message = f"{self._workspace.home} has been removed, and its service with it: start another"
            raise HomeRefused(message)

    @contextmanager
    def announced(self, record: dict[str, Any]) -> Iterator[None]:
        """Let clients read a record, to which is added which process wrote it; remove it at the end if it is ours.

        Raises
        ------
        HomeRefused
            If the home was removed.
        """
        self.require()
        ours = self._holder
        self._record = {**record, "pid": ours.pid, "start": ours.start, "boot": ours.boot, "host": ours.host}
        self._write_record()
        os.close(os.open(homes.SERVED, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE, dir_fd=self._service))
        try:
            yield
        finally:
            if self._is_announced():
                with suppress(FileNotFoundError):
                    os.unlink(homes.RECORD, dir_fd=self._service)

    def renew(self) -> list[str]:
        """Make again what was removed of a home that is still there; return the names.

        Raises
        ------
        HomeRefused, OSError
            If that is not possible.
        """
        made = [homes.OWNER] if self._sign() else []
        if self._record is not None and not self._is_announced():
            self._write_record()
            made.append(homes.RECORD)
        missing = {each.name for each in self._workspace.folders if not self._has(each.name)}
        # At the second look only: whoever is removing the whole home should not find a folder in it again.
        for name in sorted(missing & self._missing):
            os.mkdir(name, PRIVATE_FOLDER, dir_fd=self._home)
            made.append(name)
        self._missing = missing.difference(made)
        return made

    def _sign(self) -> bool:
        """Put this process on record unless it is; return whether that was necessary."""
        is_new = False
        while (owner := self._owner()) != str(self._holder):
            is_new = True
            self.require()
            # Checked again, and written in one step: another machine may not see our lock.
            homes.refuse_elsewhere(self._workspace.home, Holder.parsed(owner))
            # Left by a service that was killed. One of another machine that came just now is refused above.
            if owner is not None:
                with suppress(FileNotFoundError):
                    os.unlink(homes.OWNER, dir_fd=self._service)
            with suppress(FileExistsError):
                os.symlink(str(self._holder), homes.OWNER, dir_fd=self._service)
        return is_new

    def _has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._home)
        except FileNotFoundError:
            return False
        return True

    def _owner(self) -> str | None:
        """Return what the record of the home's process says; None if there is none."""
        try:
            return os.readlink(homes.OWNER, dir_fd=self._service)
        except FileNotFoundError:
            return None
        except OSError:  # it is not a link
            return ""

    def _is_announced(self) -> bool:
        """Return whether what clients read is of this process."""
        try:
            record = json.loads(self._read(homes.RECORD))
            return (record["pid"], record["start"]) == (self._holder.pid, self._holder.start)
        except (FileNotFoundError, ValueError, TypeError, KeyError):  # there is none, or it is damaged
            return False

    def _read(self, name: str) -> bytes:
        with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=self._service), "rb") as file:
            return file.read()

    def _write_record(self) -> None:
        assert self._record is not None
        record = self._record
        with suppress(FileNotFoundError):  # `users rotate` may have replaced it
            record = {**record, "api_key": self._read(homes.KEY).decode("ascii").strip()}
        write_private(Path(homes.RECORD), json.dumps(record, indent=2).encode(), folder=self._service)


@contextmanager
def taken(workspace: Workspace, *, kept_by: str = "") -> Iterator[HeldHome]:
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
    with contextlib.ExitStack() as stack:
        try:
            homes.prepare(workspace.home)
            workspace.prepare()
            ours = [stack.enter_context(lock) for lock in _locks(workspace)]
            held = stack.enter_context(contextlib.closing(HeldHome(workspace, *ours)))
            held.sign()
        except OSError as error:
            raise homes.explained(error, workspace.home) from error
        # Checked again now that the locks are held: `stop` removes the keeper's link, and then looks for a holder.
        _require_keeper(workspace, kept_by)
        yield held


def holder(home: Path) -> Holder | None:
    """Return the process that holds a home; None if there is none.

    Raises
    ------
    HomeRefused
        If a process holds it, but cannot be identified.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        if not homes.is_taken(home):
            return None
        # A process that has just taken the locks is about to write itself down.
        if (found := Holder.read(homes.service_folder(home) / homes.OWNER)) is not None and found.is_alive():
            return found
        time.sleep(_POLL_SECONDS)
    message = f"a service uses {home} that cannot be identified from here, perhaps in another container: stop it there"
    raise HomeInUse(message)


def _require_keeper(workspace: Workspace, kept_by: str) -> None:
    if kept_by and not _says(workspace.service / homes.KEEPER, kept_by):
        raise NotKept


def _locks(workspace: Workspace) -> Iterator[locks.Lock]:
    file = workspace.service / homes.LOCK

    def is_known() -> bool:
        # A client holds the lock of the file for a moment when it checks it, and a command that makes the database for
        # somewhat longer: neither writes itself down. A service that has the home's own lock alone has lost the other
        # one, and ends.
        found = Holder.read(workspace.service / homes.OWNER)
        return found is not None and found.is_alive() and locks.is_held(file)

    try:
        for path in (workspace.home, file):
            yield locks.acquire(path, seconds=_LOCK_SECONDS, unless=is_known)
    except locks.StillHeld:
        message = f"another service uses {workspace.home}: stop it, or choose another GRID_HOME"
        raise HomeInUse(message) from None


def _says(link: Path, text: str) -> bool:
    try:
        return str(link.readlink()) == text
    except OSError:  # there is none, or it is not a link
        return False
