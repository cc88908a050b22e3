"""The subscription to the status of a run: one answer immediately, then another whenever something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from ariadne import SubscriptionType

from grid.service.api.context import Info, readable_owner
from grid.service.api.errors import ApiError
from grid.service.api.projections import Object
from grid.service.api.resolvers.runs import statuses_of
from grid.service.store import run_rows
from grid.shared.wire import ErrorCode, ExperimentStatus

_BETWEEN_CHANGES = 0.1
"""Seconds between two answers of a subscription; changes in between are reported together."""

_subscription = SubscriptionType()

BINDABLES = (_subscription,)


@_subscription.source("runStatusChanged")
async def _watch_run(_: object, info: Info, name: str, owner: str | None = None) -> AsyncGenerator[Object, None]:
    service, user = info.context.service, await readable_owner(info, owner)
    first = user and await service.database.read(lambda connection: run_rows.by_name(connection, user.id, name))
    if not first:
        raise _no_run(name)
    with service.changes.listen(first.seq) as changed:
        while True:
            changed.clear()
            row = await service.database.read(lambda connection: run_rows.by_id(connection, first.id))
            # It has been deleted in the meantime, or the user may no longer read it.
            if row is None or await readable_owner(info, owner) is None:
                raise _no_run(name)
            status = await statuses_of(info, [row]).of(row.seq)
            yield status
            if all(ExperimentStatus(group["status"]).is_terminal for group in status["groups"]):
                return
            await asyncio.sleep(_BETWEEN_CHANGES)
            await changed.wait()


@_subscription.field("runStatusChanged")
def _run_status_changed(status: Object, _: Info, **__: object) -> Object:
    return status


def _no_run(name: str) -> ApiError:
    return ApiError(ErrorCode.RUN_NOT_FOUND, f"there is no run named {name[:200]!r} that you can read")
