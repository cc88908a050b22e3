"""Statements about the service's own secrets, such as the one that signs addresses for uploads."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.tables import secrets


def secret(connection: Connection, name: str, new: Callable[[], bytes]) -> bytes:
    """Return the secret of that name; make it if there is none."""
    value = connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name)).scalar()
    if value is None:
        value = new()
        connection.execute(sa.insert(secrets).values(name=name, value=value))
    return bytes(value)
