"""The transport against small real servers: requests, retries, time-outs, connections, cassettes."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import vcr

from grid import errors
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
from tests.support.raw_service import GOOD, KEY, Query, Server, ask, fault, hang, refusal, reply

if TYPE_CHECKING:
    from pathlib import Path


def test_request_carries_query_and_credentials(server: Server) -> None:
    """A request has the text, name and variables of the query, and the headers that the service expects."""
    server.answers = [GOOD]
    answer, transport = ask(server.url, {"name": "é"})
    (heard,) = server.heard
    assert answer == {"run": 1}
    assert transport.requests_sent == 1
    assert (heard.method, heard.path) == ("POST", "/graphql")
    assert json.loads(heard.body) == {"query": Query.text, "operationName": "getRun", "variables": {"name": "é"}}
    assert heard.headers["authorization"] == "Basic " + base64.b64encode(f"ada:{KEY}".encode()).decode()
    assert heard.headers["accept"] == "application/graphql-response+json, application/json;q=0.9"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["user-agent"].startswith("grid/")


def test_what_is_sent_and_received_is_in_no_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A program that logs everything logs no values: there may be secrets among a run's variables."""
    server.answers = [reply({"data": {"token": "swordfish"}})]
    with caplog.at_level("DEBUG"):
        answer, _ = ask(server.url, {"environment": {"HF_TOKEN": "mellon"}})
    assert answer == {"token": "swordfish"}
    assert "mellon" in server.heard[0].body.decode()
    assert not [word for word in ("mellon", "swordfish", KEY) if word in caplog.text]


def test_connection_is_kept_and_cookies_are_not(server: Server) -> None:
    """Several requests share a connection, and no cookie ever comes back to the service."""
    server.answers = [reply({"data": {}}, more="Set-Cookie: crumb=1\r\n")]
    ask(server.url, times=3)
    assert [heard.connection for heard in server.heard] == [1, 1, 1]
    assert not any("cookie" in heard.headers for heard in server.heard)


def test_many_tasks_share_one_session(server: Server) -> None:
    """Requests of many tasks at once each get their own answer, over one session that is closed at the end."""
    server.answers = [lambda heard: reply({"data": json.loads(heard.body)["variables"]})(heard)]

    async def main() -> None:
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy())
        answers = await asyncio.gather(*(transport.execute(Query(), {"n": n}) for n in range(20)))
        line = transport._line
        session = line.http.session
        await transport.close()
        assert answers == [{"n": n} for n in range(20)]
        assert session.closed

    asyncio.run(main())


def test_nobody_listens(unused_url: str) -> None:
    """A refused connection is tried as often as the policy says, and the error says so."""
    error, transport = ask(unused_url, tries=3)
    assert type(error) is errors.ConnectionFailed
    assert isinstance(error, ConnectionError)
    assert transport.requests_sent == 3
    assert f"getRun at {unused_url}" in str(error)
    assert "3 tries over" in str(error)


CUT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"


@pytest.mark.parametrize(
    "first",
    [
        lambda _: None,
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n",
        lambda _: CUT,
        reply("busy", 429),
        reply("<html>", 502, "text/html"),
        reply("", 503),
        reply("slow", 504),
        fault("UNAVAILABLE"),
        fault("INTERNAL", status=503),
        hang,
    ],
)
def test_what_passes_is_tried_again(server: Server, first: Any) -> None:
    """A line that was cut, a busy service, and silence are tried again, and the caller sees only the answer."""
    server.answers = [first, first, GOOD]
    patience = {"read_timeout": 0.2, "deadline": 60} if first is hang else {}
    answer, transport = ask(server.url, **patience)
    assert answer == {"run": 1}
    assert transport.requests_sent == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda _: None, errors.ConnectionFailed),
        (lambda _: CUT, errors.ConnectionFailed),
        (reply("", 503), errors.ConnectionFailed),
        (fault(None, "later", 503), errors.ConnectionFailed),
        (fault("LIMIT_EXCEEDED", "slower", 429), errors.LimitExceeded),
    ],
)
def test_what_does_not_pass(server: Server, answer: Any, kind: type[errors.GridError]) -> None:
    """A fault that persists is an error after the last try."""
    server.answers = [answer]
    error, transport = ask(server.url, tries=2)
    assert type(error) is kind
    assert transport.requests_sent == 2
    assert "2 tries" in str(error)


def test_silence_is_a_timeout(server: Server) -> None:
    """No answer in time is a time-out, a `TimeoutError`, and says how to wait longer."""
    server.answers = [hang]
    error = refusal(server.url, tries=1, read_timeout=0.1)
    assert type(error) is errors.RequestTimeout
    assert isinstance(error, TimeoutError)
    assert "no answer within 0.1 s" in str(error)
    assert "GRID_HTTP_TIMEOUT" in str(error)


def test_silence_within_the_body_is_a_timeout(server: Server) -> None:
    """An answer that begins and does not go on is a time-out, not invalid JSON."""
    server.answers = [lambda _: CUT.replace(b"Connection: close\r\n", b"")]
    assert type(refusal(server.url, tries=1, read_timeout=0.1)) is errors.RequestTimeout


def test_deadline_ends_the_tries(server: Server) -> None:
    """The deadline ends the tries before their number does."""
    server.answers = [hang]
    error, transport = ask(server.url, tries=1000, read_timeout=0.1)
    assert type(error) is errors.RequestTimeout
    assert transport.requests_sent < 10


def test_timeout_of_one_call(server: Server) -> None:
    """One call can have a time-out and a policy of its own."""
    server.answers = [hang]

    async def main() -> None:
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy())
        with pytest.raises(errors.RequestTimeout, match=r"within 0\.1 s"):
            await transport.execute(Query(), {}, policy=RetryPolicy(tries=1, read_timeout=0.1))
        await transport.close()

    asyncio.run(main())


def test_stale_connection_is_replaced(server: Server) -> None:
    """A kept connection that the service closes instead of answering is replaced, and the request sent again."""
    server.answers = [GOOD, lambda _: None, GOOD]
    answer, _ = ask(server.url, times=2)
    assert answer == {"run": 1}
    assert [heard.connection for heard in server.heard] == [1, 1, 2]


def test_closed_transport_connects_again(server: Server) -> None:
    """A transport that was closed opens a new connection for the next request."""
    server.answers = [GOOD]

    async def main() -> None:
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy())
        for _ in range(2):
            await transport.execute(Query(), {})
            await transport.close()

    asyncio.run(main())
    assert [heard.connection for heard in server.heard] == [1, 2]


def test_proxy_is_used_for_others_only(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A proxy of the environment carries requests to other hosts, with its credentials, and never those to this one."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".netrc").write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("http_proxy", server.url.replace("://", "://u:p@"))
    server.answers = [GOOD]
    assert ask("http://grid.invalid")[0] == {"run": 1}
    assert server.heard[0].path == "http://grid.invalid/graphql"
    assert server.heard[0].headers["proxy-authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert ask(server.url.replace("127.0.0.1", "localhost"))[0] == {"run": 1}
    assert server.heard[1].path == "/graphql"


def test_cassette_replays_and_notices_a_change(tmp_path: Path) -> None:
    """Traffic that vcrpy recorded replays without a service, and a changed variable is refused."""
    recorder = vcr.VCR(match_on=["method", "uri", "body"], filter_headers=["authorization"])
    cassette = str(tmp_path / "cassette.yaml")
    with Server([GOOD]) as server, recorder.use_cassette(cassette, record_mode="once"):
        assert ask(server.url, {"n": 1})[0] == {"run": 1}
    with recorder.use_cassette(cassette, record_mode="none"):
        assert ask(server.url, {"n": 1}, tries=1)[0] == {"run": 1}
        error, transport = ask(server.url, {"n": 2})
    assert type(error) is errors.ConnectionFailed
    assert transport.requests_sent == 1
