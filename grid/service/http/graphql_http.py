"""GraphQL over HTTP, from a request to its response, for any schema; and the application for both transports.

The context factory that the application passes in decides who may ask, `documents` and `limits` what may be asked, and
`operations` how it is answered.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from logging import Logger, NullHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLHTTPHandler
from graphql import OperationType
from starlette.requests import Request

from grid.service.api.documents import Operation
from grid.service.api.errors import format_error
from grid.service.api.operations import Operations, Refused, bad_request, checked, dump
from grid.service.http.bodies import limit_body
from grid.service.http.graphql_ws import WebSocketHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphql import GraphQLSchema
    from starlette.types import ASGIApp, Receive, Scope, Send

    from grid.service.api.operations import ContextFactory

__all__ = ["make_graphql_app"]

_JSON = "application/json"
_GRAPHQL_JSON = "application/graphql-response+json"

_SILENT = Logger("ariadne")  # noqa: LOG001 - outside the tree
_SILENT.addHandler(NullHandler())  # one without a handler writes to stderr


def make_graphql_app(
    schema: GraphQLSchema,
    *,
    context_value: ContextFactory,
    subscriptions: bool = True,
) -> ASGIApp:
    """Return the ASGI application that answers GraphQL requests at whatever path it is mounted on.

    Parameters
    ----------
    schema
        The executable schema.
    context_value
        Called for every operation with the request or the WebSocket and the operation's parameters; its result is the
        resolvers' context. It also authenticates: an `ApiError` that it raises, or an error that is translated into
        one, is the answer. For a request it is called without parameters, before the body is read. For a WebSocket it
        is also called once at the beginning, without parameters, to let the client in or not; if the client's
        `connection_init` has an `authorization`, it replaces the header of that name.
    subscriptions
        Whether to accept WebSockets.

    Returns
    -------
    ASGI application
        It refuses request bodies that are larger than `bodies` allows. The size of a WebSocket's messages is the
        server's to limit.
    """
    operations = Operations(schema, context_value)
    ariadne = GraphQL(
        schema,
        error_formatter=format_error,
        # `format_error` logs what matters: a logger that leads nowhere keeps Ariadne from logging everything again.
        logger=_SILENT,
        http_handler=_HttpHandler(operations),
        websocket_handler=WebSocketHandler(operations),
    )
    limited = limit_body(ariadne)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not subscriptions:
            await send({"type": "websocket.close", "code": 1000})
        else:
            await limited(scope, receive, send)

    return app


_MAX_ACCEPT = 1024
"""Bytes of the ``Accept`` header that are looked at."""


class _HttpHandler(GraphQLHTTPHandler):
    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self._operations = operations

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_type, accept = b"", b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"accept":
                accept = accept + b"," + value if accept else value
        # Looked at before the key, because a refusal has a type as well: so a long one is as good as none.
        media = _answer_media(accept if len(accept) <= _MAX_ACCEPT else b"")
        request_error = HTTPStatus.BAD_REQUEST if media == _GRAPHQL_JSON else HTTPStatus.OK
        headers: Sequence[tuple[bytes, bytes]] = ()
        try:
            if media is None:
                message = f"Accept allows neither {_GRAPHQL_JSON} nor {_JSON}: the service sends nothing else"
                raise bad_request(message, HTTPStatus.NOT_ACCEPTABLE)
            answer = await self._respond(scope, content_type, receive)
            status = HTTPStatus.OK if "data" in answer else request_error
            body = dump(answer)
        except Refused as refused:
            status = refused.status or request_error
            headers = refused.headers
            body = orjson.dumps({"errors": refused.errors}, default=str)
        except _Disconnected:
            return
        fixed = [(b"content-type", _CONTENT_TYPE[media or _JSON]), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": int(status), "headers": [*fixed, *headers]})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: Scope, content_type: bytes, receive: Receive) -> dict[str, Any]:
        method = scope["method"]
        if method not in ("GET", "POST"):
            message = f"the method {method} is not allowed here: use POST, or GET for queries"
            raise bad_request(message, HTTPStatus.METHOD_NOT_ALLOWED, ((b"allow", b"GET, POST"),))
        # This comes first: nothing that a client without a key sends is read or commented on.
        context = await self._operations.context(Request(scope), {})
        if method == "POST":
            params = await _read_body(content_type, receive)
        else:
            params = _read_query_string(scope["query_string"])
        document, operation = self._operations.load(params)
        if operation.type is not OperationType.QUERY:
            _check_transport(operation, method)
        return await self._operations.run(document, operation, params, context)


class _Disconnected(Exception):
    """The client has disconnected: there is no one to answer."""


def _check_transport(operation: Operation, method: str) -> None:
    if operation.type is OperationType.SUBSCRIPTION:
        raise bad_request("subscriptions are not available over HTTP: use a WebSocket (graphql-transport-ws)")
    if method == "GET":
        raise bad_request(
            "mutations are not executed for GET requests: use POST",
            HTTPStatus.METHOD_NOT_ALLOWED,
            ((b"allow", b"POST"),),
        )


async def _read_body(content_type: bytes, receive: Receive) -> dict[str, Any]:
    if not _is_json(content_type):
        given = content_type.decode("latin-1")[:100] or "missing"
        message = f"the Content-Type is {given}: the body must be {_JSON}, encoded as utf-8"
        raise bad_request(message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    part = await receive()
    body: bytes = part.get("body", b"")
    if part.get("more_body"):
        parts = [body]
        while part.get("more_body"):
            part = await receive()
            parts.append(part.get("body", b""))
        body = b"".join(parts)
    if part["type"] == "http.disconnect":
        raise _Disconnected
    try:
        params = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    return checked(params)


def _read_query_string(query_string: bytes) -> dict[str, Any]:
    params: dict[str, Any] = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))
    for name in ("variables", "extensions"):
        if params.get(name):
            try:
                params[name] = orjson.loads(params[name])
            except orjson.JSONDecodeError as error:
                raise bad_request(f"the parameter {name} is not JSON: {error}") from None
        else:
            params.pop(name, None)
    return checked(params)


_CONTENT_TYPE = {media: f"{media}; charset=utf-8".encode() for media in (_JSON, _GRAPHQL_JSON)}


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    media, _, rest = content_type.decode("latin-1").lower().partition(";")
    parameters = dict(part.strip().partition("=")[::2] for part in rest.split(";"))
    return media.strip() == _JSON and parameters.get("charset", "utf-8").strip('"') in ("utf-8", "utf8")


@lru_cache(maxsize=64)
def _answer_media(accept: bytes) -> str | None:
    """Return the media type that the client prefers, the older one if it has no preference; None if it accepts none."""
    best: tuple[float, bool, str] = (0.0, False, "")
    for entry in accept.decode("latin-1").lower().split(",") if accept.strip() else ["*/*"]:
        media, *parameters = (part.strip() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        name = _JSON if media in ("*/*", "application/*") else media
        if name in _CONTENT_TYPE and quality > 0:
            best = max(best, (quality, media == _GRAPHQL_JSON, name))
    return best[2] or None
