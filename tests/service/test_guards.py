"""Tests of the guards in front of every request: the host that it names, the page that it comes from, failed logins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from grid.service.http.guards import FailedLogins
from tests.support.raw_http import (
    JSON,
    PAUSE,
    UPLOAD,
    VIEWER,
    Line,
    address_of,
    basic,
    call,
    is_paused,
    key_of,
    opened,
    refused,
    says_nothing,
)
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_until


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
    """A foreign name that points to this machine reaches nothing, not even with the right key."""
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
    """A name that the operator has allowed is answered, others are not; pages from it count as the service's own."""
    with service_process(tmp_path, "--allowed-host", "grid.example.org", "--allowed-host", "Other") as service:
        for host in ("grid.example.org", "grid.example.org:443", "GRID.example.org", "other:80"):
            assert call(service, headers=[("Host", host), JSON, key_of(service)], body=VIEWER).status == 200
            origin = ("Origin", f"https://{host.lower()}")
            assert call(service, headers=[("Host", host), origin, JSON, key_of(service)], body=VIEWER).status == 200
        for host in ("example.org", "x.grid.example.org", "another"):
            answer = call(service, headers=[("Host", host), JSON, key_of(service)], body=VIEWER)
            refused(answer, 421, "FORBIDDEN", service.home)


def test_listening_to_others(tmp_path: Path) -> None:
    """A service on the network answers to addresses, only to names that it was given, and warns about plain HTTP."""
    with service_process(tmp_path, "--host", "0.0.0.0") as service:  # noqa: S104 - that is what it is about
        for host, status in (("10.1.2.3:80", 200), ("[fe80::1]", 200), ("localhost", 200), ("evil.example", 421)):
            assert call(service, headers=[("Host", host), JSON, key_of(service)], body=VIEWER).status == status
        (warning,) = (line for line in service.log.read_text().splitlines() if "WARNING" in line)
        assert "plain HTTP" in warning


def test_ipv6(tmp_path: Path) -> None:
    """Clients can use the address of a service on IPv6."""
    with service_process(tmp_path, "--host", "::1") as service:
        assert service.endpoint.url.startswith("http://[::1]:")
        answer = call(service, headers=[JSON, key_of(service), ("Host", service.endpoint.url[7:])], body=VIEWER)
        assert answer.status == 200
        assert "WARNING" not in service.log.read_text()


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
    """Nor can a page open a WebSocket, for which browsers make no preflight request."""
    name, value = ORIGINS[origin]
    header = {name: value.format(port=address_of(service)[1])}
    with pytest.raises(InvalidStatus) as caught:
        opened(service, header).close()
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body)["errors"][0]["extensions"] == {"code": "FORBIDDEN"}


def test_websockets_of_other_names(service: ServiceProcess) -> None:
    """A WebSocket to a foreign name is refused as any request is."""
    with pytest.raises(InvalidStatus) as caught:
        opened(service, {"Host": "evil.example"}).close()
    assert caught.value.response.status_code == 421


def test_pages_of_its_own(service: ServiceProcess) -> None:
    """What comes from the service's own address is answered, and there are never CORS headers."""
    own = ("Origin", service.endpoint.url)
    for headers in ([own, ("Sec-Fetch-Site", "same-origin")], [("Sec-Fetch-Site", "none")], []):
        answer = call(service, headers=[*headers, JSON, key_of(service)], body=VIEWER)
        assert answer.status == 200
        says_nothing(answer, service.home)


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of the test's own."""
    with service_process(tmp_path, "--cpus", "1") as running:
        yield running


def greeted_with_a_wrong_key(service: ServiceProcess, wrong: list[tuple[str, str]]) -> str:
    """Return why a WebSocket with a wrong key is closed, right after so many others that another comes too early."""
    with Line(service) as line:
        for _ in range(3):  # one is forgiven each second, and a busy machine may take one
            line.call("POST", "/graphql", wrong, VIEWER)
    with opened(service) as line:
        payload = {"authorization": basic(service.endpoint.user_id, "wrong")}
        line.send(json.dumps({"type": "connection_init", "payload": payload}))
        with pytest.raises(ConnectionClosed) as caught:
            line.recv(timeout=60)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.reason


def test_too_many_wrong_keys(own_service: ServiceProcess) -> None:
    """After many wrong keys for one user the next gets 429 and a time to wait; the right key is always accepted."""
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
    wait_until(
        lambda: greeted_with_a_wrong_key(service, wrong).startswith("TOO_MANY_REQUESTS"), "the same over a socket"
    )
    with opened(service, dict([key_of(service)])) as line:
        line.send(json.dumps({"type": "connection_init"}))
        assert json.loads(line.recv(timeout=60)) == {"type": "connection_ack"}


def test_many_users_from_one_address(own_service: ServiceProcess) -> None:
    """Trying one key for each of many users is limited by address."""
    with Line(own_service) as line:
        statuses = [
            line.call("POST", "/graphql", [("Authorization", basic(f"user-{number}", "wrong")), JSON], VIEWER).status
            for number in range(3 * FailedLogins.FOR_ADDRESS)
        ]
    assert statuses[: FailedLogins.FOR_ADDRESS] == [401] * FailedLogins.FOR_ADDRESS
    assert 429 in statuses


class Clock:
    """A clock that moves only when it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_failures_are_forgiven_with_time() -> None:
    """Each second one more failure is allowed, up to the initial number, for each address and each user separately."""
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
    """However many addresses and users are tried, only a limited number is kept, the latest of them."""
    monkeypatch.setattr("grid.service.http.guards._MAX_BUCKETS", 50)
    logins = FailedLogins(Clock())
    for number in range(1_000):
        logins.note("address", f"user-{number}")
        assert len(logins) <= 50
    assert logins.note("address", "user-999") > 0  # the address has failed throughout
