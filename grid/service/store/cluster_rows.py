"""Statements about clusters."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.tables import clusters


def add(connection: Connection, name: str) -> None:
    """Insert a cluster unless there is one of that name."""
    if connection.execute(sa.select(clusters.c.name).where(clusters.c.name == name)).scalar() is None:
        connection.execute(sa.insert(clusters).values(name=name, paused=False))


def is_paused(connection: Connection, name: str) -> bool:
    """Return whether a cluster is paused: it then starts nothing new."""
    return bool(connection.execute(sa.select(clusters.c.paused).where(clusters.c.name == name)).scalar())


def state(connection: Connection, name: str) -> Row[Any]:
    """Return whether a cluster is ``paused``, and ``paused_by`` whom: the id of a user, None if that is not known."""
    query: sa.Select[Any] = sa.select(clusters.c.paused, clusters.c.paused_by)
    return connection.execute(query.where(clusters.c.name == name)).one()


def set_paused(connection: Connection, name: str, *, paused: bool, by: str | None = None) -> None:
    """Pause or resume a cluster; note which user has paused it."""
    values = {"paused": paused, "paused_by": by if paused else None}
    connection.execute(sa.update(clusters).where(clusters.c.name == name).values(values))
