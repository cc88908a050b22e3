"""Opens an SQLite file: makes it if there is none, checks it, and uses the settings that keep it sound."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine, event

from grid.service.store.faults import DAMAGED
from grid.service.system.durable import sync_folder
from grid.service.system.machine import boot_time
from grid.service.system.settings import OptionError
from grid.service.system.workspace import PRIVATE_FILE

_BUSY_SECONDS = 5
"""How long to wait for another program that has locked the file; shorter than a client's patience."""

_SMALL = 64 * 1024**2
"""The size of a file, in bytes, whose pages are all checked in a moment."""


class File:
    """The file of an SQLite database."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    @classmethod
    def of(cls, url: URL) -> File | None:
        """Return the file that a URL names; None if it is not the URL of an SQLite database."""
        if url.get_backend_name() != "sqlite":
            return None
        if not url.database or url.database.startswith((":", "file:")):
            message = f"the database {url} is in memory or has no plain path: give it as sqlite:////path/to/file"
            raise OptionError(message)
        return cls(Path(url.database).absolute())

    def prepare(self) -> bool:
        """Make the file if there is none; return whether every page of it must be checked before it is used.

        That is so after an unclean end. A large file, whose check would take many seconds, is only checked if the
        machine has been started since: a process that is killed leaves all that it wrote, and a machine may not.

        Only the service's user can read it: SQLite gives the files beside it the same mode.

        Raises
        ------
        OptionError
            If there is no folder for it.
        """
        if not self.path.parent.is_dir():
            message = f"the database {self.path} cannot be used: the folder {self.path.parent} does not exist"
            raise OptionError(message)
        if not self.path.exists():
            # Never opened if it exists: closing it would drop the locks that SQLite holds on it in this process.
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE))
            sync_folder(self.path.parent)
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            written = log.stat()
        except FileNotFoundError:
            return False
        # A database that was closed in good order leaves no log of changes still to be written into it.
        was_interrupted = written.st_size > 0
        return was_interrupted and (self.path.stat().st_size <= _SMALL or written.st_mtime <= (boot_time() or math.inf))

    def check(self, engine: Engine, *, thoroughly: bool) -> None:
        """Require that the file can be written, and, if asked to, that it is sound.

        Parameters
        ----------
        engine
            The engine of this file.
        thoroughly
            Whether to check every page. Measured: 10 ms for 10,000 experiments, 1 s for 500 MiB.
        """
        with engine.execution_options(immediate=True).connect() as connection:
            # BEGIN IMMEDIATE alone accepts a file that can only be read. This sets the value it has, and is undone.
            connection.exec_driver_sql("PRAGMA user_version=0")
            if thoroughly and (found := connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()) != "ok":
                message = f"the database {self.path} {DAMAGED.words}: {found}; {DAMAGED.advice}"
                raise OptionError(message)
        self._identity = self._identify()

    def is_in_place(self) -> bool:
        """Return whether the path still leads to the file that was opened: writes to a file that was moved are lost."""
        try:
            return self._identify() == self._identity
        except FileNotFoundError:
            return False

    def _identify(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino


def make_engine(url: URL, *, connections: int) -> Engine:
    """Return the engine of an SQLite file.

    A transaction begins with its first statement. With the engine's option ``immediate`` it is then the only one that
    may write, so that nothing it has read changes before it writes.

    Parameters
    ----------
    url
        The file's URL. ``?timeout=`` says how many seconds to wait for another program that has locked it.
    connections
        How many connections the pool keeps.
    """
    timeout = url.query.get("timeout", _BUSY_SECONDS)
    arguments = {"check_same_thread": False, "timeout": float(str(timeout))}
    engine = sa.create_engine(url, pool_size=connections, hide_parameters=True, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # The driver begins its own transactions too late for a guarded update: ours begin explicitly, below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


DriverError = sqlite3.Error
"""What the driver raises."""


class Unanswered(Exception):
    """A direct query has no answer now, because another program has locked the database."""


class Broken(Exception):
    """A direct query can no longer be asked, for a reason that does not pass by itself."""


class DirectQuery:
    """One statement, answered on the caller's own thread over a connection of its own; it never waits.

    Parameters
    ----------
    engine
        Of an SQLite file.
    statement
        What to ask; its parameters are bound by their places.
    """

    def __init__(self, engine: Engine, statement: sa.Select[Any]) -> None:
        connection: Any = engine.raw_connection()
        self._driver = connection.driver_connection
        connection.detach()
        # No waiting here if another program has locked the database.
        self._driver.execute("PRAGMA busy_timeout=0")
        self._driver.execute("PRAGMA query_only=ON")
        self._text = str(statement.compile(engine))

    @classmethod
    def of(cls, engine: Engine, statement: sa.Select[Any]) -> DirectQuery | None:
        """Return the query; None if the database is not SQLite."""
        return cls(engine, statement) if engine.dialect.name == "sqlite" else None

    def first(self, *values: object) -> Sequence[Any] | None:
        """Return the first row of the answer; None if it has no rows.

        Raises
        ------
        Unanswered
            If the database is locked: ask in the ordinary way, which waits.
        Broken
            If anything else is wrong: ask in the ordinary way, which explains, and make another query.
        """
        try:
            # All rows are fetched, so that the statement ends: an open one would see the same data for ever.
            rows = self._driver.execute(self._text, values).fetchall()
        except sqlite3.Error as error:
            # The lowest byte is the primary code. An error of the driver itself has none.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Unanswered from error
            raise Broken(str(error)) from error
        return rows[0] if rows else None

    def close(self) -> None:
        """Close the connection."""
        self._driver.close()


def is_in_transaction(connection: Connection) -> bool:
    """Return whether the transaction is still open: after some errors SQLite ends it by itself, and undoes it all."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.name != "sqlite" or bool(driver.in_transaction)


class ByColumn:
    """A statement whose rows are wanted by column.

    The driver hands over SQLite's rows one by one, and takes and gives back the interpreter's lock for each: where
    other threads are busy, each row may wait for them. As JSON, all rows are handed over at once.

    Parameters
    ----------
    statement
        The statement. Its values are texts, whole numbers and nulls. Its rows are limited in number: then SQLite makes
        all of them, in their order, before it puts them together.
    """

    def __init__(self, statement: sa.Select[Any]) -> None:
        self._statement = statement
        rows = statement.subquery()
        self._names = rows.c.keys()
        self._as_json = sa.select(*(sa.func.json_group_array(column) for column in rows.c))

    def read(self, connection: Connection, meant: dict[str, Any]) -> dict[str, Sequence[Any]]:
        """Return the values of each column, in the order of the rows."""
        if connection.dialect.name == "sqlite":
            columns = map(orjson.loads, connection.execute(self._as_json, meant).one())
            return dict(zip(self._names, columns, strict=True))
        rows = connection.execute(self._statement, meant).all()
        return dict(zip(self._names, zip(*rows, strict=True) if rows else [()] * len(self._names), strict=True))
