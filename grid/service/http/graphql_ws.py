"""GraphQL over WebSocket (`graphql-transport-ws`): connections, their `connection_init`, and their operations.

Which operations are allowed, and how they are answered, is decided by `operations`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus
from types import NoneType
from typing import TYPE_CHECKING, Any

import orjson
from ariadne.asgi.handlers import GraphQLTransportWSHandler
from ariadne.types import Operation as Running
from graphql import GraphQLError, OperationType
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from grid.service.api.documents import Operation
from grid.service.api.errors import ApiError, format_error
from grid.service.api.operations import Operations, Refused, checked, dump, refuse
from grid.service.http.websocket import LET_IN
from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from graphql import DocumentNode
    from starlette.types import Receive, Scope, Send

__all__ = ["WebSocketHandler"]

_MAX_OPERATIONS = 100
# A client without a key can hold a connection no longer than this.
_INIT_TIME = timedelta(seconds=10)


class _Socket(WebSocket):
    """A WebSocket that copes with malformed messages, and with clients that have disconnected."""

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
        # Operations are looked up by their ids, so an id must be hashable.
        if (
            isinstance(parsed, dict)
            and isinstance(parsed.get("type"), str)
            and isinstance(parsed.get("id"), (str, NoneType))
        ):
            return parsed
        await self.close(4400, "Invalid message received")
        raise WebSocketDisconnect(4400)

    async def send_json(self, data: Any, mode: str = "text") -> None:
        del mode
        if self.open:
            try:
                text = dump(data)
            except Refused as refused:
                text = orjson.dumps({**data, "payload": {"errors": refused.errors}}, default=str)
            try:
                await self.send({"type": "websocket.send", "text": text.decode()})
            except WebSocketDisconnect:
                # The reader notices this as well, and stops the operations.
                return

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        if self.open:
            await super().close(code, reason)

    @property
    def open(self) -> bool:
        return WebSocketState.DISCONNECTED not in (self.client_state, self.application_state)


class WebSocketHandler(GraphQLTransportWSHandler):
    """Ariadne's handler of the protocol, with our own operations.

    Parameters
    ----------
    operations
        Loads and executes operations.
    """

    _KINDS = frozenset(
        {
            GraphQLTransportWSHandler.GQL_CONNECTION_INIT,
            GraphQLTransportWSHandler.GQL_PING,
            GraphQLTransportWSHandler.GQL_PONG,
            GraphQLTransportWSHandler.GQL_SUBSCRIBE,
            GraphQLTransportWSHandler.GQL_COMPLETE,
        }
    )
    """What a client may send."""

    def __init__(self, operations: Operations) -> None:
        super().__init__(connection_init_wait_timeout=_INIT_TIME)
        self._operations = operations

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a connection if it speaks the protocol, and serve it until it ends."""
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
        """Wait for `connection_init`, in a task that ends with the connection."""
        websocket.init_timeout = asyncio.current_task()
        await asyncio.sleep(self.connection_init_wait_timeout.total_seconds())
        if not client_context.connection_init_received:
            await websocket.close(4408, "Connection initialisation timeout")

    async def handle_websocket_message(self, websocket: Any, message: dict[str, Any], client_context: Any) -> None:
        """Act on a message; the first one must be `connection_init`, and what follows must wait for its answer."""
        kind = message["type"]
        if kind not in self._KINDS:
            await websocket.close(4400, "Invalid message received")
        elif kind != self.GQL_CONNECTION_INIT and not client_context.connection_acknowledged:
            await websocket.close(4401, "Unauthorized")
        else:
            await super().handle_websocket_message(websocket, message, client_context)

    async def handle_websocket_connection_init_message(self, websocket: Any, message: Any, client_context: Any) -> None:
        """Let the client in, or close the connection with the reason."""
        if client_context.connection_init_received:
            await websocket.close(4429, "Too many initialisation requests")
            return
        client_context.connection_init_received = True
        payload = message.get("payload")
        authorization = payload.get("authorization") if isinstance(payload, dict) else None
        if isinstance(authorization, str):
            headers = [header for header in websocket.scope["headers"] if header[0] != b"authorization"]
            websocket.scope["headers"] = [*headers, (b"authorization", authorization.encode("latin-1", "replace"))]
        if not await self._is_let_in(websocket):
            return
        if LET_IN in websocket.scope.get("extensions", {}):
            websocket.scope["extensions"][LET_IN]["call"]()
        client_context.connection_acknowledged = True
        await websocket.send_json({"type": self.GQL_CONNECTION_ACK})

    async def handle_websocket_subscribe(
        self, websocket: Any, data: Any, operation_id: Any, client_context: Any
    ) -> None:
        """Start an operation of any kind, or answer with what is wrong with it."""
        if not isinstance(operation_id, str) or not operation_id:
            await websocket.close(4400, "Invalid message received")
            return
        if operation_id in client_context.operations:
            await websocket.close(4409, f"Subscriber for {operation_id[:64]} already exists")
            return
        try:
            if len(client_context.operations) >= _MAX_OPERATIONS:
                message = f"operations on this connection: {_MAX_OPERATIONS}, no more are allowed; complete one first"
                raise refuse(ApiError(ErrorCode.LIMIT_EXCEEDED, message))
            params = checked(data)
            context = await self._operations.context(websocket, params)
            document, operation = self._operations.load(params)
            self._operations.check_variables(operation, params)
            if operation.type is OperationType.SUBSCRIPTION:
                stream = await self._operations.subscribe(document, operation, params, context)
                answers = self._while_let_in(websocket, stream)
            else:
                answers = self._answer_once(document, operation, params, context)
        except Refused as refused:
            await websocket.send_json({"type": self.GQL_ERROR, "id": operation_id, "payload": refused.errors})
            return
        client_context.operations[operation_id] = Running(operation_id, operation.name, answers)
        client_context.operation_tasks[operation_id] = asyncio.ensure_future(
            self.observe_async_results(websocket, answers, operation_id, client_context)
        )

    async def _is_let_in(self, websocket: Any) -> bool:
        """Return whether the client's key is accepted now; if it is not, close the connection with the reason."""
        try:
            await self._operations.context(websocket, {})
        except Refused as refused:
            error = refused.errors[0]
            reason = f"{error['extensions']['code']}: {error['message']}"
            code = 4500 if (refused.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR else 4403
            await websocket.close(code, reason.encode()[:120].decode(errors="ignore"))
            return False
        return True

    async def _while_let_in(
        self, websocket: Any, stream: AsyncGenerator[dict[str, Any], None]
    ) -> AsyncGenerator[dict[str, Any], None]:
        # A connection may live for days, and its user may be disabled in the meantime.
        async with aclosing(stream):
            try:
                async for answer in stream:
                    if not await self._is_let_in(websocket):
                        return
                    yield answer
            except Exception as fault:  # noqa: BLE001 - Ariadne would log a refusal as if it were a fault
                error = fault if isinstance(fault, GraphQLError) else GraphQLError(str(fault), original_error=fault)
                yield {"errors": [format_error(error)]}

    async def _answer_once(
        self, document: DocumentNode, operation: Operation, params: dict[str, Any], context: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        # A stream of one answer leaves the connection free to read on: a mutation may take long.
        try:
            yield await self._operations.run(document, operation, params, context)
        except Refused as refused:
            yield {"errors": refused.errors}
