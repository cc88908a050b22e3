"""Brings a database to the version of this service, with a copy of the older one beside it, or refuses it in words.

What a version consists of is in `grid/service/store/migrations`.
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

HEAD = "0002"
"""The newest migration. A test holds it equal to the folder of migrations."""

MIGRATIONS = Path(__file__).with_name("migrations")


def upgrade(
    engine: Engine, name: str, file: Path | None, *, head: str = HEAD, migrations: Path = MIGRATIONS
) -> Path | None:
    """Bring a database to a version, in one transaction.

    Parameters
    ----------
    engine
        Of the database; its option ``immediate`` makes a transaction the only one that writes from its beginning.
    name
        What people call it.
    file
        Of an SQLite database: a copy of one with an older version is put beside it first.
    head
        The version.
    migrations
        Alembic's folder.

    Returns
    -------
    Path
        The copy; None where there was nothing to copy.

    Raises
    ------
    OptionError
        If it is of a newer version or of another program, or cannot be copied or changed. It is then as it was.
    """
    with engine.connect() as connection:
        if _version(connection, name) == head:
            return None
    with engine.execution_options(immediate=True).connect() as connection:
        if file is not None:
            # A table that others refer to is changed by making a new one. What refers is checked at the end.
            _driver(connection).execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                return _upgrade(connection, name, file, head, migrations)
        finally:
            connection.invalidate()  # for others it would be one that does not check what refers


def _upgrade(connection: Connection, name: str, file: Path | None, head: str, migrations: Path) -> Path | None:
    # Looked at again: from here on nobody else changes it.
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
                f"the database {name} is of version {version} and has to be brought to {head}, and no copy of it can "
                f"be put beside it first: {getattr(error, 'orig', None) or error}; nothing was changed"
            )
            raise (TryLater if fault is not None and fault.passes else OptionError)(message) from error
        _log.info("the database %s goes from version %s to %s; %s is a copy of it as it was", name, version, head, copy)
    elif version is not None:
        # Its own tools make copies that are worth the name.
        _log.warning("the database %s goes from version %s to %s; no copy of it is made", name, version, head)
    failpoints.reached("database.upgrade.before")
    # A migration may meet anything, and none may leave half of itself.
    try:
        _migrate(connection, head, migrations)
        if file is not None and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise sa.exc.IntegrityError("PRAGMA foreign_key_check", {}, Exception(f"{broken[0]} refers to nothing"))
    except Exception as error:
        fault = fault_of(error)
        kept = f"; {copy} is a copy of it" if copy else ""
        message = (
            f"the database {name} cannot be brought from version {version or 'nothing'} to {head}: "
            f"{getattr(error, 'orig', None) or error}; it is as it was{kept}"
        )
        raise (TryLater if fault is not None and fault.passes else OptionError)(message) from error
    failpoints.reached("database.upgrade.commit.before")
    return copy


def _version(connection: Connection, name: str) -> str | None:
    """The version of a database; None where it is empty."""
    tables = sa.inspect(connection).get_table_names()
    if "alembic_version" in tables:
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if version is not None:
            return str(version)
    # On a server others may have tables of their own beside ours; a file is one program's.
    if tables and connection.dialect.name == "sqlite":
        message = f"the database {name} is another program's: it has tables, and none of them is Grid's"
        raise OptionError(message)
    return None


def _check(version: str | None, head: str, name: str) -> None:
    if version is not None and (not re.fullmatch(r"[0-9]{4}", version) or version > head):
        message = (
            f"the database {name} is of version {version[:40]!r}: a newer grid-runs has written it. This one knows "
            f"versions up to {head}; install the newer one again, or choose another GRID_HOME"
        )
        raise OptionError(message)


def _migrate(connection: Connection, head: str, migrations: Path) -> None:
    # Imported here: they take a third of a second, and most starts have nothing to do.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = metadata
    command.upgrade(config, head)


def _copy(engine: Engine, file: Path, head: str) -> Path:
    """Copy the database as it is to a new file beside it, which is there as a whole or not at all."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    copy, number = file.with_name(f"{file.name}.before-{head}-{stamp}"), 1
    while copy.exists():
        number += 1
        copy = file.with_name(f"{file.name}.before-{head}-{stamp}-{number}")
    unfinished = file.with_name(f"{file.name}.copying")
    unfinished.unlink(missing_ok=True)  # of a service that was killed meanwhile
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
        with closing(sqlite3.connect(unfinished)) as target, engine.connect() as connection:
            _driver(connection).backup(target)
            # One file and nothing beside it, so that it can be moved about.
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
