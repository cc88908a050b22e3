"""Statements about clusters."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.tables import clusters


def add(connection: Connection, name: str) -> None:
    """Insert a cluster unless there is one of that name."""
    if connection.execute(sa.select(clusters.c.name).where(clusters.c.name == name)).scalar() is None:
        connection.execute(sa.insert(clusters).values(name=name, paused=False))


def is_paused(connection: Connection, name: str) -> bool:
    """Return whether a cluster is paused: it then starts nothing new."""
    return bool(connection.execute(sa.select(clusters.c.paused).where(clusters.c.name == name)).scalar())


def set_paused(connection: Connection, name: str, *, paused: bool) -> None:
    """Pause or resume a cluster."""
    connection.execute(sa.update(clusters).where(clusters.c.name == name).values(paused=paused))
