"""The files that hold the key of a home's own user: the system account, whose key the service itself makes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from grid.service.command.printing import refusal
from grid.service.system.workspace import Workspace, write_private
from grid.shared import homes, locks

START_SECONDS = 30.0
"""How long to wait for a service that is starting."""

_Running = Callable[[], "dict[str, Any] | None"]


class KeyFiles:
    """The files that hold the key of the home's own user, while it is replaced: all of them are, or none.

    What needs room on the disk is written before the database is changed; what is left to be done then is to rename.
    """

    def __init__(self, workspace: Workspace, running: _Running, key: str) -> None:
        self._workspace = workspace
        self._running = running
        self._key = key
        self._file = workspace.service / homes.KEY
        self._before = self._file.with_name(f"{self._file.name}.before")
        self._record = workspace.service / homes.RECORD
        self._next_record = self._record.with_name(f"{self._record.name}.next")
        self._was: dict[str, Any] | None = None
        self._is_replaced = False

    def __enter__(self) -> None:
        """Begin with nothing of an earlier command that was killed."""
        self._tidy()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Put the old key back if the new one was not committed."""
        if kind is not None and self._is_replaced:
            self._before.replace(self._file)
        self._tidy()

    def replace(self) -> None:
        """Put the new key into the file that the service reads at its start."""
        try:
            os.link(self._file, self._before)
            self._was = self._running()
            if self._was is not None:
                write_private(self._next_record, self._content(self._was))
            write_private(self._file, self._key.encode())
        except OSError as error:
            raise refusal(f"cannot write {self._file}: {error.strerror}; nothing was changed", error) from error
        self._is_replaced = True

    def tell_service(self) -> None:
        """Put the new key where logins find it, if a service is running; wait for one that is starting."""
        self._is_replaced = False  # it stays: the database has it
        home = self._workspace.home
        try:
            with settled(self._workspace, self._running) as record:
                if record is not None and record == self._was:
                    self._next_record.replace(self._record)
                elif record is not None and record["api_key"] != self._key:
                    write_private(self._record, self._content(record))
        except locks.StillHeld:
            sys.stderr.write(
                f"warning: the service of {home} has been starting for {START_SECONDS:g} s, and may still\n"
                "give login() the old key: stop it (python -m grid.service stop); the next login() starts it again.\n"
            )
        except OSError as error:
            message = (
                f"the key was replaced, but {self._record} cannot be written: {error.strerror}. login() gets the old "
                "one there until the service is stopped (python -m grid.service stop) and started again"
            )
            raise refusal(message, error) from error

    def _content(self, record: dict[str, Any]) -> bytes:
        return json.dumps({**record, "api_key": self._key}, indent=2).encode()

    def _tidy(self) -> None:
        for path in (self._before, self._next_record):
            path.unlink(missing_ok=True)


@contextmanager
def settled(workspace: Workspace, running: _Running) -> Iterator[dict[str, Any] | None]:
    """Wait for a service that is starting; yield the record of the one that is running.

    If none is running, that is None, and none can start meanwhile, because its lock is held here.
    """
    record: dict[str, Any] | None = None

    def runs() -> bool:
        nonlocal record
        record = running()
        return record is not None

    try:
        lock = locks.acquire(workspace.service / homes.LOCK, seconds=START_SECONDS, unless=runs)
    except locks.StillHeld:
        if record is None:
            raise
    else:
        with lock:
            yield None
        return
    yield record
