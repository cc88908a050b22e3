"""One GraphQL operation, whichever transport carries it: its parameters, context, execution and answer.

Nothing here reads a request or writes a response: see `graphql_http` and `graphql_ws`.
"""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast

import graphql
import orjson
from graphql import ExecutionResult, GraphQLError, execute, subscribe
from graphql.execution.values import get_variable_values
from starlette.requests import Request
from starlette.websockets import WebSocket

from grid.service.api.documents import DocumentRefused, Documents, Operation
from grid.service.api.errors import ApiError, coded, format_error, internal, translated
from grid.service.api.limits import check_variables
from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from graphql import DocumentNode, GraphQLSchema

    ContextFactory = Callable[[Request | WebSocket, dict[str, Any]], Awaitable[Any]]

__all__ = ["Operations", "Refused", "bad_request", "checked", "dump", "refuse"]

# What the installed graphql-core takes an executor by. In 3.2, subscriptions take none.
_IS_3_2 = not hasattr(graphql, "Executor")
_EXECUTOR = "execution_context_class" if _IS_3_2 else "executor_class"
_STATUS = {
    ErrorCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_MAX_ERRORS = 50
_CHALLENGE = ((b"www-authenticate", b'Basic realm="grid"'),)


class Refused(Exception):
    """The request is answered with errors alone. If `status` is None, the media type of the answer decides it."""

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


def bad_request(
    message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, headers: Sequence[tuple[bytes, bytes]] = ()
) -> Refused:
    """Return the refusal of something that is not a GraphQL request."""
    error = ApiError(ErrorCode.BAD_REQUEST, message)
    return Refused([coded(error, error.code)], status, headers)


class Operations:
    """Loads and executes the operations of a schema.

    Parameters
    ----------
    schema
        The executable schema.
    context_value
        Called for every operation; its result is the resolvers' context.
    """

    def __init__(self, schema: GraphQLSchema, context_value: ContextFactory) -> None:
        self._schema = schema
        self._context_value = context_value
        self._documents = Documents(schema)

    async def context(self, connection: Request | WebSocket, params: dict[str, Any]) -> Any:
        """Let the application identify the caller, and turn a refusal into an answer with the fitting HTTP status."""
        try:
            return await self._context_value(connection, params)
        except Exception as raised:  # noqa: BLE001 - the application's code: details of its faults must not reach the client
            error = raised if isinstance(raised, GraphQLError) else translated(raised)
            if error is None:
                raise Refused([internal(raised)], HTTPStatus.INTERNAL_SERVER_ERROR) from None
            refusal = coded(error, ErrorCode.BAD_REQUEST)
            code = refusal["extensions"]["code"]
            headers: Sequence[tuple[bytes, bytes]] = _CHALLENGE if code == ErrorCode.UNAUTHENTICATED else ()
            if "retryAfterSeconds" in refusal["extensions"]:
                headers = ((b"retry-after", b"%d" % refusal["extensions"]["retryAfterSeconds"]),)
            raise Refused([refusal], _STATUS.get(code, HTTPStatus.BAD_REQUEST), headers) from None

    def load(self, params: dict[str, Any]) -> tuple[DocumentNode, Operation]:
        """Return the requested operation and its document, or refuse them if they exceed the limits."""
        try:
            check_variables(params.get("variables"))
            document = self._documents.load(params["query"])
            operation = document.operation(params.get("operationName"))
            operation.check_limits(params.get("variables"))
        except DocumentRefused as refused:
            raise Refused(refused.errors) from None
        except ApiError as error:
            raise refuse(error) from None
        return document.ast, operation

    def check_variables(self, operation: Operation, params: dict[str, Any]) -> None:
        """Refuse variables that do not fit, before anything is executed."""
        given = params.get("variables") or {}
        values = get_variable_values(self._schema, operation.variable_definitions, given, max_errors=_MAX_ERRORS)
        if isinstance(values, list):
            raise Refused([coded(error, ErrorCode.GRAPHQL_VALIDATION_FAILED) for error in values])

    async def run(
        self, document: DocumentNode, operation: Operation, params: dict[str, Any], context: Any
    ) -> dict[str, Any]:
        """Execute a query or a mutation that `load` let through."""
        try:
            outcome = execute(
                self._schema,
                document,
                context_value=context,
                variable_values=params.get("variables"),
                operation_name=operation.name,
                **{_EXECUTOR: operation.selections},  # type: ignore[arg-type]  # it builds an executor, as a class does
            )
            result = outcome if isinstance(outcome, ExecutionResult) else await outcome
        except Exception as fault:  # noqa: BLE001 - resolvers' faults are in the result: this is the executor's
            raise Refused([internal(fault)], HTTPStatus.INTERNAL_SERVER_ERROR) from None
        return _answer(result)

    async def subscribe(
        self, document: DocumentNode, operation: Operation, params: dict[str, Any], context: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Begin a subscription that `load` let through."""
        try:
            outcome = subscribe(
                self._schema,
                document,
                context_value=context,
                variable_values=params.get("variables"),
                operation_name=operation.name,
                **({} if _IS_3_2 else {_EXECUTOR: operation.selections}),  # type: ignore[arg-type]  # as in `run`
            )
            stream = await outcome if isawaitable(outcome) else outcome
        except Exception as fault:  # noqa: BLE001 - resolvers' faults are in the result: this is the executor's
            raise Refused([internal(fault)]) from None
        if isinstance(stream, ExecutionResult):
            raise Refused(_answer(stream)["errors"])
        return _answers(cast("AsyncGenerator[ExecutionResult, None]", stream))


def refuse(error: ApiError) -> Refused:
    """Return the refusal that consists of this error alone."""
    return Refused([coded(error, error.code)])


def _answer(result: ExecutionResult) -> dict[str, Any]:
    if not result.errors:
        return {"data": result.data}
    if result.data is None and all(error.path is None for error in result.errors):
        # Nothing was executed, because the variables do not fit.
        return {"errors": [coded(error, ErrorCode.GRAPHQL_VALIDATION_FAILED) for error in result.errors]}
    return {"errors": [format_error(error) for error in result.errors], "data": result.data}


async def _answers(stream: AsyncGenerator[ExecutionResult, None]) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(stream):
        async for result in stream:
            yield _answer(result)


def checked(params: Any) -> dict[str, Any]:
    """Return the parameters of a request if they are what GraphQL over HTTP allows."""
    if isinstance(params, list):
        message = f"a batch of {len(params)}: batches are not supported, send one operation per request"
        raise bad_request(message)
    if not isinstance(params, dict):
        raise bad_request("a GraphQL request is a JSON object with the key `query`")
    query = params.get("query")
    if not isinstance(query, str) or not query:
        raise bad_request("the parameter query is missing or not a string: it must be a GraphQL document")
    name = params.get("operationName")
    if name is not None and not isinstance(name, str):
        raise bad_request("the parameter operationName must be a string or null")
    if name == "":
        params["operationName"] = None
    for key in ("variables", "extensions"):
        value = params.get(key)
        if value is not None and not isinstance(value, dict):
            raise bad_request(f"the parameter {key} must be an object or null")
    return params


def dump(answer: dict[str, Any]) -> bytes:
    """Serialize an answer as JSON. If that fails, it is a fault of a resolver."""
    try:
        return orjson.dumps(answer)
    except TypeError as fault:
        raise Refused([internal(fault)], HTTPStatus.INTERNAL_SERVER_ERROR) from None
