"""Adds the attempts that have ended, retries, what must be removed from the disk, and teams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring a database from version 0001 to this one."""
    op.add_column("users", sa.Column("disabled_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "teams",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
        sa.UniqueConstraint("name", name=op.f("uq_teams_name")),
    )
    op.create_table(
        "memberships",
        sa.Column("team_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_memberships_team_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id")),
        sa.PrimaryKeyConstraint("team_id", "user_id", name=op.f("pk_memberships")),
    )
    op.create_index(op.f("ix_memberships_user_id"), "memberships", ["user_id"], unique=False)

    op.add_column("runs", sa.Column("deleted_indices", sa.Text(), server_default="[]", nullable=False))
    op.create_index(op.f("ix_runs_snapshot"), "runs", ["snapshot"], unique=False)

    # SQLite cannot change a table: the rows move into a new one, in which no number is used twice.
    if op.get_bind().dialect.name == "sqlite":
        for table in ("runs", "experiments"):
            with op.batch_alter_table(table, recreate="always", table_kwargs={"sqlite_autoincrement": True}):
                pass
    op.drop_index(op.f("ix_events_experiment_seq"), table_name="events")
    op.drop_index(op.f("ix_events_run_seq_seq"), table_name="events")
    op.rename_table("events", "events_0001")
    op.create_table(
        "events",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("run_seq", _SEQ, nullable=False),
        sa.Column("experiment_seq", _SEQ, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_seq"], ["experiments.seq"], name=op.f("fk_events_experiment_seq")),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_events_run_seq")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    columns = "seq, run_seq, experiment_seq, attempt, status, reason, at"
    op.execute(f"INSERT INTO events ({columns}) SELECT {columns} FROM events_0001 ORDER BY seq")  # noqa: S608
    op.drop_table("events_0001")
    op.create_index(op.f("ix_events_run_seq_seq"), "events", ["run_seq", "seq"], unique=False)
    op.create_index(
        op.f("ix_events_experiment_seq_attempt_status"), "events", ["experiment_seq", "attempt", "status"], unique=True
    )

    op.create_table(
        "attempts",
        sa.Column("experiment_seq", _SEQ, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("last_lines", sa.Text(), nullable=False),
        sa.Column("final_line", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_seq"], ["experiments.seq"], name=op.f("fk_attempts_experiment_seq")),
        sa.PrimaryKeyConstraint("experiment_seq", "number", name=op.f("pk_attempts")),
    )
    # Attempts that ended before they were kept in a table: their last lines are only in their output.
    op.execute(
        "INSERT INTO attempts (experiment_seq, number, status, reason, exit_code, signal, error, last_lines, "
        "started_at, finished_at) "
        "SELECT seq, attempt, status, reason, exit_code, signal, error, '', started_at, finished_at FROM experiments "
        "WHERE status IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"
    )
    op.create_table(
        "retries",
        sa.Column("run_seq", _SEQ, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("indices", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_retries_run_seq")),
        sa.PrimaryKeyConstraint("run_seq", "key", name=op.f("pk_retries")),
    )
    op.create_table(
        "removals",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_removals")),
    )
