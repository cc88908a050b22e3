"""What a database's errors mean: which are the fault of a disk or of another program, and the words for them.

Clients are told neither paths nor a driver's words; the log and the operator are.
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
    """What it is or does."""
    advice: str
    """What its operator can do."""
    passes: bool = False
    """Whether it may be over at the next try without anybody changing how the service is set up."""


class DatabaseUnavailable(Exception):
    """The database could not be used.

    Whether what was asked for is written is not known: a commit may have succeeded and its report be lost. Whoever
    asks again has to look first, or to ask for what may be done twice.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"the service's database {fault.words}; try again later")
        self.fault = fault


class StatementFailed(Exception):
    """The database does not carry out a statement: what is wrong is the statement, and not the database."""


class AlreadyThere(Exception):
    """A row is not inserted because there is one already that it may not stand beside."""


_FULL = Fault("finds no space: its disk is full", "make space on that disk", passes=True)
_BROKEN = Fault("cannot be read or written: its disk reports an error", "see to that disk", passes=True)
_LOCKED = Fault("is locked by another program", "end that program, or wait for it", passes=True)
_SILENT = Fault("does not answer", "see to its server", passes=True)
_READ_ONLY = Fault(
    "cannot be written: its file or folder is read-only", "make both writable, or choose another GRID_HOME"
)
_CLOSED = Fault("cannot be opened", "see that its file and its folder are there and may be read and written")
MOVED = Fault(
    "is not the file any more that was opened: it was removed or replaced",
    "put it back, or stop the service and start it again",
)
DAMAGED = Fault(
    "is damaged, or is no database",
    "put a copy of it in its place, or move it away with what lies beside it (-wal, -shm) to begin anew",
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
    """Say what an error of the database means; None where it is the fault of a statement, not of the database."""
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
