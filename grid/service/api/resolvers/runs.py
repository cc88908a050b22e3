"""Runs: reading them and those of their parts that are read on request, starting, cancelling, retrying, deleting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ariadne import MutationType, ObjectType, QueryType

from grid.service.api.compiled import batched
from grid.service.api.context import Info, readable_owner
from grid.service.api.projections import (
    Object,
    Statuses,
    cancellation_object,
    failure_group_object,
    page_object,
    place_of,
    preview_object,
    read_page,
    run_object,
)
from grid.service.api.resolvers.mutations import to_its_end
from grid.service.api.selections import selects
from grid.service.domain.runs import Named
from grid.service.store import attempt_rows, run_rows

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_query = QueryType()
_mutation = MutationType()
_run = ObjectType("Run")

BINDABLES = (_query, _mutation, _run)

_FIELDS = {"script_command": "scriptCommand", "settings": "settings"}
"""For each large column of a run, the field that shows it."""


@_query.field("run")
async def _find_run(_: object, info: Info, name: str, owner: str | None = None) -> Object | None:
    service, user = info.context.service, await readable_owner(info, owner)
    if user is None:
        return None
    row = await service.database.read(lambda connection: run_rows.by_name(connection, user.id, name))
    return None if row is None else run_object(row, statuses_of(info, [row]), info.context.user.id)


@_query.field("runs")
async def _page_of_runs(_: object, info: Info, first: int, after: str | None = None) -> Object:
    service, user_id, place = info.context.service, info.context.user.id, place_of(after)
    # A page of 1,000 names must not read what may be a gigabyte.
    without = frozenset(column for column, field in _FIELDS.items() if not selects(info, field))

    def read(connection: Connection) -> Object:
        rows = run_rows.page(connection, user_id, first, place, without=without)
        statuses = statuses_of(info, rows[:first])
        total = run_rows.count(connection, user_id)
        return page_object(rows, first, total, lambda row: run_object(row, statuses, user_id), "seq")

    return await service.database.read(read)  # type: ignore[no-any-return]


@_query.field("estimate")
async def _estimate(_: object, info: Info, settings: Object) -> Object:
    estimate = await info.context.service.runs.estimate(settings)
    return {
        "experimentCount": estimate.experiment_count,
        "hourlyCost": estimate.hourly_cost,
        "warnings": estimate.warnings,
    }


@_query.field("preview")
async def _preview(_: object, info: Info, first: int, **given: Any) -> Object:
    found = await info.context.service.runs.preview(info.context.user, given, first)
    return await asyncio.to_thread(preview_object, found)  # up to 1,000 commands


def statuses_of(info: Info, rows: Sequence[Row[Any]]) -> Statuses:
    """Return the statuses of runs, of which as much is read as is selected."""
    service = info.context.service
    forecasts = service.forecasts if selects(info, "forecast") else None
    return Statuses(service.database, rows, with_names=selects(info, "names"), forecasts=forecasts)


async def _run_statuses(runs: Sequence[Object]) -> list[Object]:
    return [await run["statuses"].of(run["seq"]) for run in runs]


_run.set_field("status", batched(_run_statuses))


@_run.field("experiments")
async def _run_experiments(run: Object, info: Info, first: int, after: str | None = None) -> Object:
    seq, total, place = run["seq"], run["experimentCount"], place_of(after)
    database = info.context.service.database
    return await database.read(  # type: ignore[no-any-return]
        lambda connection: read_page(connection, database, seq, total, first, place)
    )


@_run.field("failures")
async def _failures(run: Object, info: Info) -> list[Object]:
    def read(connection: Connection) -> list[Object]:
        # Made where it is read, in a thread: there may be 10,000 of them.
        groups = attempt_rows.failure_groups(connection, run["seq"])
        return [failure_group_object(run["name"], *group) for group in groups]

    return await info.context.service.database.read(read)  # type: ignore[no-any-return]


@_mutation.field("startRun")
@to_its_end
async def _start_run(_: object, info: Info, input: Object) -> Object:  # noqa: A002 - the schema's word
    service = info.context.service
    row, warnings = await service.runs.start(info.context.user, input)
    return {"run": run_object(row, statuses_of(info, [row]), info.context.user.id), "warnings": warnings}


@_mutation.field("cancelRun")
@to_its_end
async def _cancel_run(
    _: object,
    info: Info,
    name: str,
    waitSeconds: float,  # noqa: N803 - the schema's word
    owner: str | None = None,
    id: str | None = None,  # noqa: A002 - the schema's word
) -> Object:
    service, which = info.context.service, Named(name, owner, id)
    ended, pending = await service.runs.cancel_run(info.context.user, which, waitSeconds)
    return cancellation_object(ended, pending, service.options.grace_seconds)


@_mutation.field("retryRun")
@to_its_end
async def _retry_run(_: object, info: Info, input: Object) -> Object:  # noqa: A002 - the schema's word
    return {"names": await info.context.service.runs.retry(info.context.user, input["id"], input["key"])}


@_mutation.field("deleteRun")
@to_its_end
async def _delete_run(_: object, info: Info, id: str) -> Object:  # noqa: A002 - the schema's word
    return {"deleted": await info.context.service.runs.delete_run(info.context.user, id)}
