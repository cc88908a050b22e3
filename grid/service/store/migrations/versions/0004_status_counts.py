"""Adds how many experiments of each run have each status, and the order in which a user's runs are listed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STATUSES = ("QUEUED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")


def upgrade() -> None:
    """Bring a database from the version before to this one."""
    op.create_index(op.f("ix_runs_user_id_seq"), "runs", ["user_id", "seq"], unique=False)
    op.create_table(
        "status_counts",
        sa.Column("run_seq", _SEQ, autoincrement=False, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_seq"], ["runs.seq"], name=op.f("fk_status_counts_run_seq"), initially="DEFERRED", deferrable=True
        ),
        sa.PrimaryKeyConstraint("run_seq", "status", name=op.f("pk_status_counts")),
        sqlite_with_rowid=False,
    )
    words = " UNION ALL ".join(f"SELECT '{status}' AS status" for status in _STATUSES)
    # Each count is a look into the index of run, status and index of experiments.
    op.execute(
        "INSERT INTO status_counts (run_seq, status, number) "  # noqa: S608 - words of our own
        "SELECT runs.seq, words.status, (SELECT count(*) FROM experiments "
        "WHERE experiments.run_seq = runs.seq AND experiments.status = words.status) "
        f"FROM runs CROSS JOIN ({words}) AS words ORDER BY runs.seq"
    )
