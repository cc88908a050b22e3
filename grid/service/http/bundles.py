"""Bundles of artifacts over HTTP: many files as one archive, at an address that the API has given away."""

from __future__ import annotations

import re
from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import Response

from grid.service.api.context import Service
from grid.service.api.errors import ApiError
from grid.service.api.limits import exceeded
from grid.service.domain.errors import DomainError
from grid.service.http.downloads import Sending, address_of, readable, refusal
from grid.service.store.faults import DatabaseUnavailable
from grid.service.system.addresses import AddressExpired, AddressRefused
from grid.shared.wire import ErrorCode

PATH = re.compile(r"/bundles/[^/]+/[0-9]+")
METHODS = ("POST",)

_MOST_FILES = 10_000
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-transform",
    "Content-Disposition": 'attachment; filename="artifacts.tar"',
}


async def answer(service: Service, request: Request) -> Response:
    """Return what answers the request for files: an archive of those that are there, or why not.

    Parameters
    ----------
    service
        The service.
    request
        A POST of a JSON list of paths to an address that matches `PATH`; its query must be the one that the API has
        signed.
    """
    try:
        user_id, _ = address_of(service, "POST", request)
        attempt = await readable(service, user_id, request.scope["path"])
        paths = _paths(await request.body())
    except (DomainError, ApiError, AddressRefused, AddressExpired, DatabaseUnavailable) as error:
        return refusal(error)
    return Sending(service.contents.bundle(attempt, paths), HTTPStatus.OK, _HEADERS, "application/x-tar")


def _paths(body: bytes) -> list[str]:
    try:
        paths = orjson.loads(body)
    except orjson.JSONDecodeError:
        paths = None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ApiError(ErrorCode.BAD_REQUEST, "the body must be a JSON list of paths, each of them a string")
    if len(paths) > _MOST_FILES:
        raise exceeded("number of paths", len(paths), _MOST_FILES, "ask for the rest in another request", key="paths")
    return list(dict.fromkeys(paths))
