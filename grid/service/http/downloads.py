"""Downloads of artifacts over HTTP: one file, or a part of it, at an address that the API has given away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from grid.service.api.context import Service
from grid.service.api.errors import ApiError, coded, translated
from grid.service.domain.accounts import User
from grid.service.domain.errors import DomainError
from grid.service.executors.protocol import Written
from grid.service.http.ranges import Verdict, judge
from grid.service.results.artifacts import Attempt, etag_of
from grid.service.results.bundles import Changed
from grid.service.results.contents import Content
from grid.service.store import attempt_rows, experiment_rows
from grid.service.store.faults import DatabaseUnavailable
from grid.service.system.addresses import AddressExpired, AddressRefused
from grid.shared.wire import ErrorCode, ExperimentStatus

PATH = re.compile(r"/artifacts/[^/]+/[0-9]+")
METHODS = ("GET", "HEAD")

_STATUS = {
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.EXPERIMENT_NOT_FOUND: 404,
    ErrorCode.ARTIFACT_NOT_FOUND: 404,
    ErrorCode.LIMIT_EXCEEDED: 413,
    ErrorCode.UNAVAILABLE: 503,
}
_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-transform",
    "Content-Security-Policy": "sandbox",  # for a browser that shows it all the same
}
_ASCII = re.compile(r"[^A-Za-z0-9 ._+=@~-]")


async def answer(service: Service, request: Request) -> Response:
    """Return what answers the request for a file: the file, a part of it, or why not.

    Parameters
    ----------
    service
        The service.
    request
        A GET or HEAD to an address that matches `PATH`; its query must be the one that the API has signed.
    """
    try:
        user_id, query = address_of(service, "GET", request)
        attempt = await readable(service, user_id, request.scope["path"])
        content = await service.contents.open(attempt, query["path"])
        if content is None:
            message = f"there is no file {query['path'][:200]!r} any more, or it cannot be read"
            raise ApiError(ErrorCode.ARTIFACT_NOT_FOUND, message)
        return _file(content, request)
    except (DomainError, ApiError, AddressRefused, AddressExpired, DatabaseUnavailable) as error:
        return refusal(error)


def address_of(service: Service, method: str, request: Request) -> tuple[str, dict[str, str]]:
    """Return whose address was requested, and what it says.

    Raises
    ------
    AddressRefused, AddressExpired
        If it is none, or works no longer.
    """
    said = service.addresses.check(method, request.scope["path"], request.query_params.multi_items())
    return said["user"], said


async def readable(service: Service, user_id: str, path: str) -> Attempt:
    """Return the attempt that an address is about, if its user may read that now.

    Raises
    ------
    ApiError
        If there is no such user any more, or they may not, or there is nothing to be read.
    """
    _, _, experiment_id, number = path.split("/")
    user = await service.accounts.enabled(user_id)
    if user is None:
        message = "the user whom this address was given to is disabled, or does not exist any more"
        raise ApiError(ErrorCode.UNAUTHENTICATED, message)
    found = await _attempt(service, user, experiment_id, int(number))
    if found is None:
        message = "there is no experiment any more whose files these would be, or you may not read it"
        raise ApiError(ErrorCode.EXPERIMENT_NOT_FOUND, message)
    return found


async def _attempt(service: Service, user: User, experiment_id: str, number: int) -> Attempt | None:
    row = await service.database.read(lambda connection: experiment_rows.by_id(connection, experiment_id))
    if row is None or not await service.accounts.may_read(user, row.user_id):
        return None
    if number == row.attempt:
        written = Written(experiment_id, number, row.layout, row.started_at)
        return Attempt(written, row.snapshot, ExperimentStatus(row.status).is_terminal)
    ended = await service.database.read(lambda connection: attempt_rows.of_experiments(connection, [row.seq]))
    for each in ended[row.seq]:
        if each.number == number:
            return Attempt(Written(experiment_id, number, each.layout, each.started_at), row.snapshot, has_ended=True)
    return None


def refusal(error: Exception) -> Response:
    """Return the answer to a request that is refused, in the form of GraphQL's errors."""
    refused = translated(error)
    if refused is None:
        raise error
    return JSONResponse({"errors": [coded(refused, refused.code)]}, status_code=_STATUS.get(refused.code, 400))


def _file(content: Content, request: Request) -> Response:
    state, etag = content.state, etag_of(content.state)
    verdict, part = judge(request.method, request.headers, etag, state.size)
    headers = {**_FIXED, "ETag": etag, "Accept-Ranges": "bytes"}
    if verdict is Verdict.NOT_MODIFIED:
        return _Closing(content, Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers))
    if verdict is Verdict.FAILED:
        error = ApiError(ErrorCode.INVALID_ARGUMENT, "the file is no longer the one that If-Match names")
        answered = JSONResponse({"errors": [coded(error, error.code)]}, HTTPStatus.PRECONDITION_FAILED, headers)
        return _Closing(content, answered)
    if verdict is Verdict.UNSATISFIABLE:
        headers["Content-Range"] = f"bytes */{state.size}"
        error = ApiError(ErrorCode.INVALID_ARGUMENT, f"the file has {state.size} bytes: that part of it is not there")
        answered = JSONResponse(
            {"errors": [coded(error, error.code)]}, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers
        )
        return _Closing(content, answered)
    status = HTTPStatus.OK
    if verdict is Verdict.PART:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{state.size}"
    headers |= {"Content-Length": str(len(part)), "Content-Disposition": _disposition(state.path)}
    body = content.pieces(part) if request.method == "GET" else None
    return _Closing(content, Sending(body, status, headers, "application/octet-stream"))


def _disposition(path: str) -> str:
    """Return the header that makes browsers save a file under its name, and never show it."""
    name = path.rpartition("/")[2]
    return f"attachment; filename=\"{_ASCII.sub('_', name)}\"; filename*=UTF-8''{quote(name, safe='')}"


class Sending(Response):
    """An answer whose body comes piece by piece; it ends as soon as nobody listens any longer.

    Parameters
    ----------
    pieces
        The body; None for none.
    status, headers, media_type
        As for any answer. A body that is shorter than its announced length breaks the connection: the server closes
        one whose answer was not completed.
    """

    def __init__(
        self, pieces: AsyncIterator[bytes] | None, status: int, headers: dict[str, str], media_type: str
    ) -> None:
        self.background = None
        self.status_code = status
        self.media_type = media_type
        self._pieces = pieces
        self.body = b""
        self.init_headers(headers)
        if "Content-Length" not in headers:
            del self.headers["content-length"]

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._pieces is None:
            await send({"type": "http.response.body"})
            return
        gone = asyncio.create_task(_until_gone(receive))
        try:
            async with aclosing(self._pieces) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    if gone.done():
                        return
            await send({"type": "http.response.body"})
        except Changed:
            return
        finally:
            gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Closing(Response):
    """An answer about a file, which is closed after it."""

    def __init__(self, content: Content, answered: Response) -> None:
        self._content = content
        self._answered = answered
        self.status_code = answered.status_code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._content:
            await self._answered(scope, receive, send)
