"""GraphQL over WebSocket: a real uvicorn on a free port, spoken to with aiohttp."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from ariadne import QueryType, make_executable_schema

from grid.service.http.graphql_http import make_graphql_app
from tests.support.toy_service import GOOD, TOTAL, ask, context, serving, toy_service, who

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the address of the toy service."""
    with toy_service() as url:
        yield url


@asynccontextmanager
async def socket(url: str, headers: dict[str, str] | None = None, *, init: Any = None) -> AsyncIterator[Any]:
    """Open a WebSocket, and greet unless `init` is None."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("graphql-transport-ws",), headers=headers) as ws,
    ):
        if init is not None:
            await ws.send_json({"type": "connection_init", "payload": init})
            assert await ws.receive_json(timeout=60) == {"type": "connection_ack"}
        yield ws


async def operate(ws: Any, text: str, variables: dict[str, Any] | None = None, key: str = "1") -> list[dict[str, Any]]:
    """Execute one operation, and collect its messages until its end."""
    await ws.send_json({"type": "subscribe", "id": key, "payload": {"query": text, "variables": variables}})
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["type"] == "next":
        message = await ws.receive_json(timeout=60)
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
    """A kept subscription is checked against the limits with each new set of variables."""
    text = "subscription($n: Int!) { items(first: $n) { id } }"
    assert over_socket(url, text, {"n": 1000})[0]["payload"] == {"data": {"items": [{"id": "1000"}]}}
    (message,) = over_socket(url, text, {"n": 1001})
    assert message["type"] == "error"


@pytest.mark.parametrize(("field", "events"), [("crashes", 2), ("breaks", 1)])
def test_faults_of_a_subscription_stay_in_the_log(
    url: str, field: str, events: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscription that fails half-way says so without details, and ends."""
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
    """Authorization is checked for every operation."""

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
    """A client that breaks the protocol, or may not connect, learns why from the close code."""

    async def go() -> None:
        async with socket(url, headers) as ws:
            for message in messages:
                await ws.send_str(message if isinstance(message, str) else json.dumps(message))
            while not ws.closed:
                received = await ws.receive(timeout=60)
                assert "secret" not in str(received)
            assert ws.close_code == code

    asyncio.run(go())


def test_silent_clients_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not greet in time is told so."""
    monkeypatch.setattr("grid.service.http.graphql_ws._INIT_TIME", timedelta(seconds=0.05))

    async def go(url: str) -> None:
        async with socket(url, GOOD) as ws:
            received = await ws.receive(timeout=60)
            assert (ws.close_code, received.extra) == (4408, "Connection initialisation timeout")

    with toy_service() as url:
        asyncio.run(go(url))


def test_other_subprotocols_are_not_accepted(url: str) -> None:
    """A client of the older protocol is told so instead of waiting."""

    async def go() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=("graphql-ws",)) as ws:
            await ws.receive(timeout=60)
            assert ws.close_code == 4406

    asyncio.run(go())


def test_a_slow_mutation_leaves_the_socket_free(url: str) -> None:
    """While one operation waits, pings are answered and others are executed."""

    async def go() -> None:
        async with socket(url, GOOD, init={}) as ws:
            await ws.send_json({"type": "subscribe", "id": "slow", "payload": {"query": "mutation { wait }"}})
            await ws.send_json({"type": "ping"})
            assert await ws.receive_json(timeout=60) == {"type": "pong"}
            await ws.send_json({"type": "subscribe", "id": "quick", "payload": {"query": "mutation { release }"}})
            data = {}
            while len(data) < 2:
                message = await ws.receive_json(timeout=60)
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
            await ws.receive_json(timeout=60)
            await ws.send_json({"type": "complete", "id": "1"})
            await ended(before + 1)
        async with socket(url, GOOD, init={}) as ws:
            await ws.send_json({"type": "subscribe", "id": "1", "payload": endless})
            await ws.receive_json(timeout=60)
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
            message = await ws.receive_json(timeout=60)
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
