"""The viewer, and the versions of the service and of its API."""

from __future__ import annotations

from typing import Any

from ariadne import QueryType

from grid._version import __version__
from grid.service.api.context import Info
from grid.service.api.projections import Object
from grid.shared.wire import API_VERSION

_query = QueryType()

BINDABLES = (_query,)


@_query.field("apiVersion")
def _api_version(*_: Any) -> int:
    return API_VERSION


@_query.field("serviceVersion")
def _service_version(*_: Any) -> str:
    return __version__


@_query.field("viewer")
def _viewer(_: object, info: Info) -> Object:
    user = info.context.user
    return {"id": user.id, "username": user.name}
