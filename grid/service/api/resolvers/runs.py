"""Thin: from arguments to what the service can do, and from its result to plain dicts."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

from ariadne import (
    MutationType,
    ObjectType,
    QueryType,
    ScalarType,
    SubscriptionType,
    load_schema_from_path,
    make_executable_schema,
)
from graphql import GraphQLResolveInfo, GraphQLSchema
from sqlalchemy import Connection

from grid._version import __version__
from grid.service.api.errors import ApiError
from grid.service.api.projections import (
    Attempts,
    Object,
    Statuses,
    attempt_object,
    experiment_object,
    failure_group_object,
    failure_object,
    instance_type_object,
    moment,
    page_object,
    place_of,
    read_page,
    run_object,
)
from grid.service.domain.accounts import Accounts, User
from grid.service.domain.changes import Changes
from grid.service.domain.cluster import Cluster
from grid.service.domain.errors import ClusterMissing
from grid.service.domain.runs import Named, Runs
from grid.service.domain.scheduler import Scheduler
from grid.service.domain.snapshots import Snapshots
from grid.service.store import accounts as accounts_store
from grid.service.store import runs
from grid.service.store.database import Database
from grid.service.system.settings import Options
from grid.shared.wire import API_VERSION, ErrorCode, ExperimentStatus

SCHEMA_PATH = Path(__file__).parents[3] / "schema.graphql"


@dataclass(frozen=True, slots=True)
class Service:
    """What resolvers can reach."""

    options: Options
    database: Database
    cluster: Cluster
    scheduler: Scheduler
    snapshots: Snapshots
    runs: Runs
    accounts: Accounts
    changes: Changes


@dataclass(frozen=True, slots=True)
class Context:
    """What a resolver knows of its request."""

    service: Service
    user: User


_BETWEEN_CHANGES = 0.1
"""Seconds between two answers of a subscription: what changes in between is told together."""

_Info = GraphQLResolveInfo

_query = QueryType()
_mutation = MutationType()
_subscription = SubscriptionType()
_run = ObjectType("Run")
_experiment = ObjectType("Experiment")
_status_group = ObjectType("StatusGroup")
_cluster = ObjectType("Cluster")
_date_time = ScalarType("DateTime")
_string_map = ScalarType("StringMap")


def executable_schema() -> GraphQLSchema:
    """The schema file with these resolvers."""
    types = (_query, _mutation, _subscription, _run, _experiment, _status_group, _cluster, _date_time, _string_map)
    return make_executable_schema(load_schema_from_path(SCHEMA_PATH), *types)


@_string_map.value_parser
def _parse_string_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        message = "a StringMap is an object whose values are all strings"
        raise ValueError(message)
    return value


# Queries


@_query.field("apiVersion")
def _api_version(*_: Any) -> int:
    return API_VERSION


@_query.field("serviceVersion")
def _service_version(*_: Any) -> str:
    return __version__


@_query.field("viewer")
def _viewer(_: object, info: _Info) -> Object:
    user = info.context.user
    return {"id": user.id, "username": user.name}


@_query.field("run")
async def _find_run(_: object, info: _Info, name: str, owner: str | None = None) -> Object | None:
    service, user = info.context.service, await _reader(info, owner)
    if user is None:
        return None
    row = await service.database.read(lambda connection: runs.by_name(connection, user.id, name))
    return None if row is None else run_object(row, Statuses(service.database, [row]))


@_query.field("runs")
async def _page_of_runs(_: object, info: _Info, first: int, after: str | None = None) -> Object:
    service, user_id, place = info.context.service, info.context.user.id, place_of(after)

    def read(connection: Connection) -> Object:
        rows = runs.page(connection, user_id, first, place)
        statuses = Statuses(service.database, rows[:first])
        total = runs.count(connection, user_id)
        return page_object(rows, first, total, lambda row: run_object(row, statuses), "seq")

    return await service.database.read(read)  # type: ignore[no-any-return]


@_query.field("experiment")
async def _experiment_by_id(_: object, info: _Info, id: str) -> Object | None:  # noqa: A002 - the schema's word
    service = info.context.service
    row = await service.database.read(lambda connection: runs.experiment_by_id(connection, id))
    if row is None or not await service.accounts.may_read(info.context.user, row.user_id):
        return None
    return experiment_object(row, Attempts(service.database, [row.seq]))


@_query.field("experimentByName")
async def _experiment_by_name(_: object, info: _Info, name: str, owner: str | None = None) -> Object | None:
    service, user = info.context.service, await _reader(info, owner)
    if user is None:
        return None
    row = await service.database.read(lambda connection: Runs.find_experiment(connection, user, name))
    return None if row is None else experiment_object(row, Attempts(service.database, [row.seq]))


@_query.field("clusters")
def _clusters(_: object, info: _Info) -> list[Object]:
    return [_cluster_object(info.context.service.cluster)]


@_query.field("cluster")
def _find_cluster(_: object, info: _Info, name: str) -> Object | None:
    cluster = info.context.service.cluster
    return _cluster_object(cluster) if name == cluster.name else None


@_query.field("estimate")
async def _estimate(_: object, info: _Info, settings: Object) -> Object:
    estimate = await info.context.service.runs.estimate(settings)
    return {
        "experimentCount": estimate.experiment_count,
        "hourlyCost": estimate.hourly_cost,
        "warnings": estimate.warnings,
    }


# Fields that are read only where they are asked for


@_run.field("status")
async def _run_status(run: Object, _: _Info) -> Object:
    return await run["statuses"].of(run["seq"])  # type: ignore[no-any-return]


@_run.field("experiments")
async def _run_experiments(run: Object, info: _Info, first: int, after: str | None = None) -> Object:
    seq, total, place = run["seq"], run["experimentCount"], place_of(after)
    database = info.context.service.database
    return await database.read(  # type: ignore[no-any-return]
        lambda connection: read_page(connection, database, seq, total, first, place)
    )


@_run.field("failures")
async def _failures(run: Object, info: _Info) -> list[Object]:
    groups = await info.context.service.database.read(lambda connection: runs.failure_groups(connection, run["seq"]))
    return [failure_group_object(run["name"], *group) for group in groups]


@_experiment.field("attempts")
async def _attempts(experiment: Object, _: _Info) -> list[Object]:
    return [attempt_object(row) for row in await experiment["endings"].of(experiment["seq"])]


@_experiment.field("failure")
async def _failure(experiment: Object, _: _Info) -> Object | None:
    rows = await experiment["endings"].of(experiment["seq"])
    # An attempt that has not ended is not among them; nor may what was read a moment later speak of another one.
    return next(
        (failure_object(row) for row in rows if row.number == experiment["attempt"] and experiment["reason"]), None
    )


@_status_group.field("names")
async def _names(group: Object, _: _Info) -> list[str]:
    return await group["of"].names(group["run"], group["status"])  # type: ignore[no-any-return]


@_cluster.field("paused")
async def _paused(cluster: Object, info: _Info) -> bool:
    return await info.context.service.database.read(  # type: ignore[no-any-return]
        lambda connection: accounts_store.is_paused(connection, cluster["name"])
    )


@_cluster.field("instanceTypes")
def _instance_types(_: Object, info: _Info) -> list[Object]:
    return [instance_type_object(each) for each in info.context.service.cluster.catalogue.types]


# Mutations

_Arguments = ParamSpec("_Arguments")
_going_on: set[asyncio.Task[Object]] = set()


def _to_its_end(mutation: Callable[_Arguments, Coroutine[Any, Any, Object]]) -> Callable[_Arguments, Awaitable[Object]]:
    """Carry a mutation out whole, even where its client hangs up in the middle: what it has recorded, it also does."""

    @functools.wraps(mutation)
    async def whole(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Object:
        task = asyncio.create_task(mutation(*args, **kwargs))
        _going_on.add(task)
        task.add_done_callback(_going_on.discard)
        return await asyncio.shield(task)

    return whole


@_mutation.field("createSnapshot")
@_to_its_end
async def _create_snapshot(_: object, info: _Info, input: Object) -> Object:  # noqa: A002 - the schema's word
    upload = await info.context.service.snapshots.announce(input["digest"], input["sizeBytes"])
    return {
        "digest": input["digest"],
        "stored": upload is None,
        "uploadPath": upload and upload.path,
        "expiresAt": upload and moment(upload.expires_at),
    }


@_mutation.field("startRun")
@_to_its_end
async def _start_run(_: object, info: _Info, input: Object) -> Object:  # noqa: A002 - the schema's word
    service = info.context.service
    row, warnings = await service.runs.start(info.context.user, input)
    return {"run": run_object(row, Statuses(service.database, [row])), "warnings": warnings}


@_mutation.field("cancelRun")
@_to_its_end
async def _cancel_run(
    _: object,
    info: _Info,
    name: str,
    waitSeconds: float,  # noqa: N803 - the schema's word
    owner: str | None = None,
    id: str | None = None,  # noqa: A002 - the schema's word
) -> Object:
    service, which = info.context.service, Named(name, owner, id)
    return _cancellation(service, *await service.runs.cancel_run(info.context.user, which, waitSeconds))


@_mutation.field("cancelExperiment")
@_to_its_end
async def _cancel_experiment(
    _: object,
    info: _Info,
    name: str,
    waitSeconds: float,  # noqa: N803 - the schema's word
    owner: str | None = None,
    id: str | None = None,  # noqa: A002 - the schema's word
) -> Object:
    service, which = info.context.service, Named(name, owner, id)
    return _cancellation(service, *await service.runs.cancel_experiment(info.context.user, which, waitSeconds))


@_mutation.field("retryRun")
@_to_its_end
async def _retry_run(_: object, info: _Info, input: Object) -> Object:  # noqa: A002 - the schema's word
    return {"names": await info.context.service.runs.retry(info.context.user, input["id"], input["key"])}


@_mutation.field("deleteRun")
@_to_its_end
async def _delete_run(_: object, info: _Info, id: str) -> Object:  # noqa: A002 - the schema's word
    return {"deleted": await info.context.service.runs.delete_run(info.context.user, id)}


@_mutation.field("deleteExperiment")
@_to_its_end
async def _delete_experiment(_: object, info: _Info, id: str) -> Object:  # noqa: A002 - the schema's word
    return {"deleted": await info.context.service.runs.delete_experiment(info.context.user, id)}


@_mutation.field("pauseCluster")
@_to_its_end
async def _pause_cluster(_: object, info: _Info, name: str) -> Object:
    return await _set_paused(info.context.service, name, paused=True)


@_mutation.field("resumeCluster")
@_to_its_end
async def _resume_cluster(_: object, info: _Info, name: str) -> Object:
    return await _set_paused(info.context.service, name, paused=False)


# Subscriptions


@_subscription.source("runStatusChanged")
async def _watch_run(_: object, info: _Info, name: str, owner: str | None = None) -> AsyncGenerator[Object, None]:
    service, user = info.context.service, await _reader(info, owner)
    first = user and await service.database.read(lambda connection: runs.by_name(connection, user.id, name))
    if not first:
        raise _no_run(name)
    with service.changes.listen(first.seq) as changed:
        while True:
            changed.clear()
            row = await service.database.read(lambda connection: runs.by_id(connection, first.id))
            # Deleted meanwhile, or not to be read any more.
            if row is None or await _reader(info, owner) is None:
                raise _no_run(name)
            status = await Statuses(service.database, [row]).of(row.seq)
            yield status
            if all(ExperimentStatus(group["status"]).is_terminal for group in status["groups"]):
                return
            await asyncio.sleep(_BETWEEN_CHANGES)
            await changed.wait()


@_subscription.field("runStatusChanged")
def _run_status_changed(status: Object, _: _Info, **__: object) -> Object:
    return status


# What several of them need


async def _reader(info: _Info, owner: str | None) -> User | None:
    """Whose runs are meant, where the viewer may read them."""
    reader: User | None = await info.context.service.accounts.readable(info.context.user, owner)
    return reader


def _no_run(name: str) -> ApiError:
    return ApiError(ErrorCode.RUN_NOT_FOUND, f"you can read no run named {name[:200]!r}")


def _cluster_object(cluster: Cluster) -> Object:
    return {"name": cluster.name, "cpus": cluster.resources.cpus, "gpus": cluster.resources.gpus}


def _cancellation(service: Service, ended: list[str], pending: list[str]) -> Object:
    return {"ended": ended, "pending": pending, "graceSeconds": service.options.grace_seconds}


async def _set_paused(service: Service, name: str, *, paused: bool) -> Object:
    if name != service.cluster.name:
        raise ClusterMissing(name, service.cluster.name)
    await service.database.write(lambda connection: accounts_store.set_paused(connection, name, paused=paused))
    service.scheduler.wake()
    return _cluster_object(service.cluster)
