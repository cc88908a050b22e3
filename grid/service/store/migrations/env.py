"""Alembic's entry: runs the migrations in `versions/` on the connection that `grid.service.store.upgrade` gives.

That has begun the transaction and ends it, so that a database is changed by all of them or by none.
"""

from __future__ import annotations

from alembic import context

config = context.config

# SQLite changes a table by making a new one: Alembic calls that a batch.
context.configure(
    connection=config.attributes["connection"], target_metadata=config.attributes["metadata"], render_as_batch=True
)
context.run_migrations()
