"""Adds the memory that an experiment claims: none, for those that were accepted before it counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Bring a database from version 0004 to this one."""
    op.add_column("experiments", sa.Column("memory_bytes", sa.BigInteger(), server_default="0", nullable=False))
