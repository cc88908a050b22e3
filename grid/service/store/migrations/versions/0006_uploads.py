"""Adds who has uploaded which snapshot, and who has paused a cluster."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Bring a database from the version before to this one."""
    op.add_column("clusters", sa.Column("paused_by", sa.String(length=64), nullable=True))
    op.create_table(
        "uploads",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["snapshots.digest"], name=op.f("fk_uploads_digest")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_uploads_user_id")),
        sa.PrimaryKeyConstraint("digest", "user_id", name=op.f("pk_uploads")),
    )
    # Who has started a run with it counts as having sent it. What nobody has started yet is sent again.
    op.execute(
        "INSERT INTO uploads (digest, user_id, created_at) "
        "SELECT snapshot, user_id, MIN(created_at) FROM runs GROUP BY snapshot, user_id"
    )
