"""Experiments: finding one by id or by name, how its attempts ended, cancelling and deleting it."""

from __future__ import annotations

from ariadne import MutationType, ObjectType, QueryType

from grid.service.api.context import Info, readable_owner
from grid.service.api.projections import (
    Attempts,
    Object,
    attempt_object,
    cancellation_object,
    experiment_object,
    failure_object,
)
from grid.service.api.resolvers.mutations import to_its_end
from grid.service.domain.runs import Named, Runs
from grid.service.store import experiment_rows

_query = QueryType()
_mutation = MutationType()
_experiment = ObjectType("Experiment")

BINDABLES = (_query, _mutation, _experiment)


@_query.field("experiment")
async def _experiment_by_id(_: object, info: Info, id: str) -> Object | None:  # noqa: A002 - the schema's word
    service = info.context.service
    row = await service.database.read(lambda connection: experiment_rows.by_id(connection, id))
    if row is None or not await service.accounts.may_read(info.context.user, row.user_id):
        return None
    return experiment_object(row, Attempts(service.database, [row.seq]))


@_query.field("experimentByName")
async def _experiment_by_name(_: object, info: Info, name: str, owner: str | None = None) -> Object | None:
    service, user = info.context.service, await readable_owner(info, owner)
    if user is None:
        return None
    row = await service.database.read(lambda connection: Runs.find_experiment(connection, user, name))
    return None if row is None else experiment_object(row, Attempts(service.database, [row.seq]))


@_experiment.field("attempts")
async def _attempts(experiment: Object, _: Info) -> list[Object]:
    return [attempt_object(row) for row in await experiment["endings"].of(experiment["seq"])]


@_experiment.field("failure")
async def _failure(experiment: Object, _: Info) -> Object | None:
    rows = await experiment["endings"].of(experiment["seq"])
    # Only ended attempts are listed, and they are read after the experiment: match the number that it was read with.
    return next(
        (failure_object(row) for row in rows if row.number == experiment["attempt"] and experiment["reason"]), None
    )


@_mutation.field("cancelExperiment")
@to_its_end
async def _cancel_experiment(
    _: object,
    info: Info,
    name: str,
    waitSeconds: float,  # noqa: N803 - the schema's word
    owner: str | None = None,
    id: str | None = None,  # noqa: A002 - the schema's word
) -> Object:
    service, which = info.context.service, Named(name, owner, id)
    ended, pending = await service.runs.cancel_experiment(info.context.user, which, waitSeconds)
    return cancellation_object(ended, pending, service.options.grace_seconds)


@_mutation.field("deleteExperiment")
@to_its_end
async def _delete_experiment(_: object, info: Info, id: str) -> Object:  # noqa: A002 - the schema's word
    return {"deleted": await info.context.service.runs.delete_experiment(info.context.user, id)}
