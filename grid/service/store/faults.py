"""What a database's errors mean: which are the fault of a disk or of another program, and how messages describe them.

Clients are told neither paths nor a driver's messages; the log and the operator are.
"""

from __future__ import annotations

import errno
import sqlite3
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a database cannot be used."""

    words: str
    """What is wrong with it, as the end of a sentence about the database."""
    advice: str
    """What its operator can do."""
    passes: bool = False
    """Whether another try may succeed without a change to how the service is set up."""


class DatabaseUnavailable(Exception):
    """The database could not be used.

    It is not known whether the write was made: a commit may have succeeded and its confirmation been lost. A caller
    that tries again must check first, or ask for something that may safely be done twice.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"the service's database {fault.words}; try again later")
        self.fault = fault


class StatementFailed(Exception):
    """The database refused a statement: what is wrong is the statement, not the database."""


class AlreadyThere(Exception):
    """A row was not inserted because it would duplicate one that must be unique."""


_FULL = Fault("has no space left: its disk is full", "make space on that disk", passes=True)
_BROKEN = Fault("cannot be read or written: its disk reports an error", "check that disk", passes=True)
_LOCKED = Fault("is locked by another program", "end that program, or wait for it", passes=True)
_SILENT = Fault("does not answer", "check its server", passes=True)
_READ_ONLY = Fault(
    "cannot be written: its file or folder is read-only", "make both writable, or choose another GRID_HOME"
)
_CLOSED = Fault("cannot be opened", "check that its file and its folder exist and can be read and written")
MOVED = Fault(
    "is no longer the file that was opened: it was removed or replaced",
    "put it back, or stop the service and start it again",
)
DAMAGED = Fault(
    "is damaged, or is not a database",
    "put a copy in its place, or move it away, with the files beside it (-wal, -shm), to start with a new one",
)

_SQLITE = {
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_IOERR: _BROKEN,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}
"""By SQLite's primary result code."""


def fault_of(error: BaseException) -> Fault | None:
    """Return what an error of the database means; None if it is the fault of a statement, not of the database."""
    if isinstance(error, DatabaseUnavailable):
        return error.fault
    if isinstance(error, OSError):
        return _FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else _BROKEN
    if isinstance(error, sa.exc.TimeoutError):
        return _SILENT  # every connection is busy
    if isinstance(error, sa.exc.DBAPIError):
        if isinstance(error.orig, sqlite3.Error):
            return _of_sqlite(error.orig)
        if error.connection_invalidated or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
            return _SILENT
    return _of_sqlite(error) if isinstance(error, sqlite3.Error) else None


def _of_sqlite(error: sqlite3.Error) -> Fault | None:
    # The lowest byte is the primary code. An error of the driver itself has none.
    return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
