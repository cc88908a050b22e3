"""Alembic's entry: runs the migrations in `versions/` on the engine that `grid.service.store.database` made."""

from __future__ import annotations

from alembic import context

config = context.config

with config.attributes["engine"].begin() as connection:
    # SQLite changes a table by making a new one: Alembic calls that a batch.
    context.configure(connection=connection, target_metadata=config.attributes["metadata"], render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
