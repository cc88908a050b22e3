"""Tests of GraphQL over HTTP and WebSocket: a real uvicorn on a free port, spoken to with aiohttp."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import uvicorn
from ariadne import MutationType, QueryType, SubscriptionType, make_executable_schema

from grid.service.api_errors import ApiError
from grid.service.graphql_http import make_graphql_app
from grid.wire import ErrorCode

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
    """Return what is no JSON."""
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
    """Let in who has the right key."""
    given = connection.headers.get("authorization")
    if given == "Basic crash":
        message = "the password is /etc/secret"
        raise RuntimeError(message)
    if given == "Basic busy":
        raise ApiError(ErrorCode.UNAVAILABLE, "come back later")
    if given == "Basic once" and params:
        raise ApiError(ErrorCode.FORBIDDEN, "the key was withdrawn")
    if given not in ("Basic good", "Basic once"):
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the key is not known: log in again")
    return "good"


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a free port of this machine, with messages of up to 64 KiB."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws_max_size=65536)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    try:
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}/some/where"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Give the address of the toy service."""
    with serving(
        make_graphql_app(make_executable_schema(TYPE_DEFS, query, mutation, subscription), context_value=context)
    ) as url:
        yield url


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: dict[str, Any]

    @property
    def codes(self) -> list[str]:
        """Give the code of each error."""
        return [error["extensions"]["code"] for error in self.body["errors"]]


def ask(
    url: str, query: str | None = None, *, method: str = "POST", accept: str | None = GRAPHQL, **options: Any
) -> Answer:
    """Send one request, as the viewer with the good key where `headers` do not say otherwise."""
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


def test_query_and_mutation(url: str) -> None:
    """Queries and mutations are executed, with their variables and the caller's context."""
    answer = ask(url, "query Q($n: String!) { hello(name: $n) who }", variables={"n": "Zoë"})
    assert (answer.status, answer.body) == (200, {"data": {"hello": "hello Zoë", "who": "good"}})
    before = ask(url, "mutation { add(by: 0) }").body["data"]["add"]
    assert ask(url, "mutation M($by: Int!) { add(by: $by) }", variables={"by": 3}).body == {"data": {"add": before + 3}}


def test_get_executes_queries_alone(url: str) -> None:
    """A query may come by GET; a mutation may not, and changes nothing."""
    params = {"query": "query Q($n: String!) { hello(name: $n) }", "variables": '{"n": "me"}', "operationName": "Q"}
    assert ask(url, method="GET", params=params).body == {"data": {"hello": "hello me"}}
    before = ask(url, "mutation { add(by: 0) }").body
    answer = ask(url, method="GET", params={"query": "mutation { add(by: 1) }"})
    assert (answer.status, answer.codes, answer.headers["Allow"]) == (405, ["BAD_REQUEST"], "POST")
    both = "query A { who } mutation B { add(by: 1) }"
    assert ask(url, method="GET", params={"query": both, "operationName": "B"}).status == 405
    assert ask(url, method="GET", params={"query": both, "operationName": "A"}).body == {"data": {"who": "good"}}
    assert ask(url, "mutation { add(by: 0) }").body == before


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (GRAPHQL, GRAPHQL),
        (f"{GRAPHQL}, {JSON}", GRAPHQL),
        (f"{JSON}, {GRAPHQL}", GRAPHQL),
        (f"{JSON}, {GRAPHQL};q=0.5", JSON),
        (f"{JSON};q=0, {GRAPHQL.upper()}; charset=utf-8", GRAPHQL),
        ("text/html, */*;q=0.1", JSON),
    ],
)
def test_media_type_of_the_answer(url: str, accept: str | None, expected: str) -> None:
    """The client chooses the media type; a failed validation is a status 400 only in the newer one."""
    answer = ask(url, "{ who }", accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (200, f"{expected}; charset=utf-8")
    refused = ask(url, "{ unknown }", accept=accept)
    assert (refused.status, refused.codes) == (400 if expected == GRAPHQL else 200, ["GRAPHQL_VALIDATION_FAILED"])


@pytest.mark.parametrize(
    ("status", "code", "options"),
    [
        (400, "BAD_REQUEST", {"data": b"{", "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"data": b"", "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"data": b"[" * 100_000, "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"data": b'{"query": "\xff"}', "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"json": [{"query": "{ who }"}]}),
        (400, "BAD_REQUEST", {"json": "{ who }"}),
        (400, "BAD_REQUEST", {"json": {"query": ""}}),
        (400, "BAD_REQUEST", {"json": {"query": 1}}),
        (400, "BAD_REQUEST", {"json": {"query": "{ who }", "variables": "x"}}),
        (400, "BAD_REQUEST", {"json": {"query": "{ who }", "extensions": 1}}),
        (400, "BAD_REQUEST", {"json": {"query": "{ who }", "operationName": 1}}),
        (400, "BAD_REQUEST", {"json": {"query": "query A { who } query B { who }"}}),
        (400, "BAD_REQUEST", {"json": {"query": "query A { who }", "operationName": "B"}}),
        (400, "BAD_REQUEST", {"json": {"query": "subscription { count(to: 1) }"}}),
        (415, "BAD_REQUEST", {"data": b"query=x", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
        (415, "BAD_REQUEST", {"data": b"{}", "headers": {"Content-Type": f"{JSON}; charset=latin-1"}}),
        (415, "BAD_REQUEST", {"data": aiohttp.FormData({"operations": "{}"}, default_to_multipart=True)}),
        (405, "BAD_REQUEST", {"method": "PUT", "json": {"query": "{ who }"}}),
        (405, "BAD_REQUEST", {"method": "DELETE"}),
        (406, "BAD_REQUEST", {"accept": "text/html", "json": {"query": "{ who }"}}),
        (400, "BAD_REQUEST", {"method": "GET"}),
        (400, "BAD_REQUEST", {"method": "GET", "params": {"query": "{ who }", "variables": "{"}}),
        (400, "GRAPHQL_PARSE_FAILED", {"json": {"query": "{ who"}}),
        (400, "GRAPHQL_VALIDATION_FAILED", {"json": {"query": "{ who { id } }"}}),
        (400, "GRAPHQL_VALIDATION_FAILED", {"json": {"query": "query($n: String!) { hello(name: $n) }"}}),
        (
            400,
            "GRAPHQL_VALIDATION_FAILED",
            {"json": {"query": "query($n: String!) { hello(name: $n) }", "variables": {"n": {"a": 1}}}},
        ),
        (
            200,
            "GRAPHQL_VALIDATION_FAILED",
            {"json": {"query": 'query($n: String = "a") { hello(name: $n) }', "variables": {"n": None}}},
        ),
        (400, "LIMIT_EXCEEDED", {"json": {"query": "{" * 100_000 + "}" * 100_000}}),
    ],
)
def test_what_is_wrong_has_a_code(url: str, status: int, code: str, options: dict[str, Any]) -> None:
    """Every refusal is JSON in the shape of GraphQL errors, with a code and a fitting status."""
    answer = ask(url, **options)
    assert (answer.status, answer.codes) == (status, [code])
    assert answer.body["errors"][0]["message"]


@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
def test_who_may_not_ask_is_told_how(url: str, accept: str) -> None:
    """A request without a valid key gets a challenge, whatever it asks, in the media type that it asks for."""
    for text in ("{ who }", "{ who", "mutation { add(by: 1) }"):
        answer = ask(url, text, accept=accept, headers={"Authorization": "Basic bad"})
        assert (answer.status, answer.codes) == (401, ["UNAUTHENTICATED"])
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="grid"'
        assert answer.headers["Content-Type"] == f"{accept}; charset=utf-8"
        assert "data" not in answer.body


def test_other_refusals_of_the_context(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """An outage is a 503, a missing right a 403, a fault a 500 that says nothing of itself."""
    assert ask(url, "{ who }", headers={"Authorization": "Basic busy"}).status == 503
    assert ask(url, "{ who }", headers={"Authorization": "Basic once"}).codes == ["FORBIDDEN"]
    answer = ask(url, "{ who }", headers={"Authorization": "Basic crash"})
    assert (answer.status, answer.codes) == (500, ["INTERNAL"])
    assert "secret" not in json.dumps(answer.body)
    assert "/etc/secret" in caplog.text


@pytest.mark.parametrize("field", ["crash", "broken"])
def test_faults_stay_in_the_log(url: str, field: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a resolver did not mean to say reaches the log with its traceback, and the client as a reference to it."""
    answer = ask(url, f"{{ who {field} }}")
    assert (answer.status, answer.codes) == (200, ["INTERNAL"])
    assert answer.body["data"] == {"who": "good", field: None}
    (error,) = answer.body["errors"]
    assert error["path"] == [field]
    assert error["message"] == f"internal error, reference {error['extensions']['reference']}"
    assert "secret" not in json.dumps(answer.body)
    (record,) = (record for record in caplog.records if error["extensions"]["reference"] in record.getMessage())
    assert "secret" in str(record.exc_info)


def test_results_that_are_no_json_are_faults(url: str) -> None:
    """A result that cannot be written is a fault of the service."""
    answer = ask(url, "{ awkward }")
    assert (answer.status, answer.codes) == (500, ["INTERNAL"])


def test_resolvers_choose_their_codes(url: str) -> None:
    """An error that a resolver means to be read arrives as it is."""
    answer = ask(url, "{ refuse }")
    (error,) = answer.body["errors"]
    assert error["message"] == "no run is called x"
    assert error["extensions"] == {"code": "RUN_NOT_FOUND", "name": "x"}
    assert error["path"] == ["refuse"]
    assert answer.body["data"] == {"refuse": None}


def test_limits_hold_for_every_request_of_a_kept_document(url: str) -> None:
    """A document that was allowed once is not allowed with any variables."""
    text = "query($n: Int!) { items(first: $n) { id } }"
    for _ in range(2):
        assert ask(url, text, variables={"n": 2}).body == {"data": {"items": [{"id": "0"}, {"id": "1"}]}}
        for size, code in ((1001, "LIMIT_EXCEEDED"), (100_000, "LIMIT_EXCEEDED"), (0, "INVALID_ARGUMENT")):
            answer = ask(url, text, variables={"n": size})
            assert (answer.status, answer.codes) == (400, [code])
            assert "first" in answer.body["errors"][0]["message"]
    aliases = " ".join(f"a{index}: items(first: $n) {{ id }}" for index in range(101))
    assert ask(url, f"query($n: Int!) {{ {aliases} }}", variables={"n": 1}).status == 200
    answer = ask(url, f"query($n: Int!) {{ {aliases} }}", variables={"n": 1000})
    assert (answer.codes, answer.body["errors"][0]["extensions"]["cost"]) == (["LIMIT_EXCEEDED"], 101_101)


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_are_refused(url: str, chunked: bool) -> None:
    """A body above 16 MiB gets a coded 413, whether its length is announced or not."""
    part, count = b" " * 65536, 17 * 16
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(part) * count)}
    address = urlsplit(url)
    # A client that sends everything before it reads anything, which is the hardest to answer.
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    try:
        headers = {**GOOD, "Content-Type": JSON, **length}
        connection.request("POST", address.path, (part for _ in range(count)), headers, encode_chunked=chunked)
        response = connection.getresponse()
        (error,) = json.loads(response.read())["errors"]
    finally:
        connection.close()
    assert (response.status, error["extensions"]["code"]) == (413, "LIMIT_EXCEEDED")


def test_a_body_in_parts_is_put_together(url: str) -> None:
    """A body of several megabytes that comes in parts is read whole."""
    text = json.dumps({"query": "{ who }", "extensions": {"padding": "x" * 3_000_000}}).encode()
    assert ask(url, data=io.BytesIO(text), headers={"Content-Type": JSON}).body == {"data": {"who": "good"}}


@asynccontextmanager
async def socket(url: str, headers: dict[str, str] | None = None, *, init: Any = None) -> AsyncIterator[Any]:
    """Open a WebSocket, and greet unless `init` is None."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("graphql-transport-ws",), headers=headers) as ws,
    ):
        if init is not None:
            await ws.send_json({"type": "connection_init", "payload": init})
            assert await ws.receive_json(timeout=10) == {"type": "connection_ack"}
        yield ws


async def operate(ws: Any, text: str, variables: dict[str, Any] | None = None, key: str = "1") -> list[dict[str, Any]]:
    """Execute one operation, and collect what is said of it until its end."""
    await ws.send_json({"type": "subscribe", "id": key, "payload": {"query": text, "variables": variables}})
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["type"] == "next":
        message = await ws.receive_json(timeout=10)
        assert message["id"] == key
        messages.append(message)
    return messages


def over_socket(url: str, text: str, variables: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Execute one operation over a WebSocket of its own."""

    async def go() -> list[dict[str, Any]]:
        async with socket(url, GOOD, init={}) as ws:
            return await operate(ws, text, variables)

    return asyncio.run(go())


def test_subscription(url: str) -> None:
    """A subscription's events arrive in order, and then its end."""
    messages = over_socket(url, "subscription($to: Int!) { count(to: $to) }", {"to": 3})
    assert [message["type"] for message in messages] == ["next", "next", "next", "complete"]
    assert [message["payload"] for message in messages[:3]] == [{"data": {"count": number}} for number in (1, 2, 3)]


def test_queries_and_mutations_over_a_socket(url: str) -> None:
    """The socket takes every kind of operation, one after the other, under the same limits."""

    async def go() -> None:
        async with socket(url, GOOD, init={}) as ws:
            first, last = await operate(ws, "{ who refuse }")
            assert first["payload"]["data"] == {"who": "good", "refuse": None}
            assert first["payload"]["errors"][0]["extensions"]["code"] == "RUN_NOT_FOUND"
            assert last["type"] == "complete"
            (first, _) = await operate(ws, "mutation { add(by: 0) }", key="1")
            assert "add" in first["payload"]["data"]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("text", "variables", "code"),
    [
        ("subscription { count", {}, "GRAPHQL_PARSE_FAILED"),
        ("subscription { unknown }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("subscription($to: Int!) { count(to: $to) }", {"to": "x"}, "GRAPHQL_VALIDATION_FAILED"),
        ("query($n: String!) { hello(name: $n) }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("subscription($n: Int!) { items(first: $n) { id } }", {"n": 1001}, "LIMIT_EXCEEDED"),
        ("mutation { " + "{" * 10_000, {}, "LIMIT_EXCEEDED"),
        ("subscription { refused }", {}, "RUN_NOT_FOUND"),
        ("subscription A { count(to: 1) } query B { who }", {}, "BAD_REQUEST"),
        ("", {}, "BAD_REQUEST"),
    ],
)
def test_what_is_wrong_with_an_operation(url: str, text: str, variables: dict[str, Any], code: str) -> None:
    """An operation that is not executed gets an error with a code, and the connection lives on."""

    async def go() -> None:
        async with socket(url, GOOD, init={}) as ws:
            (message,) = await operate(ws, text, variables)
            assert message["type"] == "error"
            assert [error["extensions"]["code"] for error in message["payload"]] == [code]
            assert (await operate(ws, "{ who }"))[0]["payload"] == {"data": {"who": "good"}}

    asyncio.run(go())


def test_page_sizes_hold_for_every_subscription(url: str) -> None:
    """A kept subscription is held against the limits with each new set of variables."""
    text = "subscription($n: Int!) { items(first: $n) { id } }"
    assert over_socket(url, text, {"n": 1000})[0]["payload"] == {"data": {"items": [{"id": "1000"}]}}
    (message,) = over_socket(url, text, {"n": 1001})
    assert message["type"] == "error"


@pytest.mark.parametrize(("field", "events"), [("crashes", 2), ("breaks", 1)])
def test_faults_of_a_subscription_stay_in_the_log(
    url: str, field: str, events: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscription that fails half-way says so without a word of how, and ends."""
    *messages, last = over_socket(url, f"subscription {{ {field} }}")
    assert last["type"] == "complete"
    assert len(messages) == events
    (error,) = messages[-1]["payload"]["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert "secret" not in json.dumps(messages)
    assert "secret" in caplog.text


def test_key_in_the_greeting(url: str) -> None:
    """Clients that cannot set headers put their key into the greeting."""

    async def go() -> None:
        async with socket(url, {"Authorization": "Basic bad"}, init={"authorization": "Basic good"}) as ws:
            assert (await operate(ws, "{ who }"))[0]["payload"] == {"data": {"who": "good"}}

    asyncio.run(go())


def test_a_key_that_is_withdrawn_ends_the_next_operation(url: str) -> None:
    """Who may ask is asked for every operation."""

    async def go() -> None:
        async with socket(url, {"Authorization": "Basic once"}, init={}) as ws:
            (message,) = await operate(ws, "{ who }")
            assert message["payload"][0]["extensions"]["code"] == "FORBIDDEN"

    asyncio.run(go())


INIT = {"type": "connection_init"}


@pytest.mark.parametrize(
    ("headers", "messages", "code"),
    [
        ({}, [INIT], 4403),
        ({}, [{**INIT, "payload": {"authorization": "Basic bad"}}], 4403),
        ({"Authorization": "Basic crash"}, [INIT], 4500),
        (GOOD, [{"type": "subscribe", "id": "1", "payload": {"query": "{ who }"}}], 4401),
        (GOOD, [INIT, INIT], 4429),
        (GOOD, ["{"], 4400),
        (GOOD, ["[]"], 4400),
        (GOOD, [{"id": "1"}], 4400),
        (GOOD, [{"type": "unknown"}], 4400),
        (GOOD, [INIT, {"type": "subscribe", "payload": {"query": "{ who }"}}], 4400),
        (GOOD, [INIT, *[{"type": "subscribe", "id": "1", "payload": {"query": "mutation { wait }"}}] * 2], 4409),
        (GOOD, ["x" * 70_000], 1009),
    ],
)
def test_connections_are_closed_with_the_protocols_codes(
    url: str, headers: dict[str, str], messages: list[Any], code: int
) -> None:
    """A client that breaks the protocol, or may not connect, learns why from the code."""

    async def go() -> None:
        async with socket(url, headers) as ws:
            for message in messages:
                await ws.send_str(message if isinstance(message, str) else json.dumps(message))
            while not ws.closed:
                received = await ws.receive(timeout=10)
                assert "secret" not in str(received)
            assert ws.close_code == code

    asyncio.run(go())


def test_other_subprotocols_are_not_accepted(url: str) -> None:
    """A client of the older protocol is told so instead of waiting."""

    async def go() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=("graphql-ws",)) as ws:
            await ws.receive(timeout=10)
            assert ws.close_code == 4406

    asyncio.run(go())


def test_a_slow_mutation_leaves_the_socket_free(url: str) -> None:
    """While one operation waits, pings are answered and others are executed."""

    async def go() -> None:
        async with socket(url, GOOD, init={}) as ws:
            await ws.send_json({"type": "subscribe", "id": "slow", "payload": {"query": "mutation { wait }"}})
            await ws.send_json({"type": "ping"})
            assert await ws.receive_json(timeout=10) == {"type": "pong"}
            await ws.send_json({"type": "subscribe", "id": "quick", "payload": {"query": "mutation { release }"}})
            data = {}
            while len(data) < 2:
                message = await ws.receive_json(timeout=10)
                if message["type"] == "next":
                    data[message["id"]] = message["payload"]["data"]
            assert data == {"slow": {"wait": 1}, "quick": {"release": 2}}

    asyncio.run(go())


def test_a_subscription_ends_with_complete_and_with_its_connection(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The source of a subscription is closed when the client has enough, and when the client is gone."""
    endless = {"query": "subscription { count(to: 1000000000) }"}

    async def ended(number: int) -> None:
        deadline = time.monotonic() + 10
        while TOTAL.closed < number:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async def go() -> None:
        before = TOTAL.closed
        async with socket(url, GOOD, init={}) as ws:
            await ws.send_json({"type": "subscribe", "id": "1", "payload": endless})
            await ws.receive_json(timeout=10)
            await ws.send_json({"type": "complete", "id": "1"})
            await ended(before + 1)
        async with socket(url, GOOD, init={}) as ws:
            await ws.send_json({"type": "subscribe", "id": "1", "payload": endless})
            await ws.receive_json(timeout=10)
        await ended(before + 2)

    asyncio.run(go())
    assert "Exception in ASGI application" not in caplog.text


def test_operations_of_a_connection_are_counted(url: str) -> None:
    """One connection cannot pile up operations without end."""

    async def go() -> None:
        async with socket(url, GOOD, init={}) as ws:
            for index in range(101):
                payload = {"query": "mutation { wait }"}
                await ws.send_json({"type": "subscribe", "id": str(index), "payload": payload})
            message = await ws.receive_json(timeout=10)
            assert (message["type"], message["id"]) == ("error", "100")
            assert message["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"

    asyncio.run(go())


def test_without_subscriptions_no_socket_opens() -> None:
    """An application without subscriptions refuses WebSockets and answers HTTP."""
    schema = make_executable_schema("type Query { who: String! }", query_without_fields())
    app = make_graphql_app(schema, context_value=context, subscriptions=False)

    async def go(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(url, protocols=("graphql-transport-ws",))

    with serving(app) as url:
        asyncio.run(go(url))
        assert ask(url, "{ who }").body == {"data": {"who": "good"}}


def query_without_fields() -> QueryType:
    """Bind the one field of the smallest schema."""
    smallest = QueryType()
    smallest.set_field("who", who)
    return smallest
