"""Statements about secrets."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.tables import secrets


def secret(connection: Connection, name: str, new: Callable[[], bytes]) -> bytes:
    """The secret of that name, made now where there is none."""
    value = connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name)).scalar()
    if value is None:
        value = new()
        connection.execute(sa.insert(secrets).values(name=name, value=value))
    return bytes(value)
