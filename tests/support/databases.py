"""Writing to a database past the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from grid.service.store.database import Database


def together(database: Database, *writes: Callable[[Connection], Any]) -> list[Any]:
    """Have writes made in one transaction; return what each returned or raised."""

    async def play() -> list[Any]:
        writer = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(_: Connection) -> None:
            # The writer is busy here until all the others wait, which it then takes as one group.
            asyncio.run_coroutine_threadsafe(writer.wait(), loop).result(60)

        first = asyncio.create_task(database.write(hold))
        others = [asyncio.create_task(database.write(write)) for write in writes]
        await asyncio.sleep(0)
        writer.set()
        await first
        return await asyncio.gather(*others, return_exceptions=True)

    return asyncio.run(play())
