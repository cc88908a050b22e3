"""A toy GraphQL service of every kind of field, good and faulty, on a real uvicorn; and a client of it over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import uvicorn
from ariadne import MutationType, QueryType, SubscriptionType, make_executable_schema

from grid.service.api.errors import ApiError
from grid.service.http.connection import HttpProtocol
from grid.service.http.graphql_http import make_graphql_app
from grid.service.http.websocket import WebSocketProtocol
from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

JSON = "application/json"
GRAPHQL = "application/graphql-response+json"
GOOD = {"Authorization": "Basic good"}

TYPE_DEFS = """
type Query {
  hello(name: String! = "you"): String!
  who: String!
  crash: String
  refuse: String
  broken: Int
  awkward: Awkward
  items(first: Int! = 10): [Item!]!
}
type Mutation { add(by: Int!): Int!, wait: Int!, release: Int! }
type Subscription { count(to: Int!): Int!, refused: Int!, crashes: Int!, breaks: Int!, items(first: Int!): [Item!]! }
type Item { id: ID! }
scalar Awkward
"""


class Total:
    """What the mutations work on."""

    def __init__(self) -> None:
        self.value = 0
        self.closed = 0
        self.gate = asyncio.Event()


TOTAL = Total()
query, mutation, subscription = QueryType(), MutationType(), SubscriptionType()


@query.field("hello")
def hello(_root: Any, _info: Any, name: str) -> str:
    """Greet."""
    return f"hello {name}"


@query.field("who")
def who(_root: Any, info: Any) -> str:
    """Say who asks."""
    return str(info.context)


@query.field("crash")
async def crash(_root: Any, _info: Any) -> str:
    """Fail as no resolver means to."""
    message = "the password is /etc/secret"
    raise RuntimeError(message)


@query.field("refuse")
def refuse(_root: Any, _info: Any) -> str:
    """Fail as a resolver means to."""
    raise ApiError(ErrorCode.RUN_NOT_FOUND, "no run is called x", {"name": "x"})


@query.field("broken")
def broken(_root: Any, _info: Any) -> str:
    """Return what does not fit the type."""
    return "secret that is no number"


@query.field("awkward")
def awkward(_root: Any, _info: Any) -> object:
    """Return what is not JSON."""
    return object()


@query.field("items")
def items(_root: Any, _info: Any, first: int) -> list[dict[str, str]]:
    """List a few items."""
    return [{"id": str(index)} for index in range(min(first, 2))]


@mutation.field("add")
def add(_root: Any, _info: Any, by: int) -> int:
    """Add to the total."""
    TOTAL.value += by
    return TOTAL.value


@mutation.field("wait")
async def wait(_root: Any, _info: Any) -> int:
    """Wait until another mutation says to go on."""
    TOTAL.gate = asyncio.Event()
    await TOTAL.gate.wait()
    return 1


@mutation.field("release")
def release(_root: Any, _info: Any) -> int:
    """Let the waiting mutation go on."""
    TOTAL.gate.set()
    return 2


@subscription.source("count")
async def count(_root: Any, _info: Any, to: int) -> AsyncIterator[dict[str, int]]:
    """Count as far as asked."""
    try:
        for number in range(1, to + 1):
            yield {"count": number}
            await asyncio.sleep(0)
    finally:
        TOTAL.closed += 1


@subscription.source("refused")
async def refused(_root: Any, _info: Any) -> Any:
    """Refuse to begin."""
    raise ApiError(ErrorCode.RUN_NOT_FOUND, "no run is called x")


@subscription.source("crashes")
async def crashes(_root: Any, _info: Any) -> AsyncIterator[dict[str, int]]:
    """Fail after the first event."""
    yield {"crashes": 1}
    message = "the password is /etc/secret"
    raise RuntimeError(message)


@subscription.source("breaks")
async def breaks(_root: Any, _info: Any) -> AsyncIterator[dict[str, str]]:
    """Send what does not fit the type."""
    yield {"breaks": "secret that is no number"}


@subscription.source("items")
async def many_items(_root: Any, _info: Any, first: int) -> AsyncIterator[dict[str, Any]]:
    """Send one item."""
    yield {"items": [{"id": str(first)}]}


async def context(connection: Any, params: dict[str, Any]) -> str:
    """Accept the right key only."""
    given = connection.headers.get("authorization")
    if given == "Basic crash":
        message = "the password is /etc/secret"
        raise RuntimeError(message)
    if given == "Basic busy":
        raise ApiError(ErrorCode.UNAVAILABLE, "come back later")
    if given == "Basic once" and (params or connection.scope["type"] == "http"):
        raise ApiError(ErrorCode.FORBIDDEN, "the key was withdrawn")
    if given not in ("Basic good", "Basic once"):
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the key is not known: log in again")
    return "good"


@contextmanager
def serving(app: Any, **settings: Any) -> Iterator[str]:
    """Serve an application on a free port of this machine, as the service does, with messages of up to 64 KiB."""
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_per_message_deflate=False,
        port=0,
        log_config=None,
        lifespan="off",
        ws_max_size=65536,
        **settings,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    try:
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}/some/where"
    finally:
        server.should_exit = True
        thread.join(60)


@contextmanager
def toy_service(**settings: Any) -> Iterator[str]:
    """Serve the toy service, and yield its address."""
    schema = make_executable_schema(TYPE_DEFS, query, mutation, subscription)
    with serving(make_graphql_app(schema, context_value=context), **settings) as url:
        yield url


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: dict[str, Any]

    @property
    def codes(self) -> list[str]:
        """The code of each error."""
        return [error["extensions"]["code"] for error in self.body["errors"]]


def ask(
    url: str, query: str | None = None, *, method: str = "POST", accept: str | None = GRAPHQL, **options: Any
) -> Answer:
    """Send one request, with the good key unless `headers` say otherwise."""
    headers = {**GOOD, **({"Accept": accept} if accept else {}), **options.pop("headers", {})}
    if query is not None:
        options["json"] = {"query": query, "variables": options.pop("variables", None)}

    async def go() -> Answer:
        skip = () if accept else ("Accept",)
        async with (
            aiohttp.ClientSession(skip_auto_headers=skip) as session,
            session.request(method, url, headers=headers, **options) as response,
        ):
            return Answer(response.status, response.headers, json.loads(await response.text(encoding="utf-8")))

    return asyncio.run(go())
