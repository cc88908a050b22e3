"""The cluster: its resources, and pausing and resuming it."""

from __future__ import annotations

from ariadne import MutationType, ObjectType, QueryType

from grid.service.api.context import Context, Info
from grid.service.api.projections import Object, instance_type_object
from grid.service.api.resolvers.mutations import to_its_end
from grid.service.domain.cluster import Cluster
from grid.service.domain.errors import ClusterMissing
from grid.service.domain.pauses import set_paused
from grid.service.store import cluster_rows

_query = QueryType()
_mutation = MutationType()
_cluster = ObjectType("Cluster")

BINDABLES = (_query, _mutation, _cluster)


@_query.field("clusters")
def _clusters(_: object, info: Info) -> list[Object]:
    return [_cluster_object(info.context.service.cluster)]


@_query.field("cluster")
def _find_cluster(_: object, info: Info, name: str) -> Object | None:
    cluster = info.context.service.cluster
    return _cluster_object(cluster) if name == cluster.name else None


@_cluster.field("paused")
async def _paused(cluster: Object, info: Info) -> bool:
    return await info.context.service.database.read(  # type: ignore[no-any-return]
        lambda connection: cluster_rows.is_paused(connection, cluster["name"])
    )


@_cluster.field("instanceTypes")
def _instance_types(_: Object, info: Info) -> list[Object]:
    return [instance_type_object(each) for each in info.context.service.cluster.catalogue.types]


@_mutation.field("pauseCluster")
@to_its_end
async def _pause_cluster(_: object, info: Info, name: str) -> Object:
    return await _set_paused(info.context, name, paused=True)


@_mutation.field("resumeCluster")
@to_its_end
async def _resume_cluster(_: object, info: Info, name: str) -> Object:
    return await _set_paused(info.context, name, paused=False)


def _cluster_object(cluster: Cluster) -> Object:
    return {"name": cluster.name, "cpus": cluster.resources.cpus, "gpus": cluster.resources.gpus}


async def _set_paused(context: Context, name: str, *, paused: bool) -> Object:
    service = context.service
    if name != service.cluster.name:
        raise ClusterMissing(name, service.cluster.name)
    await set_paused(service.database, service.accounts, context.user, name, paused=paused)
    service.scheduler.wake()
    return _cluster_object(service.cluster)
