"""Statements about what of that which was deleted may still be on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.tables import removals


def add(connection: Connection, what: sa.Select[Any]) -> None:
    """Say what is to be removed: the kinds and the names that a query gives."""
    connection.execute(sa.insert(removals).from_select(["kind", "name"], what))


def to_be_removed(connection: Connection) -> Sequence[Row[Any]]:
    """What may still be on the disk of what was deleted."""
    return connection.execute(sa.select(removals).order_by(removals.c.seq)).all()


def was_removed(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """Record that nothing of it is on the disk any more."""
    connection.execute(sa.delete(removals).where(removals.c.seq.in_([row.seq for row in rows])))
