"""Alembic's entry point: runs the migrations in `versions/` on the connection that `grid.service.store.upgrade` opens.

The caller begins and ends the transaction, so that either all migrations change the database or none does.
"""

from __future__ import annotations

from alembic import context

config = context.config

# SQLite changes a table by making a new one: Alembic calls that a batch.
context.configure(
    connection=config.attributes["connection"], target_metadata=config.attributes["metadata"], render_as_batch=True
)
context.run_migrations()
