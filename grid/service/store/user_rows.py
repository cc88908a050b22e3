"""Statements about users and their keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.database import Database
from grid.service.store.faults import AlreadyThere
from grid.service.store.tables import api_keys, users

_BY_KEY: sa.Select[Any] = (
    sa.select(users.c.id, users.c.name, users.c.disabled_at)
    .join_from(users, api_keys)
    .where(api_keys.c.digest == sa.bindparam("digest"))
)


class Keys:
    """Says whose key it is, as the database says it now: nothing is kept between two questions.

    Every request asks. SQLite is asked on the caller's own thread, over a connection of its own: one look into an index
    takes some 10 µs there, and by way of a reader thread 300. Another database is asked in a thread.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._at_once: Any = None
        if database.engine.dialect.name == "sqlite":
            connection = database.engine.raw_connection()
            self._at_once = connection.driver_connection
            connection.detach()
            # Whoever holds the database for themselves is waited for in a thread.
            self._at_once.execute("PRAGMA busy_timeout=0")
            self._at_once.execute("PRAGMA query_only=ON")
            self._text = str(_BY_KEY.compile(database.engine))

    async def owner(self, digest: str) -> Sequence[Any] | None:
        """The id, the name, and since when they are disabled, of the user whose key has this digest."""
        if self._at_once is not None:
            try:
                # All rows are fetched, so that the statement is over: one that is not would see the same for ever.
                rows = self._at_once.execute(self._text, (digest,)).fetchall()
            except sqlite3.Error:
                pass  # asked again below, with patience, and with everybody's words for what is wrong
            else:
                return rows[0] if rows else None
        return await self._database.read(lambda connection: by_key(connection, digest))

    def close(self) -> None:
        """Let go of the database."""
        if self._at_once is not None:
            self._at_once.close()
            self._at_once = None


def by_key(connection: Connection, digest: str) -> Row[Any] | None:
    """The user whose key has this digest."""
    return connection.execute(_BY_KEY, {"digest": digest}).one_or_none()


def by_name(connection: Connection, name: str) -> Row[Any] | None:
    """The user of that name."""
    return connection.execute(sa.select(users).where(users.c.name == name)).one_or_none()


def all_users(connection: Connection) -> Sequence[Row[Any]]:
    """Everybody, by name."""
    return connection.execute(sa.select(users).order_by(users.c.name)).all()


def insert(connection: Connection, user_id: str, name: str, at: int) -> None:
    """Insert a user without a key.

    Raises
    ------
    AlreadyThere
        If somebody has that name. The transaction is of no more use.
    """
    try:
        connection.execute(sa.insert(users).values(id=user_id, name=name, created_at=at))
    except sa.exc.IntegrityError as error:
        raise AlreadyThere(name) from error


def set_disabled(connection: Connection, user_id: str, at: int | None) -> None:
    """Refuse a user's keys from now on, or, without a time, accept them again."""
    connection.execute(sa.update(users).where(users.c.id == user_id).values(disabled_at=at))


def insert_key(connection: Connection, digest: str, user_id: str, at: int) -> None:
    """Give a user a key, by its digest."""
    connection.execute(sa.insert(api_keys).values(digest=digest, user_id=user_id, created_at=at))


def delete_keys(connection: Connection, user_id: str) -> None:
    """Take all keys from a user."""
    connection.execute(sa.delete(api_keys).where(api_keys.c.user_id == user_id))
