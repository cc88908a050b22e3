"""Subscriptions against a small real service of graphql-transport-ws: results, ends, and failures."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType, web

from grid import errors
from grid.chain import transport
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
from tests.support.raw_service import KEY, Query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Sockets:
    """The client's WebSockets, as the transport makes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        make = transport._Socket

        def note(**options: Any) -> Any:
            self.made.append(make(**options))
            return self.made[-1]

        monkeypatch.setattr(transport, "_Socket", note)


def cut(socket: web.WebSocketResponse) -> None:
    """Cut the line of a WebSocket on the service's side, without a word."""
    connection = socket.get_extra_info("socket")
    connection.shutdown(SHUT_RDWR)


async def until(condition: Any) -> None:
    """Wait for something on the same loop."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.01)


async def protocol(socket: web.WebSocketResponse, heard: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Play the service's part of graphql-transport-ws, and yield the id of each subscription."""
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            heard.append(message.json())
            if heard[-1]["type"] == "connection_init":
                await socket.send_json({"type": "connection_ack"})
            elif heard[-1]["type"] == "subscribe":
                yield heard[-1]["id"]


def watch(
    play: Any, stop_after: int | None = None, prepare: Any = None, body: Any = None
) -> tuple[list[Any], Any, list[dict[str, Any]]]:
    """Subscribe to a service whose answers `play` sends; return results, the error, and what the service heard."""
    results: list[Any] = []
    heard: list[dict[str, Any]] = []

    async def main() -> Any:
        done = asyncio.Event()

        async def serve(request: web.Request) -> web.StreamResponse:
            assert request.headers["Authorization"].startswith("Basic ")
            if prepare is not None:
                return await prepare(request)
            socket = web.WebSocketResponse(protocols=["graphql-transport-ws"])
            await socket.prepare(request)
            with suppress(ConnectionError):
                async for number in protocol(socket, heard):
                    await play(socket, number)
            done.set()
            return socket

        application = web.Application()
        application.router.add_get("/graphql", serve)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        policy = RetryPolicy(tries=1, connect_timeout=60, read_timeout=0.2 if prepare is silent else 60)
        way = Transport(Endpoint(f"http://127.0.0.1:{port}", "ada", KEY), policy)
        error = None
        source = way.subscribe(Query("runStatusChanged"), {"name": "x"})
        try:
            async for result in source:
                results.append(result)
                if body is not None:
                    await body(len(results))
                if len(results) == stop_after:
                    break
            await source.aclose()
            await asyncio.wait_for(done.wait(), 60)
            left = [task for task in asyncio.all_tasks() if "_receive_data_loop" in repr(task)]
            assert not left
        except errors.GridError as caught:
            error = caught
        assert way.requests_sent == 1
        await way.close()
        await runner.cleanup()
        return error

    return results, asyncio.run(asyncio.wait_for(main(), 120)), heard


def following(*messages: dict[str, Any]) -> Any:
    """Return the part of a service that sends these messages."""

    async def play(socket: web.WebSocketResponse, number: str) -> None:
        for message in messages:
            await socket.send_json({"id": number, **message})

    return play


def test_subscription_until_the_service_ends_it() -> None:
    """The results come in order until the service completes, and the request is the query's."""
    play = following(
        {"type": "next", "payload": {"data": {"n": 1}}},
        {"type": "next", "payload": {"data": {"n": 2}}},
        {"type": "complete"},
    )
    results, error, heard = watch(play)
    assert (results, error) == ([{"n": 1}, {"n": 2}], None)
    assert heard[1]["payload"] == {"query": Query.text, "operationName": "runStatusChanged", "variables": {"name": "x"}}


def test_subscription_that_the_client_leaves() -> None:
    """A subscription that is not read to its end is completed by the client, and its socket closed."""
    results, error, heard = watch(following({"type": "next", "payload": {"data": {"n": 1}}}), stop_after=1)
    assert (results, error) == ([{"n": 1}], None)
    assert [message["type"] for message in heard] == ["connection_init", "subscribe", "complete"]


def coded(code: str) -> dict[str, Any]:
    """Return an error as the service writes it."""
    return {"message": "no", "extensions": {"code": code}}


async def refuse(_: web.Request) -> web.StreamResponse:
    """Answer the upgrade with a refusal."""
    return web.Response(status=401)


async def plain(_: web.Request) -> web.StreamResponse:
    """Answer the upgrade as if it were a page."""
    return web.Response(text="<html>", content_type="text/html")


async def closing(request: web.Request) -> web.StreamResponse:
    """Accept the upgrade, and close with the code for a refused key."""
    socket = web.WebSocketResponse(protocols=["graphql-transport-ws"])
    await socket.prepare(request)
    await socket.receive()
    await socket.close(code=4401)
    return socket


async def silent(request: web.Request) -> web.StreamResponse:
    """Accept the upgrade, and never acknowledge."""
    socket = web.WebSocketResponse(protocols=["graphql-transport-ws"])
    await socket.prepare(request)
    async for _ in socket:
        pass
    return socket


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (refuse, errors.AuthenticationFailed),
        (plain, errors.InvalidResponse),
        (closing, errors.AuthenticationFailed),
        (silent, errors.RequestTimeout),
    ],
)
def test_subscription_that_does_not_begin(
    prepare: Any, kind: type[errors.GridError], caplog: pytest.LogCaptureFixture
) -> None:
    """Failures of the upgrade are mapped as they are for a query, and leave nothing open."""
    results, error, _ = watch(None, prepare=prepare)
    assert (results, type(error)) == ([], kind)
    gc.collect()
    assert "Unclosed" not in caplog.text


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"type": "error", "payload": [coded("RUN_NOT_FOUND")]}, errors.RunNotFound),
        ({"type": "error", "payload": ["what"]}, errors.ServiceError),
        ({"type": "next", "payload": {"data": None, "errors": [coded("FORBIDDEN")]}}, errors.PermissionDenied),
        ({"type": "next", "payload": {"data": 1}}, errors.InvalidResponse),
        ({"type": "next", "payload": {"neither": 1}}, errors.InvalidResponse),
    ],
)
def test_subscription_that_fails(message: dict[str, Any], kind: type[errors.GridError]) -> None:
    """Errors that come over the socket are mapped as they are for a query."""
    results, error, _ = watch(following({"type": "next", "payload": {"data": {"n": 1}}}, message))
    assert (results, type(error)) == ([{"n": 1}], kind)


def test_subscription_whose_line_is_cut() -> None:
    """A line that is cut is an error, not the end of the subscription."""

    async def play(socket: web.WebSocketResponse, number: str) -> None:
        await socket.send_json({"id": number, "type": "next", "payload": {"data": {"n": 1}}})
        await socket.close()

    results, error, _ = watch(play)
    assert (results, type(error)) == ([{"n": 1}], errors.ConnectionFailed)


@pytest.mark.parametrize("stop_after", [None, 1])
@pytest.mark.parametrize("is_given_up", [False, True])
def test_body_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, is_given_up: bool, stop_after: int | None
) -> None:
    """A line that ends while nobody reads from it is an error after what was read, and leaves no task behind."""
    if is_given_up:
        monkeypatch.setattr(transport, "_HEARTBEAT", 0.5)
    sockets = Sockets(monkeypatch)

    async def play(socket: web.WebSocketResponse, number: str) -> None:
        # More than the client reads ahead, and more than aiohttp holds for it where pongs must not come through.
        text = "x" * 2**15 * is_given_up
        with suppress(ConnectionError):
            for n in range(200 if is_given_up else 20):
                await socket.ping()
                await socket.send_json({"id": number, "type": "next", "payload": {"data": {"n": n, "text": text}}})
            if not is_given_up:
                await socket.ping()
                cut(socket)

    async def body(count: int) -> None:
        if count == 1:
            socket = sockets.made[0].adapter.websocket
            connection = socket.get_extra_info("socket")
            await until(lambda: socket.closed if is_given_up else connection.fileno() == -1)

    results, error, _ = watch(play, body=body, stop_after=stop_after)
    assert [each["n"] for each in results] == list(range(len(results)))
    assert type(error) is (errors.ConnectionFailed if stop_after is None else type(None))
    gc.collect()
    assert "destroyed" not in caplog.text
