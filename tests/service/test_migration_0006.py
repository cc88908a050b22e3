"""Tests of the migration that adds who has uploaded which snapshot: everybody may go on with what they have run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from grid.service.store import snapshot_rows
from grid.service.store.database import Database
from grid.service.store.tables import metadata
from grid.service.store.upgrade import upgrade

BEFORE = "0005"


def test_who_has_started_a_run_has_uploaded(tmp_path: Path) -> None:
    """Each user keeps the snapshots of their own runs, and of no others; the database is like a new one."""
    file = tmp_path / "grid.sqlite3"
    engine = sa.create_engine(f"sqlite:///{file}")
    upgrade(engine, str(file), file, head=BEFORE)
    engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for user in ("ada", "bea", "cleo"):
            connection.execute("INSERT INTO users (id, name, created_at) VALUES (?, ?, 1)", [user, user])
        connection.execute("INSERT INTO clusters (name, paused) VALUES ('local', 0)")
        for digest in ("one", "two", "sent"):
            connection.execute("INSERT INTO snapshots (digest, size_bytes, created_at) VALUES (?, 5, 1)", [digest])
        for number, (user, digest) in enumerate([("ada", "one"), ("ada", "one"), ("ada", "two"), ("bea", "one")]):
            connection.execute(
                "INSERT INTO runs (id, user_id, name, key, cluster, snapshot, project, commit_sha, script, "
                "script_command, settings, warnings, experiment_count, created_at) "
                "VALUES (?, ?, ?, ?, 'local', ?, '', '', '', '', '{}', '[]', 0, ?)",
                [f"r{number}", user, f"r{number}", f"r{number}", digest, 7 + number],
            )
    database = Database(file)
    try:
        with database.engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT * FROM uploads ORDER BY digest, user_id").all()
            assert [tuple(row) for row in found] == [("one", "ada", 7), ("one", "bea", 10), ("two", "ada", 9)]
            for user, mine in (("ada", ["one", "two"]), ("bea", ["one"]), ("cleo", [])):
                known = [each for each in ("one", "two", "sent") if snapshot_rows.may_use(connection, user, each)]
                assert known == mine
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    finally:
        database.close()
