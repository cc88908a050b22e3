"""Notes how the script of a run is started: for older runs nothing, which is by its path from the root."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Bring a database from the version before to this one."""
    op.add_column("runs", sa.Column("launch", sa.Text(), server_default="", nullable=False))
