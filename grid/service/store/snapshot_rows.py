"""Statements about snapshots."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.tables import snapshots


def is_stored(connection: Connection, digest: str) -> bool:
    """Return whether the content of a snapshot is recorded as stored."""
    return connection.execute(sa.select(snapshots.c.digest).where(snapshots.c.digest == digest)).scalar() is not None


def size(connection: Connection, digest: str) -> int:
    """Return the size of a stored snapshot's archive in bytes, which is a little more than that of its files."""
    size_bytes: int = connection.execute(
        sa.select(snapshots.c.size_bytes).where(snapshots.c.digest == digest)
    ).scalar_one()
    return size_bytes


def insert(connection: Connection, digest: str, size_bytes: int, at: int) -> None:
    """Record that the content of a snapshot is stored."""
    if not is_stored(connection, digest):
        connection.execute(sa.insert(snapshots).values(digest=digest, size_bytes=size_bytes, created_at=at))
