"""What an intruder may try: each line a request, and how it is refused. A real service, raw HTTP."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query
from websockets.exceptions import ConnectionClosed

from tests.support.raw_http import (
    JSON,
    PAUSE,
    UPLOAD,
    VIEWER,
    basic,
    call,
    graphql,
    is_paused,
    key_of,
    opened,
    refused,
    says_nothing,
)
from tests.support.services import ServiceProcess, service_process

# What a browser sends without asking


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/graphql", "",
        "application/json; charset=latin-1", "application/jsonp", "text/plain; application/json", None,
    ],
)  # fmt: skip
def test_bodies_that_a_form_can_send(service: ServiceProcess, content_type: str | None) -> None:
    """A mutation is taken as JSON alone: a web form cannot send that without asking first."""
    answer = call(service, headers=[("Content-Type", content_type), key_of(service)], body=PAUSE)
    refused(answer, 415, "BAD_REQUEST", service.home)
    assert not is_paused(service)


def test_links_that_change_something(service: ServiceProcess) -> None:
    """A mutation is not executed for a GET request, with or without a body."""
    query = "/graphql?query=mutation%7BpauseCluster(name%3A%22local%22)%7Bname%7D%7D"
    for body in (b"", PAUSE):
        answer = call(service, "GET", query, [JSON, key_of(service)], body)
        refused(answer, 405, "BAD_REQUEST", service.home)
    assert not is_paused(service)


# Without the right key


ASKED = {
    "introspection": graphql(get_introspection_query()),
    "type name": graphql("{ __typename }"),
    "no GraphQL": graphql("{ {"),
    "unknown field": graphql("{ viewe }"),
    "missing argument": graphql("{ run { id } }"),
    "wrong variables": graphql("query($n: Int!) { runs(first: $n) { totalCount } }", variables={"n": "x"}),
    "too much": graphql("{" * 10_000),
    "batch": b"[" + VIEWER + b"]",
    "no JSON": b"{",
    "no query": b"{}",
    "mutation": PAUSE,
    "subscription": graphql('subscription { runStatusChanged(name: "x") { revision } }'),
}


WORDS = {
    "none": "the request needs HTTP Basic authentication: user id and API key",
    "wrong": "the user id and the API key are not accepted",
    "another user's name": "the user id and the API key are not accepted",
    "not ASCII": "the Authorization header is not HTTP Basic authentication",
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("key", WORDS)
def test_the_schema_is_for_the_authenticated(service: ServiceProcess, asked: str, key: str) -> None:
    """Without the right key every request has the same answer, which reveals nothing of schema, request or users."""
    authorization = {
        "none": None,
        "wrong": basic(service.endpoint.user_id, "wrong"),
        "another user's name": basic("somebody", service.endpoint.api_key),
        "not ASCII": "Basic \xe9",
    }[key]
    answer = call(service, headers=[("Authorization", authorization), JSON], body=ASKED[asked])
    refused(answer, 401, "UNAUTHENTICATED", service.home)
    assert answer.json["errors"] == [{"message": WORDS[key], "extensions": {"code": "UNAUTHENTICATED"}}]
    assert not is_paused(service)


def test_get_without_a_key(service: ServiceProcess) -> None:
    """The same holds for queries in an address."""
    for query in ("%7B__schema%7BqueryType%7Bname%7D%7D%7D", "%7B", ""):
        answer = call(service, "GET", f"/graphql?query={query}")
        refused(answer, 401, "UNAUTHENTICATED", service.home)


def test_health_tells_no_secrets(service: ServiceProcess) -> None:
    """Anybody may ask whether the service is there, and that is all that the answer says."""
    answer = call(service, "GET", "/health")
    assert answer.json.keys() == {"status", "version", "apiVersion"}
    says_nothing(answer, service.home)


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "subscribe", "id": "1", "payload": {"query": get_introspection_query()}}],
        [{"type": "connection_init"}],
        [{"type": "connection_init", "payload": {"authorization": "Basic d3Jvbmc6d3Jvbmc="}}],
        [{"type": "connection_init", "payload": {"authorization": ["x"]}}],
        [{"type": "connection_init", "payload": {"authorization": "Basic \u20ac"}}],
        [{"type": "connection_init", "payload": []}],
    ],
)
def test_websockets_without_a_key(service: ServiceProcess, messages: list[Any]) -> None:
    """Without the right key a WebSocket is closed before it has revealed anything."""
    with opened(service) as line:
        for message in messages:
            line.send(json.dumps(message))
        with pytest.raises(ConnectionClosed) as caught:
            line.recv(timeout=60)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code in (4401, 4403)
    assert "Query" not in caught.value.rcvd.reason


# What is not there, and what goes wrong


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/nothing", 404), ("POST", "/nothing", 404), ("GET", "/graphql/", 404),
        ("GET", "/graphql/../health", 404), ("GET", "//graphql", 404), ("GET", "/snapshots/", 404),
        ("GET", "/snapshots", 404), ("PUT", "/snapshots/a/b", 404), ("PUT", "/snapshots/..%2f..%2fservice", 404),
        ("GET", "/service/api-key", 404), ("GET", "/%2e%2e/service/api-key", 404), ("GET", "/etc/passwd", 404),
        ("GET", UPLOAD, 405), ("POST", UPLOAD, 405), ("DELETE", UPLOAD, 405), ("HEAD", "/snapshots/x%00", 405),
        ("POST", "/health", 405), ("PUT", "/graphql", 405), ("DELETE", "/graphql", 405), ("OPTIONS", "/graphql", 405),
        ("TRACE", "/graphql", 405), ("PATCH", "/health", 405),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_key", [True, False])
def test_what_is_not_there(service: ServiceProcess, method: str, path: str, status: int, with_key: bool) -> None:
    """An unknown address or method is refused in JSON, and an unknown method with the list of those that there are."""
    answer = call(service, method, path, [key_of(service)] if with_key else [])
    assert answer.status == status
    if method != "HEAD":
        refused(answer, status, "BAD_REQUEST", service.home)
    assert ("allow" in answer.headers) == (status == 405)


def test_faults_say_nothing_of_themselves(tmp_path: Path) -> None:
    """What goes wrong inside is in the log; the client is only told where in the log to look."""
    with service_process(tmp_path, "--cpus", "1") as service:
        connection = sqlite3.connect(service.home / "grid.sqlite3", timeout=30)
        with connection:
            connection.execute("ALTER TABLE runs RENAME TO elsewhere")
        connection.close()
        answer = call(service, headers=[JSON, key_of(service)], body=graphql("{ runs { totalCount } }"))
        says_nothing(answer, service.home)
        (error,) = answer.json["errors"]
        assert error["extensions"]["code"] == "INTERNAL"
        assert "elsewhere" not in answer.body.decode()
        assert "no such table" not in answer.body.decode()
        log = service.log.read_text()
        assert f"internal error, reference {error['extensions']['reference']}" in log
        assert "Traceback" in log
