"""Documents, variables and connections that ask for too much: each line one of them, and its limit."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query
from websockets.exceptions import ConnectionClosed

from grid.session.session import Session
from tests.support.experiments import starter
from tests.support.raw_http import JSON, Line, address_of, call, graphql, key_of, opened, socket_to
from tests.support.requests import ask
from tests.support.services import ServiceProcess

VIEWER = "{ viewer { username } }"


def many(count: int, text: str, between: str = " ") -> str:
    """Repeat a text with its number in it."""
    return between.join(text.replace("#", str(number)) for number in range(count))


def doubling(levels: int, times: int = 2) -> str:
    """A document whose fragments spread each other so often that it has `times ** levels` fields."""
    chain = many(levels, "fragment F# on Query { " + "...F# " * times + "}").split("fragment ")
    # Each level spreads the next one: F0 spreads F1, and so on.
    body = "fragment ".join(
        part.replace(f"...F{number - 1} ", f"...F{number} ") for number, part in enumerate(chain) if part or number == 0
    )
    return "{ ...F0 } " + body + f" fragment F{levels} on Query {{ viewer {{ id }} }}"


DOCUMENTS: dict[str, tuple[str, int]] = {
    "characters": ('{ run(name: "' + "a" * 100_000 + '") { id } }', 100_000),
    "tokens": ("{ " + many(4_000, "a#: apiVersion") + " }", 4_000),
    "tokens that are ignored": ("{ apiVersion" + " #\n" * 40_000 + "}", 100_000),
    "braces": ("{" * 50_000, 100),
    "lists in lists": ("{ run(name: " + "[" * 40_000, 100),
    "lists in lists, closed": ("{ run(name: " + "[" * 1_000 + "]" * 1_000 + ") { id } }", 100),
    "objects in objects": ("{ run(name: " + "{a:" * 30_000, 100),
    "lists of types": ("query($a: " + "[" * 40_000 + "Int", 100),
    "fields in fields": ("{ a" * 40 + "}" * 40, 20),
    "inline fragments in inline fragments": ("{" + "...{" * 150 + "apiVersion" + "}" * 151, 100),
    "aliases": ("{ " + many(151, "a#: apiVersion") + " }", 150),
    "aliases through fragments": (
        "{ ...F } fragment F on Query { " + many(80, "a#: apiVersion b#: serviceVersion") + " }",
        150,
    ),
    "directives": ("{ " + many(51, "apiVersion @skip(if: false)") + " }", 50),
    "directives that there are not": ("{ apiVersion " + "@a " * 60 + "}", 50),
    "directives of variables": ("query(" + many(60, "$a#: Int @a") + ") { apiVersion }", 50),
    "one field often": ("{ " + "apiVersion " * 11 + "}", 10),
    "one object often": ("{ " + "viewer { id } " * 11 + "}", 10),
    "one alias often": ("{ " + "a: apiVersion a: serviceVersion " * 6 + "}", 10),
    "one field often below": ("{ " + many(4, "viewer { id id id }") + " }", 10),
    "one field often through inline fragments": ("{ " + "... { viewer { id } } " * 11 + "}", 10),
    "one field often through one fragment": ("{ " + "...F " * 11 + "} fragment F on Query { viewer { id } }", 10),
    "one field often through fragments": (
        "{ " + many(11, "...F#") + " } " + many(11, "fragment F# on Query { viewer { id } }"),
        10,
    ),
    "fragments that double": (doubling(30), 10),
    "fragments": ("{ ...F0 } " + many(51, "fragment F# on Query { apiVersion }"), 50),
    "operations": (many(21, "query Q# { apiVersion }"), 20),
    "variables": ("query(" + many(101, "$a#: Int") + ") { apiVersion }", 100),
    "arguments": ("{ run(" + many(301, "a#: 1") + ") { id } }", 300),
    "values of an object": ("{ estimate(settings: {" + many(301, "a#: 1") + "}) { experimentCount } }", 300),
    "values of a list": ("{ run(name: [" + "1 " * 301 + "]) { id } }", 300),
    "a page": ("{ runs(first: 1001) { totalCount } }", 1_000),
    "cost": ("{ runs(first: 1000) { nodes { experiments(first: 1000) { nodes { id } } } } }", 100_000),
    "estimates": (
        "{ " + many(11, 'a#: estimate(settings: {entrypoint: "a.py"}) { experimentCount }') + " }",
        100_000,
    ),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_that_ask_too_much(service: ServiceProcess, kind: str) -> None:
    """A document that is too large, too deep or repeats itself is refused, with the limit that it exceeds."""
    text, limit = DOCUMENTS[kind]
    answer = call(service, headers=[JSON, key_of(service)], body=graphql(text))
    (error,) = answer.json["errors"]
    assert error["extensions"]["code"] == "LIMIT_EXCEEDED", answer
    assert (error["extensions"].get("limit") or error["extensions"]["maximum"]) == limit, answer
    assert f"{limit}" in error["message"]
    assert len(answer.body) < 1_000


@pytest.mark.parametrize(
    "text",
    [
        "{ " + many(150, "a#: apiVersion") + " }",
        "{ " + "apiVersion " * 10 + "}",
        "{ viewer { " + many(140, "a#: id") + " } }",
        many(20, "query Q# { apiVersion }").replace("query Q0", "query Q"),
        "{ apiVersion " + "... @include(if: true) { apiVersion } " * 9 + "}",
        get_introspection_query(),
    ],
)
def test_documents_within_the_limits(service: ServiceProcess, text: str) -> None:
    """A document that is just within the limits is answered."""
    name = "Q" if "query Q " in text else None
    answer = call(service, headers=[JSON, key_of(service)], body=graphql(text, operationName=name))
    assert answer.status == 200
    assert "errors" not in answer.json


def nested(depth: int, around: str = "[") -> Any:
    """JSON text of values nested in each other."""
    return {"[": "[" * depth + "1" + "]" * depth, "{": '{"a":' * depth + "1" + "}" * depth}[around]


SETTINGS = "query($s: RunSettingsInput!) { estimate(settings: $s) { experimentCount } }"


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ('{"s": ' + nested(21) + "}", "LIMIT_EXCEEDED"),
        ('{"s": ' + nested(21, "{") + "}", "LIMIT_EXCEEDED"),
        ('{"s": ' + nested(900) + "}", "LIMIT_EXCEEDED"),
        ('{"s": ' + nested(100_000) + "}", "BAD_REQUEST"),
        ('{"s": ' + nested(100_000, "{") + "}", "BAD_REQUEST"),
        (nested(19), "BAD_REQUEST"),
        ('{"s": ' + nested(19) + "}", "GRAPHQL_VALIDATION_FAILED"),
        ('{"s": ' + nested(19, "{") + "}", "GRAPHQL_VALIDATION_FAILED"),
        (json.dumps({f"v{number}": 1 for number in range(10_001)}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {f"v{number}": 1 for number in range(10_001)}}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {f"v{number}": 1 for number in range(10_000)}}), "GRAPHQL_VALIDATION_FAILED"),
        (json.dumps({"s": {f"v{number}": "x" for number in range(10_001)}}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {f"v{number}": [1] for number in range(5_001)}}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {f"v{number}": [1] for number in range(5_000)}}), "GRAPHQL_VALIDATION_FAILED"),
        (json.dumps({"s": [0] * 5_001, "t": [0] * 5_000}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": [0] * 1_000_000}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {"entrypoint": "x" * 1_000_001}}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {"entrypoint": "a.py", "environment": {"x" * 1_000_001: "x"}}}), "LIMIT_EXCEEDED"),
        (json.dumps({"other": "x" * 1_000_001, "s": {"entrypoint": "a.py"}}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {"scriptCommand": "x" * 8_000_000}}), "GRAPHQL_VALIDATION_FAILED"),
        (json.dumps({"s": {"scriptCommand": "x" * 8_000_001}}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": {"scriptCommand": "x", "name": "x" * 1_000_001}}), "LIMIT_EXCEEDED"),
        (json.dumps({"s": ["scriptCommand", "x" * 1_000_001]}), "LIMIT_EXCEEDED"),
        ('{"s": ' + "9" * 100_000 + "}", "BAD_REQUEST"),
        ('{"s": {"entrypoint": "a.py", "numTrials": 1e999}}', "BAD_REQUEST"),
    ],
)
def test_variables_that_are_too_much(service: ServiceProcess, variables: str, code: str) -> None:
    """Variables that are too many, too large or too deep are refused, however they are written."""
    body = b'{"query": ' + json.dumps(SETTINGS).encode() + b', "variables": ' + variables.encode() + b"}"
    answer = call(service, headers=[JSON, key_of(service)], body=body)
    assert answer.status in (200, 400)
    assert set(answer.codes) == {code}, answer
    assert len(answer.codes) <= 51


@pytest.mark.parametrize("size", [2, 1_000])
def test_batches(service: ServiceProcess, size: int) -> None:
    """A request is one operation: a batch of them is refused, whatever its length, and says so."""
    body = json.dumps([{"query": VIEWER}] * size).encode()
    answer = call(service, headers=[JSON, key_of(service)], body=body)
    assert (answer.status, answer.codes) == (400, ["BAD_REQUEST"])
    assert str(size) in answer.json["errors"][0]["message"]


@pytest.mark.parametrize("body", [nested(1_000_000).encode(), nested(1_000_000, "{").encode(), b"[" * 8_000_000])
def test_bodies_of_lists_in_lists(service: ServiceProcess, body: bytes) -> None:
    """A body of millions of brackets is refused as JSON, and overflows nothing."""
    answer = call(service, headers=[JSON, key_of(service)], body=body)
    assert answer.codes == ["BAD_REQUEST"]


def test_bodies_that_are_too_large(service: ServiceProcess) -> None:
    """A body above 16 MiB is not read; without a key no body is read at all, and the key is what is answered."""
    for headers, refusal in (
        ([JSON, key_of(service)], (413, ["LIMIT_EXCEEDED"])),
        ([JSON], (401, ["UNAUTHENTICATED"])),
    ):
        with Line(service) as line:
            answer = line.call("POST", "/graphql", [*headers, ("Content-Length", str(16 * 1024**2 + 1))], b"{")
        assert (answer.status, answer.codes) == refusal


CHUNKED = b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET /" + b"a" * 100_000, id="address"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, id="value"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a" * 100_000, id="name"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 4_000, id="headers"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 4_000 + b"\r\n", id="headers with an end"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\nX: " + b"a" * 2_000_000, id="trailer"),
        pytest.param(CHUNKED + b"1;" + b"a" * 2_000_000, id="extension"),
    ],
)
def test_heads_without_end(service: ServiceProcess, request_: bytes) -> None:
    """Of what is not a body only some KiB are read; then the connection is closed, whatever is still to come."""
    received = b""
    with socket_to(*address_of(service)) as line, suppress(ConnectionError):
        line.sendall(request_)
        while part := line.recv(10_000):
            received += part
        assert b"HTTP/1.1 400 " in received


def test_large_heads(service: ServiceProcess) -> None:
    """What a client may legitimately send is accepted: long headers, and bodies in many small parts."""
    with Line(service) as line:
        for _ in range(3):
            assert line.call("GET", "/health", [("X", "a" * 50_000)]).status == 200
    body = graphql(VIEWER + " " * 30_000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    headers = [JSON, key_of(service), ("Transfer-Encoding", "chunked"), ("Content-Length", None)]
    assert call(service, headers=headers, body=chunks).status == 200


def send(line: Any, kind: str, **more: Any) -> None:
    """Send a message over a WebSocket."""
    line.send(json.dumps({"type": kind, **more}))


def test_subscriptions_of_one_connection(service: ServiceProcess, session: Session, tmp_path: Path) -> None:
    """One WebSocket carries a hundred operations at once; the next is refused, and the connection goes on."""
    ask(service.endpoint, 'mutation { pauseCluster(name: "local") { name } }')
    run = starter(tmp_path)("print(1)")
    watched = {"query": f'subscription {{ runStatusChanged(name: "{run.name}") {{ revision }} }}'}
    try:
        with opened(service, dict([key_of(service)])) as line:
            send(line, "connection_init")
            assert json.loads(line.recv(timeout=60))["type"] == "connection_ack"
            for number in range(101):
                send(line, "subscribe", id=str(number), payload=watched)
            answers = [json.loads(line.recv(timeout=60)) for _ in range(101)]
            (refusal,) = (answer for answer in answers if answer["type"] == "error")
            assert (refusal["id"], refusal["payload"][0]["extensions"]["code"]) == ("100", "LIMIT_EXCEEDED")
            assert "100" in refusal["payload"][0]["message"]
            send(line, "complete", id="0")
            send(line, "subscribe", id="again", payload=watched)
            assert json.loads(line.recv(timeout=60))["id"] == "again"
    finally:
        run.cancel()
        ask(service.endpoint, 'mutation { resumeCluster(name: "local") { name } }')


@pytest.mark.parametrize(
    "message",
    [
        {"type": "complete", "id": []},
        {"type": "complete", "id": {}},
        {"type": "complete"},
        {"type": "complete", "id": 1},
        {"type": "subscribe", "id": ["1"], "payload": {"query": VIEWER}},
        {"type": "subscribe", "id": "1", "payload": [VIEWER]},
        {"type": "subscribe", "id": "1", "payload": {"query": ["x"]}},
        {"type": "subscribe", "id": "1", "payload": {"query": VIEWER, "variables": []}},
        {"type": "subscribe", "id": "1", "payload": {"query": VIEWER, "operationName": {}}},
        {"type": "subscribe", "id": "x" * 1_000_000, "payload": {"query": VIEWER}},
        {"type": "subscribe", "id": "1", "payload": [{"query": VIEWER}] * 100},
        {"type": ["subscribe"]},
        {"type": "next", "id": "1", "payload": {}},
        {"type": "pong", "payload": {"a": "x" * 1_000_000}},
        "null",
        "[]",
        "1",
        "",
        "\0",
        nested(100_000),
    ],
)
def test_messages_that_break_the_protocol(service: ServiceProcess, message: Any) -> None:
    """What breaks the protocol ends its own connection with a code, or is answered; no trace of it is in the log."""
    before = service.log.stat().st_size
    with opened(service, dict([key_of(service)])) as line:
        send(line, "connection_init")
        assert json.loads(line.recv(timeout=60))["type"] == "connection_ack"
        line.send(message if isinstance(message, str) else json.dumps(message))
        try:
            send(line, "ping")
            while True:
                answer = json.loads(line.recv(timeout=60))
                assert "INTERNAL" not in json.dumps(answer)
                if answer["type"] == "pong":
                    break
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            assert closed.rcvd.code in (4400, 4409)
    with service.log.open() as log:
        log.seek(before)
        assert "Traceback" not in log.read()
