"""Brings a database to this service's version, leaving a copy of the older one beside it, or explains why it cannot.

The changes from one version to the next are in `grid/service/store/migrations`.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from grid.service.store.faults import fault_of
from grid.service.store.tables import metadata
from grid.service.system import failpoints
from grid.service.system.durable import sync_file, sync_folder
from grid.service.system.settings import OptionError, TryLater
from grid.service.system.workspace import PRIVATE_FILE

_log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")

HEAD = max(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))
"""The newest migration. Alembic would say the same, and takes a third of a second to be imported."""


def upgrade(
    engine: Engine, name: str, file: Path | None, *, head: str = HEAD, migrations: Path = MIGRATIONS
) -> Path | None:
    """Bring a database to a version, in one transaction.

    Parameters
    ----------
    engine
        The database's engine; with its option ``immediate`` a transaction is the only writer from its beginning.
    name
        The database's name for messages.
    file
        The file of an SQLite database: if its version is older, a copy is put beside it first.
    head
        The version to bring it to.
    migrations
        Alembic's folder.

    Returns
    -------
    Path
        The copy; None if there was nothing to copy.

    Raises
    ------
    OptionError
        If it has a newer version, belongs to another program, or cannot be copied or changed. It is then unchanged.
    """
    with engine.connect() as connection:
        if _version(connection, name) == head:
            return None
    with engine.execution_options(immediate=True).connect() as connection:
        if file is not None:
            # A table that others refer to is changed by making a new one. References are checked at the end.
            _driver(connection).execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                return _upgrade(connection, name, file, head, migrations)
        finally:
            connection.invalidate()  # it no longer checks references, so nobody else may get it


def _upgrade(connection: Connection, name: str, file: Path | None, head: str, migrations: Path) -> Path | None:
    # Read again: from here on no other process can change it.
    version = _version(connection, name)
    if version == head:
        return None
    _check(version, head, name)
    copy = None
    if version is not None and file is not None:
        try:
            copy = _copy(connection.engine, file, head)
        except (OSError, sqlite3.Error, sa.exc.SQLAlchemyError) as error:
            fault = fault_of(error)
            message = (
                f"the database {name} has version {version} and must be upgraded to {head}, but no copy of it can be "
                f"put beside it first: {getattr(error, 'orig', None) or error}; nothing was changed"
            )
            raise (TryLater if fault is not None and fault.passes else OptionError)(message) from error
        _log.info("upgrading the database %s from version %s to %s; %s is a copy of it", name, version, head, copy)
    elif version is not None:
        # A server has better tools of its own to make copies.
        _log.warning("upgrading the database %s from version %s to %s; no copy of it is made", name, version, head)
    failpoints.reached("database.upgrade.before")
    # A migration may run into anything, and must never be left half done.
    try:
        _migrate(connection, head, migrations)
        if file is not None and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise sa.exc.IntegrityError("PRAGMA foreign_key_check", {}, Exception(f"{broken[0]} refers to nothing"))
    except Exception as error:
        fault = fault_of(error)
        kept = f"; {copy} is a copy of it" if copy else ""
        message = (
            f"the database {name} cannot be upgraded from version {version or 'none'} to {head}: "
            f"{getattr(error, 'orig', None) or error}; it is unchanged{kept}"
        )
        raise (TryLater if fault is not None and fault.passes else OptionError)(message) from error
    failpoints.reached("database.upgrade.commit.before")
    return copy


def _version(connection: Connection, name: str) -> str | None:
    """Return the version of a database; None if it is empty."""
    tables = sa.inspect(connection).get_table_names()
    if "alembic_version" in tables:
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if version is not None:
            return str(version)
    # On a server other programs may have tables beside ours; a file belongs to one program.
    if tables and connection.dialect.name == "sqlite":
        message = f"the database {name} belongs to another program: it has tables, but none of them is Grid's"
        raise OptionError(message)
    return None


def _check(version: str | None, head: str, name: str) -> None:
    if version is not None and (not re.fullmatch(r"[0-9]{4}", version) or version > head):
        message = (
            f"the database {name} has version {version[:40]!r}: a newer grid-runs has written it. This one knows "
            f"versions up to {head}; install the newer one again, or choose another GRID_HOME"
        )
        raise OptionError(message)


def _migrate(connection: Connection, head: str, migrations: Path) -> None:
    # Imported here: these take a third of a second, and most starts have nothing to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = metadata
    command.upgrade(config, head)


def _copy(engine: Engine, file: Path, head: str) -> Path:
    """Copy the database to a new file beside it, which is complete or does not exist at all."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    copy, number = file.with_name(f"{file.name}.before-{head}-{stamp}"), 1
    while copy.exists():
        number += 1
        copy = file.with_name(f"{file.name}.before-{head}-{stamp}-{number}")
    unfinished = file.with_name(f"{file.name}.copying")
    unfinished.unlink(missing_ok=True)  # left by a service that was killed while it copied
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
        with closing(sqlite3.connect(unfinished)) as target, engine.connect() as connection:
            _driver(connection).backup(target)
            # One file with nothing beside it, so that it can be moved anywhere.
            target.execute("PRAGMA journal_mode=DELETE")
        sync_file(unfinished)
        failpoints.reached("database.copied")
        unfinished.rename(copy)
        sync_folder(file.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return copy


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
