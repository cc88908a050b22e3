"""How a mutation is carried out, whichever noun it changes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec

from grid.service.api.projections import Object

_Arguments = ParamSpec("_Arguments")
_unfinished: set[asyncio.Task[Object]] = set()


def to_its_end(mutation: Callable[_Arguments, Coroutine[Any, Any, Object]]) -> Callable[_Arguments, Awaitable[Object]]:
    """Run a mutation to its end even if its client hangs up midway, so that it also does what it has recorded."""

    @functools.wraps(mutation)
    async def whole(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Object:
        task = asyncio.create_task(mutation(*args, **kwargs))
        _unfinished.add(task)
        task.add_done_callback(_unfinished.discard)
        return await asyncio.shield(task)

    return whole
