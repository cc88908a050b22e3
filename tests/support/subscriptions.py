"""Subscriptions without any of the client's own code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import connect

from grid.chain.endpoint import Endpoint
from tests.support.raw_http import PROTOCOL


@contextmanager
def watching(endpoint: Endpoint, query: str, **variables: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """Subscribe; yield the answers, errors and all, until the service ends them."""
    address = endpoint.graphql_url.replace("http", "ws", 1)
    with connect(address, subprotocols=[PROTOCOL], max_size=None, open_timeout=60) as socket:
        socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": endpoint.authorization}}))
        assert json.loads(socket.recv(60))["type"] == "connection_ack"
        payload = {"query": query, "variables": variables}
        socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        yield _answers(socket)


def _answers(socket: Any) -> Iterator[dict[str, Any]]:
    while True:
        message = json.loads(socket.recv(120))
        if message["type"] == "next":
            yield message["payload"]
        elif message["type"] == "error":
            yield {"errors": message["payload"]}
            return
        elif message["type"] == "complete":
            return
