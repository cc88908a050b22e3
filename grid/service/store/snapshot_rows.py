"""Statements about snapshots."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store import removal_rows
from grid.service.store.tables import memberships, runs, snapshots, uploads


def is_stored(connection: Connection, digest: str) -> bool:
    """Return whether the content of a snapshot is recorded as stored."""
    return connection.execute(sa.select(snapshots.c.digest).where(snapshots.c.digest == digest)).scalar() is not None


def may_use(connection: Connection, user_id: str, digest: str) -> bool:
    """Return whether a snapshot is recorded and a user has uploaded it, or may read a run that has it."""
    uploaded = sa.exists().where(uploads.c.digest == digest, uploads.c.user_id == user_id)
    own = sa.exists().where(runs.c.snapshot == digest, runs.c.user_id == user_id)
    theirs = memberships.alias()
    of_a_teammate = sa.exists().where(
        runs.c.snapshot == digest,
        theirs.c.user_id == runs.c.user_id,
        memberships.c.team_id == theirs.c.team_id,
        memberships.c.user_id == user_id,
    )
    return bool(connection.execute(sa.select(uploaded | own | of_a_teammate)).scalar())


def size(connection: Connection, digest: str) -> int:
    """Return the size of a stored snapshot's archive in bytes, which is a little more than that of its files."""
    size_bytes: int = connection.execute(
        sa.select(snapshots.c.size_bytes).where(snapshots.c.digest == digest)
    ).scalar_one()
    return size_bytes


def insert(connection: Connection, digest: str, size_bytes: int, user_id: str, at: int) -> None:
    """Record that the content of a snapshot is stored, and that a user has sent it."""
    if not is_stored(connection, digest):
        connection.execute(sa.insert(snapshots).values(digest=digest, size_bytes=size_bytes, created_at=at))
    sent = sa.select(uploads.c.digest).where(uploads.c.digest == digest, uploads.c.user_id == user_id)
    if connection.execute(sent).scalar() is None:
        connection.execute(sa.insert(uploads).values(digest=digest, user_id=user_id, created_at=at))


def delete_unused(connection: Connection, digest: str) -> None:
    """Delete a snapshot if no run has it, with who has sent it; record that its files must be removed."""
    unused = (snapshots.c.digest == digest) & ~sa.exists().where(runs.c.snapshot == digest)
    removal_rows.add(connection, sa.select(sa.literal("snapshot"), snapshots.c.digest, sa.literal(0)).where(unused))
    connection.execute(sa.delete(uploads).where(uploads.c.digest.in_(sa.select(snapshots.c.digest).where(unused))))
    connection.execute(sa.delete(snapshots).where(unused))
