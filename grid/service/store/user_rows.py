"""Statements about users and their keys."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store import sqlite
from grid.service.store.database import Database
from grid.service.store.faults import AlreadyThere
from grid.service.store.tables import api_keys, users

_log = logging.getLogger(__name__)

_BY_KEY: sa.Select[Any] = (
    sa.select(users.c.id, users.c.name, users.c.disabled_at)
    .join_from(users, api_keys)
    .where(api_keys.c.digest == sa.bindparam("digest"))
)


class Keys:
    """Finds the owner of a key, always in the database: nothing is cached between two calls.

    Every request calls this. SQLite is asked on the caller's own thread, over a connection of its own: one look-up in
    an index takes some 10 µs there, and 300 by way of a reader thread. Another database is asked in a thread.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._query = sqlite.DirectQuery.of(database.engine, _BY_KEY)
        self._trouble: str | None = None

    async def owner(self, digest: str) -> Sequence[Any] | None:
        """Return the id, the name and the time of disabling of the user whose key has this digest."""
        if self._query is not None:
            try:
                found = self._query.first(digest)
            except sqlite.Unanswered:
                pass  # asked again below, which waits
            except sqlite.Broken as error:
                self._replace(self._query, error)  # and asked again below, which explains what is wrong
            else:
                self._works()
                return found
        return await self._database.read(lambda connection: by_key(connection, digest))

    def _replace(self, broken: sqlite.DirectQuery, error: sqlite.Broken) -> None:
        """Make another query for the next request. The log shows when trouble begins and ends, not every request."""
        if self._trouble != str(error):
            self._trouble = str(error)
            message = "keys of %s cannot be looked up directly: %s; until they can, each request takes longer"
            _log.error(message, self._database.name, error)
        try:
            another = sqlite.DirectQuery.of(self._database.engine, _BY_KEY)
        except (sa.exc.SQLAlchemyError, sqlite.DriverError):
            return  # the log says what is wrong, and the next request tries again
        broken.close()
        self._query = another

    def _works(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            _log.info("keys of %s can be looked up directly again", self._database.name)

    def close(self) -> None:
        """Close the connection."""
        if self._query is not None:
            self._query.close()
            self._query = None


def by_key(connection: Connection, digest: str) -> Row[Any] | None:
    """Return the user whose key has this digest."""
    return connection.execute(_BY_KEY, {"digest": digest}).one_or_none()


def by_id(connection: Connection, user_id: str) -> Row[Any] | None:
    """Return the user of that id."""
    return connection.execute(sa.select(users).where(users.c.id == user_id)).one_or_none()


def by_name(connection: Connection, name: str) -> Row[Any] | None:
    """Return the user of that name."""
    return connection.execute(sa.select(users).where(users.c.name == name)).one_or_none()


def all_users(connection: Connection) -> Sequence[Row[Any]]:
    """Return every user, ordered by name."""
    return connection.execute(sa.select(users).order_by(users.c.name)).all()


def insert(connection: Connection, user_id: str, name: str, at: int) -> None:
    """Insert a user without a key.

    Raises
    ------
    AlreadyThere
        If another user has that name. The transaction can then no longer be used.
    """
    try:
        connection.execute(sa.insert(users).values(id=user_id, name=name, created_at=at))
    except sa.exc.IntegrityError as error:
        raise AlreadyThere(name) from error


def set_disabled(connection: Connection, user_id: str, at: int | None) -> None:
    """Refuse a user's keys from that time on, or accept them again if there is no time."""
    connection.execute(sa.update(users).where(users.c.id == user_id).values(disabled_at=at))


def insert_key(connection: Connection, digest: str, user_id: str, at: int) -> None:
    """Give a user a key, by its digest."""
    connection.execute(sa.insert(api_keys).values(digest=digest, user_id=user_id, created_at=at))


def delete_keys(connection: Connection, user_id: str) -> None:
    """Delete all keys of a user."""
    connection.execute(sa.delete(api_keys).where(api_keys.c.user_id == user_id))
