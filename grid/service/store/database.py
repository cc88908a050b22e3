"""The connection to the database: one writer thread that commits in groups, and a few readers.

Measured on two cores with SQLite and `synchronous=FULL`: 8,200 writes of one row a second if each has a commit of its
own, 84,000 if the writer commits whatever is waiting as one transaction.

How an SQLite file is opened is in `sqlite`, what errors mean is in `faults`, and versions are in `upgrade`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine

from grid.service.store import run_changes, sqlite
from grid.service.store.faults import MOVED, DatabaseUnavailable, Fault, StatementFailed, fault_of
from grid.service.store.upgrade import upgrade
from grid.service.system import failpoints
from grid.service.system.settings import OptionError, TryLater

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_READERS = 4
_GROUP = 256
"""The most writes in one transaction, so that the first of them does not wait for long."""


class Database:
    """A database, opened by its URL and brought to this service's version.

    A method raises `DatabaseUnavailable` if the disk or another program keeps it from its work. The next call tries
    again, so the service recovers by itself when the trouble is over. Any other error of the database is raised as
    `StatementFailed`; whatever else the statements raise is passed on unchanged.

    Parameters
    ----------
    url
        A URL of SQLAlchemy's, ``sqlite:////path/to/file`` or ``postgresql+psycopg://…``; or an SQLite file's path.

    Raises
    ------
    OptionError
        If it does not exist, is not a database, or was already changed by a newer service. The message names it.
    TryLater
        If it cannot be used now: its disk is full, or another program has locked it.
    """

    def __init__(self, url: str | Path) -> None:
        self.name = str(url)
        """The name that messages show: the path of a file, the address of a server."""
        try:
            parsed = URL.create("sqlite", database=str(url)) if isinstance(url, Path) else sa.make_url(url)
            self.name = parsed.render_as_string(hide_password=True)
            self._file = sqlite.File.of(parsed)
            self.name = str(self._file.path) if self._file else self.name
            self.engine = self._open(parsed)
        except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
            raise _refusal(self.name, error) from error
        self._writing = self.engine.execution_options(immediate=True)
        self._troubles: dict[str, Fault] = {}
        self._in_doubt: Callable[[], object] | None = None
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="grid-reader")
        self._writer = threading.Thread(target=self._write_groups, name="grid-writer", daemon=True)
        self._writer.start()

    async def read(self, statements: Callable[[Connection], _T]) -> _T:
        """Run statements that change nothing in a reader's thread, and return their result."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, statements)

    async def write(self, statements: Callable[[Connection], _T]) -> _T:
        """Run statements in the writer's thread, in the order of the calls; return when they are committed.

        An exception of the statements undoes only them, and is raised here. After `DatabaseUnavailable` they are undone
        as well, unless a commit succeeded and its confirmation was lost: check before asking again.
        """
        write = _Write(statements, Future())
        self._waiting.put(write)
        return await asyncio.wrap_future(write.done)

    def call_in_doubt(self, look: Callable[[], None]) -> None:
        """Have something called on the running event loop whenever it is not known whether a write has succeeded.

        The caller of that write may not try again, and nobody would notice what the write has changed.
        """
        self._in_doubt = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, look)

    def close(self) -> None:
        """Commit what is waiting, and close the connections."""
        self._waiting.put(None)
        self._writer.join()
        self._readers.shutdown()
        self.engine.dispose()

    def _open(self, url: URL) -> Engine:
        file, must_be_checked = self._file, False
        if file is None:
            engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
        else:
            must_be_checked = file.prepare()
            engine = sqlite.make_engine(url, connections=_READERS + 1)
        try:
            if file is not None:
                file.check(engine, thoroughly=must_be_checked)
            upgrade(engine, self.name, None if file is None else file.path)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _read(self, statements: Callable[[Connection], _T]) -> _T:
        try:
            with self.engine.connect() as connection, _dropped_after_a_fault(connection):
                result = statements(connection)
        except Exception as error:
            failure = self._explained(error, "read")
            if failure is error:
                raise
            raise failure from error
        self._works("read")
        return result

    def _write_groups(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            ending = False
            while len(group) < _GROUP and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    ending = True
                    break
                group.append(following)
            self._commit(group)
            if ending:
                return

    def _commit(self, group: list[_Write]) -> None:
        # A write whose caller has given up by now is left out; from here on it can no longer be cancelled.
        group = [write for write in group if write.done.set_running_or_notify_cancel()]
        outcomes: list[tuple[_Write, Any, Exception | None]] = []
        try:
            if self._file is not None and not self._file.is_in_place():
                raise DatabaseUnavailable(MOVED)
            with self._writing.connect() as connection, _dropped_after_a_fault(connection):
                with connection.begin():
                    with run_changes.written_at_the_end(connection):
                        if len(group) == 1:  # it has the transaction to itself and needs no savepoint
                            outcomes.append((group[0], group[0].statements(connection), None))
                        else:
                            outcomes += [_within_savepoint(connection, write) for write in group]
                    failpoints.reached("database.commit.before")
                failpoints.reached("database.committed")
            self._works("written")
        except Exception as error:  # noqa: BLE001 - the whole transaction failed: every caller in it must be told
            # Each gets an exception of its own: raising one adds the caller's frames to its traceback.
            outcomes = [(write, None, self._explained(error, "written")) for write in group]
            if fault_of(error) is not None and self._in_doubt is not None:
                with suppress(RuntimeError):  # the loop is closed: the next service checks everything
                    self._in_doubt()
        for write, result, failure in outcomes:
            if failure is None:
                write.done.set_result(result)
            else:
                write.done.set_exception(failure)

    def _explained(self, error: Exception, what: str) -> Exception:
        """Return what the caller is told. The log only shows when trouble begins and ends, not every failed call."""
        fault = fault_of(error)
        if fault is None:
            return _without_sqlalchemy(error)
        if self._troubles.get(what) != fault:
            self._troubles[what] = fault
            words = getattr(error, "orig", None) or error
            message = "the database %s cannot be %s: it %s (%s); %s"
            _log.error(message, self.name, what, fault.words, words, fault.advice)
        failure = DatabaseUnavailable(fault)
        failure.__cause__ = error
        return failure

    def _works(self, what: str) -> None:
        if self._troubles and self._troubles.pop(what, None) is not None:
            _log.info("the database %s can be %s again", self.name, what)


@dataclass(frozen=True, slots=True)
class _Write:
    statements: Callable[[Connection], Any]
    done: Future[Any]


@contextmanager
def _dropped_after_a_fault(connection: Connection) -> Iterator[None]:
    """Make sure that a connection is not used again after a fault: nobody knows what state it is in."""
    try:
        yield
    except Exception as error:
        if fault_of(error) is not None:
            connection.invalidate()
        raise


def _without_sqlalchemy(error: Exception) -> Exception:
    """Return the error for callers, which know nothing about SQLAlchemy."""
    if not isinstance(error, sa.exc.SQLAlchemyError):
        return error
    failure = StatementFailed(str(error))
    failure.__cause__ = error
    return failure


def _refusal(name: str, error: Exception) -> OptionError:
    """Return an error that says why a database cannot be opened, and what can be done."""
    # The driver's message, without the statement and the link to a manual that SQLAlchemy adds.
    words = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)
    fault = fault_of(error)
    if fault is None:
        return OptionError(f"the database {name} cannot be used: {words}")
    message = f"the database {name} cannot be used: it {fault.words} ({words}); {fault.advice}"
    return TryLater(message) if fault.passes else OptionError(message)


def _within_savepoint(connection: Connection, write: _Write) -> tuple[_Write, Any, Exception | None]:
    savepoint = connection.begin_nested()
    try:
        with run_changes.written_at_the_end(connection):
            result = write.statements(connection)
    except Exception as error:
        if fault_of(error) is not None or not sqlite.is_in_transaction(connection):
            # A full disk has undone the whole transaction, including what had gone well before.
            raise
        savepoint.rollback()
        return write, None, _without_sqlalchemy(error)
    savepoint.commit()
    return write, result, None
