"""What somebody may try who is not meant to: each line a request, and how it is refused. A real service, raw HTTP."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from grid.service.http.guards import FailedLogins
from tests.support.raw_http import JSON, Answer, Line, address_of, call, graphql, key_of
from tests.support.requests import ask
from tests.support.services import ServiceProcess, service_process

VIEWER = graphql("{ viewer { username } }")
PAUSE = graphql('mutation { pauseCluster(name: "local") { name } }')
UPLOAD = "/snapshots/" + "0" * 64
PROTOCOL = "graphql-transport-ws"


def refused(answer: Answer, status: int, code: str, home: Path) -> None:
    """Require an answer that refuses in the shape of GraphQL's errors, and says nothing that is not the client's."""
    assert (answer.status, answer.codes) == (status, [code]), answer
    assert "data" not in answer.json
    says_nothing(answer, home)


def says_nothing(answer: Answer, home: Path) -> None:
    """Require that an answer tells of no path and no trace, and lets no page of another site read it."""
    text = answer.body.decode()
    assert not re.search(r"Traceback|site-packages|\.py\b|line \d+|sqlalchemy|SELECT ", text), text
    assert str(home) not in text
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "server" not in answer.headers


def is_paused(service: ServiceProcess) -> bool:
    """Whether somebody has paused the cluster."""
    answer = ask(service.endpoint, '{ cluster(name: "local") { paused } }')
    paused = answer["data"]["cluster"]["paused"]
    assert isinstance(paused, bool)
    return paused


# Host


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil.example", "127.0.0.2",
        "192.168.0.1", "[::2]", "0.0.0.0", "localhost.", "user@localhost",  # noqa: S104 - nothing is bound
        "localhost/", "localhost:99999999", "", " ", "localhost, evil.example", "2130706433", "0x7f.1",
        "[::ffff:127.0.0.1]",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/graphql"), ("GET", "/graphql"), ("GET", "/health"), ("PUT", UPLOAD), ("GET", "/")]
)
def test_other_names_than_its_own(service: ServiceProcess, host: str, method: str, path: str) -> None:
    """A name that somebody has pointed to this machine reaches nothing, whoever asks: not even with the right key."""
    headers = [("Host", host.format(port=address_of(service)[1])), JSON, key_of(service)]
    refused(call(service, method, path, headers, PAUSE), 421, "FORBIDDEN", service.home)
    assert not is_paused(service)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}", "127.0.0.1:1", "[::1]", "[::1]:{port}"]
)
def test_its_own_names(service: ServiceProcess, host: str) -> None:
    """A service on loopback answers to the names of loopback, whatever the port: a tunnel may have another."""
    headers = [("Host", host.format(port=address_of(service)[1])), JSON, key_of(service)]
    answer = call(service, headers=headers, body=VIEWER)
    assert answer.json == {"data": {"viewer": {"username": service.username}}}


def test_two_hosts_and_none(service: ServiceProcess) -> None:
    """A request that names two hosts, or none, is not answered."""
    for hosts in ([("Host", "localhost"), ("Host", "evil.example")], [("Host", None)]):
        answer = call(service, headers=[*hosts, JSON, key_of(service)], body=VIEWER)
        assert answer.status in (400, 421)
        says_nothing(answer, service.home)


def test_allowed_host(tmp_path: Path) -> None:
    """A name that the operator has allowed is answered, others are not; a page that came from it is its own."""
    with service_process(tmp_path, "--allowed-host", "grid.example.org", "--allowed-host", "Other") as service:
        for host in ("grid.example.org", "grid.example.org:443", "GRID.example.org", "other:80"):
            assert call(service, headers=[("Host", host), JSON, key_of(service)], body=VIEWER).status == 200
            origin = ("Origin", f"https://{host.lower()}")
            assert call(service, headers=[("Host", host), origin, JSON, key_of(service)], body=VIEWER).status == 200
        for host in ("example.org", "x.grid.example.org", "another"):
            answer = call(service, headers=[("Host", host), JSON, key_of(service)], body=VIEWER)
            refused(answer, 421, "FORBIDDEN", service.home)


def test_listening_to_others(tmp_path: Path) -> None:
    """A service that others reach answers to addresses, to no name that it was not given, and warns of plain HTTP."""
    with service_process(tmp_path, "--host", "0.0.0.0") as service:  # noqa: S104 - that is what it is about
        for host, status in (("10.1.2.3:80", 200), ("[fe80::1]", 200), ("localhost", 200), ("evil.example", 421)):
            assert call(service, headers=[("Host", host), JSON, key_of(service)], body=VIEWER).status == status
        (warning,) = (line for line in service.log.read_text().splitlines() if "WARNING" in line)
        assert "plain HTTP" in warning


def test_ipv6(tmp_path: Path) -> None:
    """The address of a service on IPv6 is one that clients can use."""
    with service_process(tmp_path, "--host", "::1") as service:
        assert service.endpoint.url.startswith("http://[::1]:")
        answer = call(service, headers=[JSON, key_of(service), ("Host", service.endpoint.url[7:])], body=VIEWER)
        assert answer.status == 200
        assert "WARNING" not in service.log.read_text()


# Pages of a browser


ORIGINS = {
    "another site": ("Origin", "http://evil.example"),
    "another port": ("Origin", "http://127.0.0.1:1"),
    "another name": ("Origin", "http://localhost:{port}"),
    "no port": ("Origin", "http://127.0.0.1"),
    "a file": ("Origin", "null"),
    "nothing": ("Origin", ""),
    "another scheme": ("Origin", "chrome-extension://127.0.0.1:{port}"),
    "more than an origin": ("Origin", "http://127.0.0.1:{port}.evil.example"),
    "cross-site": ("Sec-Fetch-Site", "cross-site"),
    "same-site": ("Sec-Fetch-Site", "same-site"),
    "unknown site": ("Sec-Fetch-Site", "?"),
}


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/graphql"),
        ("GET", "/graphql?query=%7Bviewer%7Bid%7D%7D"),
        ("OPTIONS", "/graphql"),
        ("PUT", UPLOAD),
        ("GET", "/health"),
        ("GET", "/nothing"),
    ],
)
def test_pages_of_other_sites(service: ServiceProcess, origin: str, method: str, path: str) -> None:
    """A web page in the user's browser can do nothing at all, even if it knew the key."""
    name, value = ORIGINS[origin]
    header = (name, value.format(port=address_of(service)[1]))
    preflight = ("Access-Control-Request-Method", "POST")
    answer = call(service, method, path, [header, preflight, JSON, key_of(service)], PAUSE)
    refused(answer, 403, "FORBIDDEN", service.home)
    assert not is_paused(service)


@pytest.mark.parametrize("origin", ORIGINS)
def test_websockets_of_other_sites(service: ServiceProcess, origin: str) -> None:
    """Nor can a page open a WebSocket, for which browsers ask nobody."""
    name, value = ORIGINS[origin]
    header = {name: value.format(port=address_of(service)[1])}
    with pytest.raises(InvalidStatus) as caught:
        opened(service, header).close()
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body)["errors"][0]["extensions"] == {"code": "FORBIDDEN"}


def test_websockets_of_other_names(service: ServiceProcess) -> None:
    """A WebSocket to a name that is none of the service's is refused as any request is."""
    with pytest.raises(InvalidStatus) as caught:
        opened(service, {"Host": "evil.example"}).close()
    assert caught.value.response.status_code == 421


def test_pages_of_its_own(service: ServiceProcess) -> None:
    """What comes from the service's own address is answered; and of CORS nothing is ever said."""
    own = ("Origin", service.endpoint.url)
    for headers in ([own, ("Sec-Fetch-Site", "same-origin")], [("Sec-Fetch-Site", "none")], []):
        answer = call(service, headers=[*headers, JSON, key_of(service)], body=VIEWER)
        assert answer.status == 200
        says_nothing(answer, service.home)


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


def basic(user: str, key: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


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
    """Without the right key every request has one answer: of the schema, of the request, of users it tells nothing."""
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
    """Whether the service is there may be asked by anybody, and that is all that is said."""
    answer = call(service, "GET", "/health")
    assert answer.json.keys() == {"status", "version", "apiVersion"}
    says_nothing(answer, service.home)


def opened(
    service: ServiceProcess, headers: dict[str, str] | None = None, protocol: str = PROTOCOL
) -> ClientConnection:
    """Open a WebSocket."""
    host, port = address_of(service)
    more = dict(headers or {})
    name = more.pop("Host", f"{host}:{port}")
    return connect(
        f"ws://{name}/graphql",
        sock=socket_to(host, port),
        subprotocols=[protocol],  # type: ignore[list-item]
        additional_headers=more,
        open_timeout=60,
        proxy=None,
    )


def socket_to(host: str, port: int) -> Any:
    """Connect to an address, whatever name is going to be asked for."""
    import socket

    return socket.create_connection((host, port), timeout=30)


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
    """A WebSocket is closed before anything was told to somebody without the right key."""
    with opened(service) as line:
        for message in messages:
            line.send(json.dumps(message))
        with pytest.raises(ConnectionClosed) as caught:
            line.recv(timeout=60)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code in (4401, 4403)
    assert "Query" not in caught.value.rcvd.reason


# Failed logins


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of the test's own."""
    with service_process(tmp_path, "--cpus", "1") as running:
        yield running


def test_too_many_wrong_keys(own_service: ServiceProcess) -> None:
    """After many wrong keys for one user the next is put off, and so says its answer; the right one is taken always."""
    service = own_service
    wrong = [("Authorization", basic(service.endpoint.user_id, "wrong")), JSON]
    with Line(service) as line:
        answers = [line.call("POST", "/graphql", wrong, VIEWER) for _ in range(5 * FailedLogins.FOR_USER)]
        refusals = [answer for answer in answers if answer.status == 429]
        assert len(answers) - len(refusals) >= FailedLogins.FOR_USER
        assert refusals
        for answer in refusals:
            refused(answer, 429, "TOO_MANY_REQUESTS", service.home)
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert line.call("POST", "/graphql", [JSON, key_of(service)], VIEWER).status == 200
    with opened(service) as line:
        authorization = basic(service.endpoint.user_id, "wrong")
        line.send(json.dumps({"type": "connection_init", "payload": {"authorization": authorization}}))
        with pytest.raises(ConnectionClosed) as caught:
            line.recv(timeout=60)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.reason.startswith("TOO_MANY_REQUESTS")
    with opened(service, dict([key_of(service)])) as line:
        line.send(json.dumps({"type": "connection_init"}))
        assert json.loads(line.recv(timeout=60)) == {"type": "connection_ack"}


def test_many_users_from_one_address(own_service: ServiceProcess) -> None:
    """Whoever tries one key for each of many users is put off by their address."""
    with Line(own_service) as line:
        statuses = [
            line.call("POST", "/graphql", [("Authorization", basic(f"user-{number}", "wrong")), JSON], VIEWER).status
            for number in range(3 * FailedLogins.FOR_ADDRESS)
        ]
    assert statuses[: FailedLogins.FOR_ADDRESS] == [401] * FailedLogins.FOR_ADDRESS
    assert 429 in statuses


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        """Say the time."""
        return self.now


def test_failures_are_forgiven_with_time() -> None:
    """Each second one more failure is allowed, up to as many as at first, for each address and user by themselves."""
    clock = Clock()
    logins = FailedLogins(clock)
    for _ in range(FailedLogins.FOR_USER):
        assert logins.note("a", "u") == 0
    assert logins.note("a", "u") == 1
    assert logins.note("b", "u") == 1
    assert logins.note("a", "v") == 0
    clock.now += 0.5
    assert logins.note("a", "u") == 0.5
    clock.now += 0.5
    assert logins.note("a", "u") == 0
    assert logins.note("a", "u") == 1
    clock.now += 1_000_000
    for _ in range(FailedLogins.FOR_USER):
        assert logins.note("a", "u") == 0
    assert logins.note("a", "u") == 1
    clock.now -= 1_000_000
    assert logins.note("a", "u") == 1


def test_failures_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses and users are tried, no more than some are kept, the latest of them."""
    monkeypatch.setattr("grid.service.http.guards._MAX_BUCKETS", 50)
    logins = FailedLogins(Clock())
    for number in range(1_000):
        logins.note("address", f"user-{number}")
        assert len(logins) <= 50
    assert logins.note("address", "user-999") > 0  # the address has failed throughout


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
    """Another address or method than those there are is refused in JSON, which says which methods there are."""
    answer = call(service, method, path, [key_of(service)] if with_key else [])
    assert answer.status == status
    if method != "HEAD":
        refused(answer, status, "BAD_REQUEST", service.home)
    assert ("allow" in answer.headers) == (status == 405)


def test_faults_say_nothing_of_themselves(own_service: ServiceProcess) -> None:
    """What goes wrong inside is told to the log, and to the client where in the log it stands."""
    service = own_service
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
