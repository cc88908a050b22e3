"""Statements about deleted things whose files may still be on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.tables import removals


def add(connection: Connection, what: sa.Select[Any]) -> None:
    """Record what must be removed from the disk: kinds, names and numbers of attempts that a query selects."""
    connection.execute(sa.insert(removals).from_select(["kind", "name", "attempts"], what))


def to_be_removed(connection: Connection) -> Sequence[Row[Any]]:
    """Return the deleted things whose files may still be on the disk, in the order of their deletion."""
    return connection.execute(sa.select(removals).order_by(removals.c.seq)).all()


def was_removed(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """Record that their files are gone from the disk."""
    connection.execute(sa.delete(removals).where(removals.c.seq.in_([row.seq for row in rows])))
