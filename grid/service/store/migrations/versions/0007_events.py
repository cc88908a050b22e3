"""Numbers the events of each run by a counter of the run's own, and notes which parameters differ in a run."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

revision = "0007"
down_revision = "0006"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring a database from the version before to this one."""
    connection = op.get_bind()
    op.create_table(
        "revisions",
        sa.Column("run_seq", _SEQ, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_seq"], ["runs.seq"], name=op.f("fk_revisions_run_seq"), initially="DEFERRED", deferrable=True
        ),
        sa.PrimaryKeyConstraint("run_seq", name=op.f("pk_revisions")),
    )
    # What clients have seen as a run's revision was the seq of its newest event: it must not go back.
    op.execute(
        "INSERT INTO revisions (run_seq, number) SELECT runs.seq, "
        "COALESCE((SELECT MAX(events.seq) FROM events WHERE events.run_seq = runs.seq), 0) FROM runs ORDER BY runs.seq"
    )
    _number_events(connection)
    op.add_column("runs", sa.Column("varying", sa.Text(), server_default="[]", nullable=False))
    _note_varying(connection)


def _number_events(connection: Connection) -> None:
    with op.batch_alter_table("events") as batch:
        batch.add_column(sa.Column("number", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("index", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("is_queued_again", sa.Boolean(), nullable=True))
    op.execute(
        'UPDATE events SET number = seq, "index" = COALESCE((SELECT experiments."index" FROM experiments '
        "WHERE experiments.seq = events.experiment_seq), 0), "
        # Both were told with the same time if the service did it by itself.
        "is_queued_again = (COALESCE(reason, '') = 'LOST' AND EXISTS (SELECT 1 FROM events AS following "
        "WHERE following.experiment_seq = events.experiment_seq AND following.attempt = events.attempt + 1 "
        "AND following.status = 'QUEUED' AND following.at = events.at))"
    )
    _name_deletions(connection)
    with op.batch_alter_table("events", table_kwargs={"sqlite_autoincrement": True}) as batch:
        for column, type_ in (("number", sa.Integer()), ("index", sa.Integer()), ("is_queued_again", sa.Boolean())):
            batch.alter_column(column, existing_type=type_, nullable=False)
        batch.drop_index(op.f("ix_events_run_seq_seq"))
        batch.create_index(op.f("ix_events_run_seq_number"), ["run_seq", "number"], unique=True)


def _name_deletions(connection: Connection) -> None:
    """Say which experiment each deletion was about. The run knows which, but not in which order."""
    deletions = connection.execute(
        sa.text(
            "SELECT events.run_seq, runs.deleted_indices, events.seq "
            "FROM events JOIN runs ON runs.seq = events.run_seq "
            "WHERE events.experiment_seq IS NULL ORDER BY events.run_seq, events.seq"
        )
    )
    named: list[dict[str, Any]] = []
    for (_, deleted), of_run in groupby(deletions, key=lambda row: (row[0], row[1])):
        seqs = [seq for *_, seq in of_run]
        named += [{"seq": seq, "place": place} for seq, place in zip(seqs, orjson.loads(deleted), strict=False)]
    if named:
        connection.execute(sa.text('UPDATE events SET "index" = :place WHERE seq = :seq'), named)


def _note_varying(connection: Connection) -> None:
    """Compare the parameters of each run's experiments, a run at a time."""
    of_run = sa.text('SELECT parameters FROM experiments WHERE run_seq = :run ORDER BY "index"')
    for run_seq in connection.scalars(sa.text("SELECT seq FROM runs ORDER BY seq")).all():
        different: dict[str, bool] = {}
        first: dict[str, str] | None = None
        for text in connection.scalars(of_run, {"run": run_seq}):
            parameters = orjson.loads(text)
            first = parameters if first is None else first
            for name in {**first, **parameters}:
                different[name] = different.get(name, False) or parameters.get(name) != first.get(name)
        varying = [name for name, is_different in different.items() if is_different]
        connection.execute(
            sa.text("UPDATE runs SET varying = :varying WHERE seq = :run"),
            {"varying": orjson.dumps(varying).decode(), "run": run_seq},
        )
