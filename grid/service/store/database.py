"""The connection to the database: one writer thread that commits in groups, and a few readers.

Measured on two cores with SQLite and `synchronous=FULL`: single-row commits one after another 8,200 a second, 84,000
when the writer commits whatever is waiting as one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine, event

from grid.service.options import OptionError
from grid.service.store.tables import metadata

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

HEAD = "0001"
"""The newest migration. A test holds it equal to the folder of migrations."""

_READERS = 4
_GROUP = 256
"""The most writes of one transaction, so that the first of them does not wait for long."""


class Database:
    """A database by its URL, opened and at the newest version.

    Parameters
    ----------
    url
        As SQLAlchemy writes it: ``sqlite:////path/to/file`` or ``postgresql+psycopg://…``.

    Raises
    ------
    OptionError
        If there is none, it is no database, or a newer service has changed it already.
    """

    def __init__(self, url: str | URL) -> None:
        try:
            self.engine = _engine(sa.make_url(url))
            try:
                _migrate(self.engine)
            except BaseException:
                self.engine.dispose()
                raise
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            # The driver's words, without the statement and the link to a manual that SQLAlchemy adds.
            message = f"the database cannot be used: {getattr(error, 'orig', None) or error}"
            raise OptionError(message) from error
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="grid-reader")
        self._writer = threading.Thread(target=self._write_groups, name="grid-writer", daemon=True)
        self._writer.start()

    async def read(self, statements: Callable[[Connection], _T]) -> _T:
        """Run statements that change nothing, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, statements)

    async def write(self, statements: Callable[[Connection], _T]) -> _T:
        """Run statements in the writer's thread; come back when they are committed, in the order of the calls.

        An exception of the statements undoes them alone, and is raised here.
        """
        write = _Write(statements, Future())
        self._waiting.put(write)
        return await asyncio.wrap_future(write.done)

    def close(self) -> None:
        """Commit what is waiting, and let go of the database."""
        self._waiting.put(None)
        self._writer.join()
        self._readers.shutdown()
        self.engine.dispose()

    def _read(self, statements: Callable[[Connection], _T]) -> _T:
        with self.engine.connect() as connection:
            return statements(connection)

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
        # Whoever has given up before its turn is left out; from here on nobody can.
        group = [write for write in group if write.done.set_running_or_notify_cancel()]
        outcomes: list[tuple[_Write, Any, Exception | None]] = []
        try:
            with self.engine.begin() as connection:
                if len(group) == 1:  # has the transaction to itself, so that it needs no savepoint
                    outcomes.append((group[0], group[0].statements(connection), None))
                else:
                    outcomes += [_within_savepoint(connection, write) for write in group]
        except Exception as error:  # noqa: BLE001 - the transaction as a whole failed: everybody in it must hear of it
            outcomes = [(write, None, error) for write in group]
        for write, result, failure in outcomes:
            if failure is None:
                write.done.set_result(result)
            else:
                write.done.set_exception(failure)


@dataclass(frozen=True, slots=True)
class _Write:
    statements: Callable[[Connection], Any]
    done: Future[Any]


def _within_savepoint(connection: Connection, write: _Write) -> tuple[_Write, Any, Exception | None]:
    try:
        with connection.begin_nested():
            return write, write.statements(connection), None
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
        return write, None, error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = sa.create_engine(
        url, pool_size=_READERS + 1, hide_parameters=True, connect_args={"check_same_thread": False, "timeout": 30}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # The driver's own transactions begin too late for a guarded update: ours begin explicitly, below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if threading.current_thread().name == "grid-writer" else "BEGIN")

    return engine


def _migrate(engine: Engine) -> None:
    """Bring the database to the newest version; Alembic is imported only where there is something to do."""
    with engine.connect() as connection:
        if sa.inspect(connection).has_table("alembic_version"):
            version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            if version == HEAD:
                return
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    config.attributes["engine"] = engine
    config.attributes["metadata"] = metadata
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        message = f"the database is not one of this version of grid-runs, which knows versions up to {HEAD}: {error}"
        raise OptionError(message) from error
