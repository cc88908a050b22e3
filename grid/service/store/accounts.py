"""Statements about users, keys, secrets, clusters and snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.tables import api_keys, clusters, secrets, snapshots, users


def user_by_key(connection: Connection, digest: str) -> Row[Any] | None:
    """The user whose key has this digest."""
    return connection.execute(
        sa.select(users).join_from(users, api_keys).where(api_keys.c.digest == digest)
    ).one_or_none()


def user_by_name(connection: Connection, name: str) -> Row[Any] | None:
    """The user of that name."""
    return connection.execute(sa.select(users).where(users.c.name == name)).one_or_none()


def insert_user(connection: Connection, user_id: str, name: str, at: int) -> None:
    """Insert a user without a key."""
    connection.execute(sa.insert(users).values(id=user_id, name=name, created_at=at))


def insert_key(connection: Connection, digest: str, user_id: str, at: int) -> None:
    """Give a user a key, by its digest."""
    connection.execute(sa.insert(api_keys).values(digest=digest, user_id=user_id, created_at=at))


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
