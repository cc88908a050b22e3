"""GraphQL over HTTP and WebSocket: from a request to its answer, whatever the schema.

Who may ask is decided by the context factory that the application passes in, what may be asked by `documents` and
`limits`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import lru_cache
from http import HTTPStatus
from inspect import isawaitable
from logging import Logger
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

import graphql
import orjson
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLHTTPHandler, GraphQLTransportWSHandler
from ariadne.types import Operation as Running
from graphql import ExecutionResult, GraphQLError, OperationType, execute, subscribe
from graphql.execution.values import get_variable_values
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from grid.service.api_errors import ApiError, coded, format_error, internal
from grid.service.documents import DocumentRefused, Documents, Operation
from grid.service.limits import limit_body
from grid.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from ariadne.asgi.handlers.base import GraphQLHandlerBase
    from graphql import DocumentNode, GraphQLSchema
    from starlette.types import ASGIApp, Receive, Scope, Send

    ContextFactory = Callable[[Request | WebSocket, dict[str, Any]], Awaitable[Any]]

__all__ = ["make_graphql_app"]

_JSON = "application/json"
_GRAPHQL_JSON = "application/graphql-response+json"
_MAX_OPERATIONS = 100
# graphql-core 3.3 would take one made for incremental delivery, which costs a quarter more; 3.2 has only one.
_PLAIN_EXECUTOR = getattr(graphql, "Executor", None)
_STATUS = {
    ErrorCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_CHALLENGE = ((b"www-authenticate", b'Basic realm="grid"'),)


def make_graphql_app(
    schema: GraphQLSchema,
    *,
    context_value: ContextFactory,
    subscriptions: bool = True,
    execution_context_class: type[Any] | None = None,
) -> ASGIApp:
    """Make the ASGI application that answers GraphQL requests at whatever path it is mounted on.

    Parameters
    ----------
    schema
        The executable schema.
    context_value
        Called for every operation with the request or the WebSocket and the operation's parameters; what it returns is
        the resolvers' context. It authenticates: an `ApiError` that it raises is the answer. The body of the request is
        read already. When a WebSocket is opened it is called once with no parameters, to let the client in or not; what
        the client's `connection_init` has under `authorization` stands among the WebSocket's headers, in place of any
        that came with the request.
    subscriptions
        Whether to accept WebSockets.
    execution_context_class
        The class that executes operations, in place of graphql-core's.

    Returns
    -------
    ASGI application
        It refuses request bodies of more than `limits.MAX_BODY_BYTES` bytes. The size of a WebSocket's messages is the
        server's to limit.
    """
    documents = Documents(schema)
    ariadne = GraphQL(
        schema,
        context_value=context_value,
        execution_context_class=execution_context_class,
        error_formatter=format_error,
        # `format_error` logs what deserves it: a logger outside the tree keeps Ariadne from logging everything again.
        logger=Logger("ariadne"),  # noqa: LOG001
        http_handler=_HttpHandler(documents),
        websocket_handler=_WebSocketHandler(documents),
    )
    limited = limit_body(cast("Any", ariadne))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not subscriptions:
            await send({"type": "websocket.close", "code": 1000})
        else:
            await limited(scope, receive, send)

    return app


class _Refused(Exception):
    """The request gets errors and nothing else; `status` None is decided by the media type of the answer."""

    def __init__(
        self,
        errors: Sequence[dict[str, Any]],
        status: HTTPStatus | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(status)
        self.errors = list(errors)
        self.status = status
        self.headers = headers


def _bad_request(
    message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, headers: Sequence[tuple[bytes, bytes]] = ()
) -> _Refused:
    error = ApiError(ErrorCode.BAD_REQUEST, message)
    return _Refused([coded(error, error.code)], status, headers)


class _HttpHandler(GraphQLHTTPHandler):
    def __init__(self, documents: Documents) -> None:
        super().__init__()
        self._documents = documents

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_type, accept = b"", b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"accept":
                accept = accept + b"," + value if accept else value
        media = _answer_media(accept)
        request_error = HTTPStatus.BAD_REQUEST if media == _GRAPHQL_JSON else HTTPStatus.OK
        headers: Sequence[tuple[bytes, bytes]] = ()
        try:
            if media is None:
                message = f"Accept asks for no media type of an answer: {_GRAPHQL_JSON} and {_JSON} are known"
                raise _bad_request(message, HTTPStatus.NOT_ACCEPTABLE)
            answer = await self._respond(scope, content_type, receive)
            status = HTTPStatus.OK if "data" in answer else request_error
            body = _dump(answer)
        except _Refused as refused:
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
        if method == "POST":
            params = await _read_body(content_type, receive)
        elif method == "GET":
            params = _read_query_string(scope["query_string"])
        else:
            message = f"the method {method} is not known here: use POST, or GET for queries"
            raise _bad_request(message, HTTPStatus.METHOD_NOT_ALLOWED, ((b"allow", b"GET, POST"),))
        context = await self.context(Request(scope, receive), params)
        document, operation = _load(self._documents, params)
        if operation.type is not OperationType.QUERY:
            _check_transport(operation, method)
        return await self.run(document, operation, params, context)

    async def context(self, connection: Request | WebSocket, params: dict[str, Any]) -> Any:
        """Ask the application who it is, and turn a refusal into the answer that HTTP has for it."""
        try:
            return await self.get_context_for_request(connection, params)
        except GraphQLError as error:
            refusal = coded(error, ErrorCode.BAD_REQUEST)
            code = refusal["extensions"]["code"]
            challenge = _CHALLENGE if code == ErrorCode.UNAUTHENTICATED else ()
            raise _Refused([refusal], _STATUS.get(code, HTTPStatus.BAD_REQUEST), challenge) from None
        except Exception as fault:  # noqa: BLE001 - the application's code, of which nothing may reach the client
            raise _Refused([internal(fault)], HTTPStatus.INTERNAL_SERVER_ERROR) from None

    async def run(
        self, document: DocumentNode, operation: Operation, params: dict[str, Any], context: Any
    ) -> dict[str, Any]:
        """Execute a query or a mutation that `_load` let through."""
        try:
            outcome = execute(
                cast("GraphQLSchema", self.schema),
                document,
                context_value=context,
                variable_values=params.get("variables"),
                operation_name=operation.name,
                **_executor(self),
            )
            result = outcome if isinstance(outcome, ExecutionResult) else await outcome
        except Exception as fault:  # noqa: BLE001 - resolvers' faults are in the result: this one is an executor's
            raise _Refused([internal(fault)], HTTPStatus.INTERNAL_SERVER_ERROR) from None
        return _answer(result)


class _Socket(WebSocket):
    """A WebSocket that survives what clients send, and what is sent to clients that are gone."""

    init_timeout: asyncio.Task[Any] | None = None

    async def receive_json(self, mode: str = "text") -> dict[str, Any]:
        del mode
        message = await self.receive()
        if message["type"] != "websocket.receive":
            raise WebSocketDisconnect(message.get("code", 1005))
        try:
            parsed = orjson.loads(message.get("text") or message.get("bytes") or b"")
        except orjson.JSONDecodeError:
            parsed = None
        if isinstance(parsed, dict) and isinstance(parsed.get("type"), str):
            return parsed
        await self.close(4400, "Invalid message received")
        raise WebSocketDisconnect(4400)

    async def send_json(self, data: Any, mode: str = "text") -> None:
        del mode
        if self.open:
            try:
                text = _dump(data)
            except _Refused as refused:
                text = orjson.dumps({**data, "payload": {"errors": refused.errors}}, default=str)
            try:
                await self.send({"type": "websocket.send", "text": text.decode()})
            except WebSocketDisconnect:
                # Its reader notices too, and stops the operations.
                return

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        if self.open:
            await super().close(code, reason)

    @property
    def open(self) -> bool:
        return WebSocketState.DISCONNECTED not in (self.client_state, self.application_state)


class _WebSocketHandler(GraphQLTransportWSHandler):
    http_handler: _HttpHandler

    def __init__(self, documents: Documents) -> None:
        super().__init__()
        self._documents = documents

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = _Socket(scope, receive, send)
        if "graphql-transport-ws" not in scope.get("subprotocols", ()):
            await websocket.accept()
            await websocket.close(4406, "Subprotocol not acceptable")
            return
        try:
            await self.handle_websocket(websocket)
        finally:
            if websocket.init_timeout:
                websocket.init_timeout.cancel()

    async def handle_connection_init_timeout(self, websocket: Any, client_context: Any) -> None:
        websocket.init_timeout = asyncio.current_task()
        await super().handle_connection_init_timeout(websocket, client_context)

    async def handle_websocket_connection_init_message(self, websocket: Any, message: Any, client_context: Any) -> None:
        if not client_context.connection_init_received:
            payload = message.get("payload")
            authorization = payload.get("authorization") if isinstance(payload, dict) else None
            if isinstance(authorization, str):
                headers = [header for header in websocket.scope["headers"] if header[0] != b"authorization"]
                websocket.scope["headers"] = [*headers, (b"authorization", authorization.encode("latin-1", "replace"))]
            try:
                await self.http_handler.context(websocket, {})
            except _Refused as refused:
                error = refused.errors[0]
                reason = f"{error['extensions']['code']}: {error['message']}"
                code = 4500 if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR else 4403
                await websocket.close(code, reason.encode()[:120].decode(errors="ignore"))
                return
        await super().handle_websocket_connection_init_message(websocket, message, client_context)

    async def handle_websocket_subscribe(
        self, websocket: Any, data: Any, operation_id: Any, client_context: Any
    ) -> None:
        if not client_context.connection_acknowledged:
            await websocket.close(4401, "Unauthorized")
            return
        if not isinstance(operation_id, str) or not operation_id:
            await websocket.close(4400, "Invalid message received")
            return
        if operation_id in client_context.operations:
            await websocket.close(4409, f"Subscriber for {operation_id[:64]} already exists")
            return
        try:
            if len(client_context.operations) >= _MAX_OPERATIONS:
                message = f"operations of this connection: {_MAX_OPERATIONS}, no more are allowed; complete one"
                raise _refuse(ApiError(ErrorCode.LIMIT_EXCEEDED, message))
            params = _checked(data)
            context = await self.http_handler.context(websocket, params)
            document, operation = _load(self._documents, params)
            _check_variables(cast("GraphQLSchema", self.schema), operation, params)
            if operation.type is OperationType.SUBSCRIPTION:
                answers = await self._subscribe(document, operation, params, context)
            else:
                answers = self._answer_once(document, operation, params, context)
        except _Refused as refused:
            await websocket.send_json({"type": self.GQL_ERROR, "id": operation_id, "payload": refused.errors})
            return
        client_context.operations[operation_id] = Running(operation_id, operation.name, answers)
        client_context.operation_tasks[operation_id] = asyncio.ensure_future(
            self.observe_async_results(websocket, answers, operation_id, client_context)
        )

    async def _subscribe(
        self, document: DocumentNode, operation: Operation, params: dict[str, Any], context: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            outcome = subscribe(
                cast("GraphQLSchema", self.schema),
                document,
                context_value=context,
                variable_values=params.get("variables"),
                operation_name=operation.name,
                # The subscriptions of graphql-core 3.2 take no such class.
                **(_executor(self) if _PLAIN_EXECUTOR else {}),
            )
            stream = await outcome if isawaitable(outcome) else outcome
        except Exception as fault:  # noqa: BLE001 - resolvers' faults are in the result: this one is an executor's
            raise _Refused([internal(fault)]) from None
        if isinstance(stream, ExecutionResult):
            raise _Refused(_answer(stream)["errors"])
        return _answers(cast("AsyncGenerator[ExecutionResult, None]", stream))

    async def _answer_once(
        self, document: DocumentNode, operation: Operation, params: dict[str, Any], context: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        # As a stream of one answer it leaves the connection free to read on: a mutation may take its time.
        try:
            yield await self.http_handler.run(document, operation, params, context)
        except _Refused as refused:
            yield {"errors": refused.errors}


class _Disconnected(Exception):
    """The client is gone: nobody waits for an answer."""


def _load(documents: Documents, params: dict[str, Any]) -> tuple[DocumentNode, Operation]:
    """Find the operation that is asked for, within the limits."""
    try:
        document = documents.load(params["query"])
        operation = document.operation(params.get("operationName"))
        operation.check_limits(params.get("variables"))
    except DocumentRefused as refused:
        raise _Refused(refused.errors) from None
    except ApiError as error:
        raise _refuse(error) from None
    return document.ast, operation


def _refuse(error: ApiError) -> _Refused:
    return _Refused([coded(error, error.code)])


def _executor(handler: GraphQLHandlerBase) -> dict[str, Any]:
    """Name the class that executes, as the installed graphql-core calls it."""
    if _PLAIN_EXECUTOR is None:
        return {"execution_context_class": handler.execution_context_class}
    return {"executor_class": handler.execution_context_class or _PLAIN_EXECUTOR}


def _answer(result: ExecutionResult) -> dict[str, Any]:
    if not result.errors:
        return {"data": result.data}
    if result.data is None and all(error.path is None for error in result.errors):
        # Nothing was executed: the variables do not fit.
        return {"errors": [coded(error, ErrorCode.GRAPHQL_VALIDATION_FAILED) for error in result.errors]}
    return {"errors": [format_error(error) for error in result.errors], "data": result.data}


async def _answers(stream: AsyncGenerator[ExecutionResult, None]) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(stream):
        async for result in stream:
            yield _answer(result)


def _check_transport(operation: Operation, method: str) -> None:
    if operation.type is OperationType.SUBSCRIPTION:
        raise _bad_request("a subscription is not answered over HTTP: use a WebSocket (graphql-transport-ws)")
    if method == "GET":
        raise _bad_request(
            "a mutation is not executed for a GET request: use POST",
            HTTPStatus.METHOD_NOT_ALLOWED,
            ((b"allow", b"POST"),),
        )


def _check_variables(schema: GraphQLSchema, operation: Operation, params: dict[str, Any]) -> None:
    values = get_variable_values(schema, operation.variable_definitions, params.get("variables") or {})
    if isinstance(values, list):
        raise _Refused([coded(error, ErrorCode.GRAPHQL_VALIDATION_FAILED) for error in values])


async def _read_body(content_type: bytes, receive: Receive) -> dict[str, Any]:
    if not _is_json(content_type):
        given = content_type.decode("latin-1")[:100] or "missing"
        message = f"the Content-Type is {given}: the body must be {_JSON}, encoded as utf-8"
        raise _bad_request(message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
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
        raise _bad_request(f"the body is no JSON: {error}") from None
    return _checked(params)


def _read_query_string(query_string: bytes) -> dict[str, Any]:
    params: dict[str, Any] = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))
    for name in ("variables", "extensions"):
        if params.get(name):
            try:
                params[name] = orjson.loads(params[name])
            except orjson.JSONDecodeError as error:
                raise _bad_request(f"the parameter {name} is no JSON: {error}") from None
        else:
            params.pop(name, None)
    return _checked(params)


def _checked(params: Any) -> dict[str, Any]:
    if isinstance(params, list):
        raise _bad_request("batches are not supported: send one operation a request")
    if not isinstance(params, dict):
        raise _bad_request("a GraphQL request is a JSON object with the key `query`")
    query = params.get("query")
    if not isinstance(query, str) or not query:
        raise _bad_request("the parameter query is missing or no text: it must be a GraphQL document")
    name = params.get("operationName")
    if name is not None and not isinstance(name, str):
        raise _bad_request("the parameter operationName must be text or null")
    if name == "":
        params["operationName"] = None
    for key in ("variables", "extensions"):
        value = params.get(key)
        if value is not None and not isinstance(value, dict):
            raise _bad_request(f"the parameter {key} must be an object or null")
    return params


def _dump(answer: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(answer)
    except TypeError as fault:
        raise _Refused([internal(fault)], HTTPStatus.INTERNAL_SERVER_ERROR) from None


_CONTENT_TYPE = {media: f"{media}; charset=utf-8".encode() for media in (_JSON, _GRAPHQL_JSON)}


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    media, _, rest = content_type.decode("latin-1").lower().partition(";")
    parameters = dict(part.strip().partition("=")[::2] for part in rest.split(";"))
    return media.strip() == _JSON and parameters.get("charset", "utf-8").strip('"') in ("utf-8", "utf8")


@lru_cache(maxsize=64)
def _answer_media(accept: bytes) -> str | None:
    """Choose what the client likes best; the older type where it does not care."""
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
