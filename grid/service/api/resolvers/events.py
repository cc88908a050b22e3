"""What happens in a run: a piece of it on request, or all of it as it comes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from ariadne import ObjectType, SubscriptionType

from grid.service.api.context import Info
from grid.service.api.projections import Object, events_object
from grid.service.domain import events
from grid.service.domain.errors import RunMissing
from grid.service.domain.events import Piece, Wanted
from grid.service.store import event_rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AT_ONCE = 100
"""How many events an answer of the subscription has at most: it is made on the event loop."""

_BETWEEN_ANSWERS = 0.1
"""Seconds between two answers about what has just happened; what happens in between is told together."""

_run = ObjectType("Run")
_subscription = SubscriptionType()

BINDABLES = (_run, _subscription)


@_run.field("events")
async def _events(run: Object, info: Info, after: int, first: int, experiment: str | None = None) -> Object:
    wanted = Wanted(run["id"], after, experiment)

    def read(connection: Connection) -> Object:
        return events_object(events.read(connection, wanted, first))

    return await info.context.service.database.read(read)  # type: ignore[no-any-return]


@_subscription.source("runEvents")
async def _watch_events(
    _: object,
    info: Info,
    id: str,  # noqa: A002 - the schema's word
    after: int,
    experiment: str | None = None,
) -> AsyncGenerator[Object, None]:
    service = info.context.service
    head = await service.database.read(lambda connection: event_rows.head(connection, id))
    await _check_readable(info, id, head and head.user_id)
    wanted, is_first = Wanted(id, after, experiment), True
    with service.changes.listen(head.seq) as changed:
        while True:
            changed.clear()
            piece: Piece = await service.database.read(
                lambda connection, wanted=wanted: events.read(connection, wanted, _AT_ONCE)
            )
            await _check_readable(info, id, piece.owner_id)
            if piece.events or piece.is_end or is_first:
                yield events_object(piece)
            if piece.is_end:
                return
            wanted, is_first = dataclasses.replace(wanted, after=piece.revision, index=piece.index), False
            if not piece.is_full:
                await asyncio.sleep(_BETWEEN_ANSWERS)
                await changed.wait()


@_subscription.field("runEvents")
def _run_events(told: Object, _: Info, **__: object) -> Object:
    return told


async def _check_readable(info: Info, run_id: str, owner_id: str | None) -> None:
    """Refuse somebody who may not read the run, or no longer may."""
    if owner_id is None or not await info.context.service.accounts.may_read(info.context.user, owner_id):
        raise RunMissing(run_id=run_id)
