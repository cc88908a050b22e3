"""Tests of what is SQLite's own: rows that are handed over by column."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store.database import Database
from grid.service.store.sqlite import ByColumn
from grid.service.store.tables import users

TEXTS = ["plain", "", '"\\/\b\f\n\r\t', "é😀\u2028\x7f\x01", "null", "[1]", "1.0", "b", "a"]


def test_columns_are_those_of_the_rows(tmp_path: Path) -> None:
    """By column, every value is the one of the row, and the rows are in the order that was asked for."""
    statement = sa.select(users).order_by(users.c.created_at.desc()).limit(sa.bindparam("b_limit"))
    rows = [
        {"id": str(place), "name": text, "created_at": 2**62 - place, "disabled_at": -place if place % 2 else None}
        for place, text in enumerate(TEXTS)
    ]

    def read(connection: Connection) -> Any:
        meant = {"b_limit": len(rows) - 1}
        by_row = connection.execute(statement, meant).mappings().all()
        return [dict(row) for row in by_row], ByColumn(statement).read(connection, meant)

    async def play() -> None:
        database = Database(tmp_path / "grid.sqlite3")
        try:
            assert await database.read(read) == ([], {"id": [], "name": [], "created_at": [], "disabled_at": []})
            await database.write(lambda connection: connection.execute(sa.insert(users), rows))
            by_row, by_column = await database.read(read)
            assert by_row == rows[:-1]
            assert by_column == {name: [row[name] for row in by_row] for name in rows[0]}
        finally:
            database.close()

    asyncio.run(play())
