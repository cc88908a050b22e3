"""Statements about users, their keys and teams; and about secrets, clusters and snapshots."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.database import Database
from grid.service.store.tables import api_keys, clusters, memberships, secrets, snapshots, teams, users

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
        return await self._database.read(lambda connection: user_by_key(connection, digest))

    def close(self) -> None:
        """Let go of the database."""
        if self._at_once is not None:
            self._at_once.close()
            self._at_once = None


def user_by_key(connection: Connection, digest: str) -> Row[Any] | None:
    """The user whose key has this digest."""
    return connection.execute(_BY_KEY, {"digest": digest}).one_or_none()


def user_by_name(connection: Connection, name: str) -> Row[Any] | None:
    """The user of that name."""
    return connection.execute(sa.select(users).where(users.c.name == name)).one_or_none()


def all_users(connection: Connection) -> Sequence[Row[Any]]:
    """Everybody, by name."""
    return connection.execute(sa.select(users).order_by(users.c.name)).all()


def insert_user(connection: Connection, user_id: str, name: str, at: int) -> None:
    """Insert a user without a key."""
    connection.execute(sa.insert(users).values(id=user_id, name=name, created_at=at))


def set_disabled(connection: Connection, user_id: str, at: int | None) -> None:
    """Refuse a user's keys from now on, or, without a time, accept them again."""
    connection.execute(sa.update(users).where(users.c.id == user_id).values(disabled_at=at))


def insert_key(connection: Connection, digest: str, user_id: str, at: int) -> None:
    """Give a user a key, by its digest."""
    connection.execute(sa.insert(api_keys).values(digest=digest, user_id=user_id, created_at=at))


def delete_keys(connection: Connection, user_id: str) -> None:
    """Take all keys from a user."""
    connection.execute(sa.delete(api_keys).where(api_keys.c.user_id == user_id))


def team_by_name(connection: Connection, name: str) -> Row[Any] | None:
    """The team of that name."""
    return connection.execute(sa.select(teams).where(teams.c.name == name)).one_or_none()


def all_teams(connection: Connection) -> Sequence[Row[Any]]:
    """Every team, by name."""
    return connection.execute(sa.select(teams).order_by(teams.c.name)).all()


def insert_team(connection: Connection, team_id: str, name: str, at: int) -> None:
    """Insert a team that nobody is in."""
    connection.execute(sa.insert(teams).values(id=team_id, name=name, created_at=at))


def all_memberships(connection: Connection) -> Sequence[Row[Any]]:
    """Who is in which team: the names of ``user`` and ``team``, in order."""
    query: sa.Select[Any] = sa.select(users.c.name.label("user"), teams.c.name.label("team"))
    everyone = query.select_from(memberships.join(users).join(teams)).order_by(teams.c.name, users.c.name)
    return connection.execute(everyone).all()


def insert_membership(connection: Connection, team_id: str, user_id: str, at: int) -> None:
    """Let a user into a team."""
    connection.execute(sa.insert(memberships).values(team_id=team_id, user_id=user_id, created_at=at))


def delete_membership(connection: Connection, team_id: str, user_id: str) -> bool:
    """Take a user out of a team; return whether they were in it."""
    gone = sa.delete(memberships).where(memberships.c.team_id == team_id, memberships.c.user_id == user_id)
    return connection.execute(gone).rowcount > 0


def shares_team(connection: Connection, user_id: str, other_id: str) -> bool:
    """Whether two users are in a team together."""
    theirs = memberships.alias()
    together = sa.exists().where(
        memberships.c.team_id == theirs.c.team_id, memberships.c.user_id == user_id, theirs.c.user_id == other_id
    )
    return bool(connection.execute(sa.select(together)).scalar())


def secret(connection: Connection, name: str, new: Callable[[], bytes]) -> bytes:
    """The secret of that name, made now where there is none."""
    value = connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name)).scalar()
    if value is None:
        value = new()
        connection.execute(sa.insert(secrets).values(name=name, value=value))
    return bytes(value)


def add_cluster(connection: Connection, name: str) -> None:
    """Insert a cluster where there is none of that name."""
    if connection.execute(sa.select(clusters.c.name).where(clusters.c.name == name)).scalar() is None:
        connection.execute(sa.insert(clusters).values(name=name, paused=False))


def is_paused(connection: Connection, name: str) -> bool:
    """Whether a cluster starts nothing new."""
    return bool(connection.execute(sa.select(clusters.c.paused).where(clusters.c.name == name)).scalar())


def set_paused(connection: Connection, name: str, *, paused: bool) -> None:
    """Pause or resume a cluster."""
    connection.execute(sa.update(clusters).where(clusters.c.name == name).values(paused=paused))


def has_snapshot(connection: Connection, digest: str) -> bool:
    """Whether the content of a snapshot is stored."""
    return connection.execute(sa.select(snapshots.c.digest).where(snapshots.c.digest == digest)).scalar() is not None


def snapshot_size(connection: Connection, digest: str) -> int:
    """The size of a stored snapshot's archive in bytes, which is a little more than that of its files."""
    size: int = connection.execute(sa.select(snapshots.c.size_bytes).where(snapshots.c.digest == digest)).scalar_one()
    return size


def insert_snapshot(connection: Connection, digest: str, size_bytes: int, at: int) -> None:
    """Record that the content of a snapshot is stored."""
    if not has_snapshot(connection, digest):
        connection.execute(sa.insert(snapshots).values(digest=digest, size_bytes=size_bytes, created_at=at))
