"""Notes how the files of each attempt are laid out, and of how many attempts files must be removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring a database from version 0002 to this one."""
    for table in ("experiments", "attempts"):
        op.add_column(table, sa.Column("layout", sa.Integer(), server_default="2", nullable=False))
    # What has begun keeps its files where they are. What waits for its turn will have them where they are put now.
    op.execute("UPDATE experiments SET layout = 1 WHERE status <> 'QUEUED'")
    op.execute("UPDATE attempts SET layout = 1")
    # None of what is to be removed has anything outside of its experiment's folder.
    op.add_column("removals", sa.Column("attempts", sa.Integer(), server_default="0", nullable=False))
