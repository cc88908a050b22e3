"""Experiments: finding one by id or by name, how its attempts ended, cancelling and deleting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ariadne import MutationType, ObjectType, QueryType

from grid.service.api.compiled import batched
from grid.service.api.context import Info, readable_owner
from grid.service.api.projections import (
    Attempts,
    Object,
    cancellation_object,
    experiment_object,
)
from grid.service.api.resolvers.mutations import to_its_end
from grid.service.domain.runs import Named, Runs
from grid.service.store import experiment_rows

Experiment = Mapping[str, Any]

_query = QueryType()
_mutation = MutationType()
_experiment = ObjectType("Experiment")

BINDABLES = (_query, _mutation, _experiment)


@_query.field("experiment")
async def _experiment_by_id(_: object, info: Info, id: str) -> Experiment | None:  # noqa: A002 - the schema's word
    service = info.context.service
    row = await service.database.read(lambda connection: experiment_rows.by_id(connection, id))
    if row is None or not await service.accounts.may_read(info.context.user, row.user_id):
        return None
    return experiment_object(row, Attempts(service.database, [row.seq]))


@_query.field("experimentByName")
async def _experiment_by_name(_: object, info: Info, name: str, owner: str | None = None) -> Experiment | None:
    service, user = info.context.service, await readable_owner(info, owner)
    if user is None:
        return None
    row = await service.database.read(lambda connection: Runs.find_experiment(connection, user, name))
    return None if row is None else experiment_object(row, Attempts(service.database, [row.seq]))


async def _attempts(experiments: Sequence[Experiment]) -> list[list[Object]]:
    return [await each["endings"].of(each["seq"]) for each in experiments]


async def _failures(experiments: Sequence[Experiment]) -> list[Object | None]:
    return [_failure(each, await each["endings"].of(each["seq"])) for each in experiments]


def _failure(experiment: Experiment, attempts: Sequence[Object]) -> Object | None:
    # Only ended attempts are listed, and they are read after the experiment: match the number that it was read with.
    number = experiment["attempt"] if experiment["reason"] else None
    return next((each["failure"] for each in attempts if each["number"] == number), None)


_experiment.set_field("attempts", batched(_attempts))
_experiment.set_field("failure", batched(_failures))


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
