"""The transport against small real servers: answers, errors, time-outs, retries, uploads, subscriptions, cassettes."""

from __future__ import annotations

import asyncio
import base64
import gc
import inspect
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import vcr
from aiohttp import WSMsgType, web
from gql.transport import exceptions as gql_errors

from grid import errors
from grid.endpoint import Endpoint, RetryPolicy
from grid.transport import _CODES, _FAULTS, Transport
from grid.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

KEY = "a-secret-key"
QUICK = {"first_wait": 0.001, "max_wait": 0.002}


@dataclass(frozen=True)
class Query:
    """An operation as the registry gives it."""

    name: str = "getRun"
    text: str = "query getRun { run }"


@dataclass
class Heard:
    """A request as it reached the server."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A raw HTTP server on a thread.

    `answers` are functions of a request, the last one repeated. Bytes are written as they are; `None` cuts the line.
    """

    answers: list[Callable[[Heard], Any]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    url: str = ""
    connections: int = 0

    def __enter__(self) -> Server:
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.listen(started)))
        self.thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()

    async def listen(self, started: threading.Event) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self.over.wait()
        server.close()  # what still hangs is cancelled by the end of `asyncio.run`

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                pairs = [line.partition(": ") for line in head[1:] if line]
                headers = {name.lower(): value for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                heard = Heard(connection, method, path, headers, body)
                self.heard.append(heard)
                answer = self.answers[min(len(self.heard), len(self.answers)) - 1](heard)
                answer = await answer if inspect.isawaitable(answer) else answer
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer:
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            writer.close()


def reply(body: bytes | str | object, status: int = 200, content_type: str = "application/json", more: str = "") -> Any:
    """Return an answer for `Server.answers`."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    body = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return lambda _: head.encode() + body


def fault(code: str | None, message: str = "it is wrong", status: int = 200) -> Any:
    """Return an answer that is a GraphQL error."""
    extensions = {} if code is None else {"extensions": {"code": code}}
    return reply({"data": None, "errors": [{"message": message, **extensions}]}, status)


async def hang(_: Heard) -> None:
    """Never answer."""
    await asyncio.Event().wait()


GOOD = reply({"data": {"run": 1}})


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose answers the test sets."""
    with Server() as running:
        yield running


def ask(url: str, variables: dict[str, Any] | None = None, *, times: int = 1, **policy: Any) -> tuple[Any, Transport]:
    """Execute a query on a loop of its own; return the last answer, or the error, and the transport."""

    async def main() -> tuple[Any, Transport]:
        transport = Transport(Endpoint(url, "ada", KEY), RetryPolicy(**{**QUICK, **policy}))
        answer: Any = None
        try:
            for _ in range(times):
                answer = await transport.execute(Query(), variables or {})
        except errors.GridError as error:
            answer = error
        finally:
            await transport.close()
        return answer, transport

    return asyncio.run(main())


def refusal(url: str, **policy: Any) -> errors.GridError:
    """Return the error of a query, which shows no secret."""
    error, _ = ask(url, **policy)
    assert isinstance(error, errors.GridError)
    assert KEY not in str(error)
    assert base64.b64encode(f"ada:{KEY}".encode()).decode() not in str(error)
    return error


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


@pytest.mark.parametrize("given", ["", "/", "/graphql", "/graphql/"])
def test_endpoint_addresses(given: str) -> None:
    """The address may be given with or without the path of GraphQL."""
    endpoint = Endpoint("https://example.com/grid" + given, "ada", KEY)
    assert endpoint.url == "https://example.com/grid"
    assert endpoint.graphql_url == "https://example.com/grid/graphql"
    assert KEY not in repr(endpoint)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("127.0.0.1:8000", "https://"),
        ("ftp://example.com", "https://"),
        ("http://", "https://"),
        ("http://[::1", "https://"),
        ("http://example.com:99999", "https://"),
        ("http://example.com?a=1", "https://"),
        ("http://ada:hidden@example.com", "credentials"),
    ],
)
def test_wrong_address_is_refused(url: str, says: str) -> None:
    """An address that is none, or that holds credentials, is refused, and the credentials are not repeated."""
    with pytest.raises(errors.InvalidArgument, match=says) as raised:
        Endpoint(url, "ada", KEY)
    assert "hidden" not in str(raised.value)


def test_user_id_with_colon_is_refused() -> None:
    """A user id with a colon would change where the key begins."""
    with pytest.raises(errors.InvalidArgument, match="colon"):
        Endpoint("http://example.com", "a:b", KEY)


def test_policy_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`GRID_HTTP_TIMEOUT` sets the read time-out, and without it the defaults hold."""
    monkeypatch.delenv("GRID_HTTP_TIMEOUT", raising=False)
    assert RetryPolicy.from_environment() == RetryPolicy(tries=4, connect_timeout=10, read_timeout=30)
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", "2.5")
    assert RetryPolicy.from_environment() == RetryPolicy(read_timeout=2.5)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", "1e999"])
def test_policy_from_wrong_environment(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A time-out that is no positive number is refused with its name and value."""
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", text)
    with pytest.raises(errors.InvalidArgument, match=f"GRID_HTTP_TIMEOUT is '{text}'"):
        RetryPolicy.from_environment()


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"connect_timeout": 0}, {"deadline": -1}, {"first_wait": -1}])
def test_wrong_policy_is_refused(wrong: dict[str, Any]) -> None:
    """A policy that would never try, or never wait, is refused."""
    with pytest.raises(errors.InvalidArgument, match="not allowed"):
        RetryPolicy(**wrong)


EXPECTED = {
    "UNAUTHENTICATED": errors.AuthenticationFailed,
    "FORBIDDEN": errors.PermissionDenied,
    "BAD_REQUEST": errors.ServiceError,
    "GRAPHQL_PARSE_FAILED": errors.ServiceTooOld,
    "GRAPHQL_VALIDATION_FAILED": errors.ServiceTooOld,
    "LIMIT_EXCEEDED": errors.LimitExceeded,
    "INVALID_ARGUMENT": errors.InvalidArgument,
    "INVALID_SWEEP": errors.SweepError,
    "UNSUPPORTED": errors.Unsupported,
    "RUN_NOT_FOUND": errors.RunNotFound,
    "EXPERIMENT_NOT_FOUND": errors.ExperimentNotFound,
    "CLUSTER_NOT_FOUND": errors.ClusterNotFound,
    "NAME_TAKEN": errors.NameTaken,
    "INVALID_SNAPSHOT": errors.SourceError,
    "UNAVAILABLE": errors.ConnectionFailed,
    "INTERNAL": errors.ServiceError,
}


def test_every_code_and_every_exception_is_mapped() -> None:
    """There is no error code, and no exception of gql, that the tables forget."""
    raised = {kind for _, kind in inspect.getmembers(gql_errors, inspect.isclass) if issubclass(kind, Exception)}
    assert set(_CODES) == set(ErrorCode)
    assert {code.value for code in ErrorCode} == set(EXPECTED)
    assert set(_FAULTS) == raised
    assert all(issubclass(kind, errors.GridError) for kind in _FAULTS.values())


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("code", [*EXPECTED, "SOMETHING_NEW", None])
def test_code_decides_the_class(server: Server, code: str | None, status: int) -> None:
    """The code decides the class, whatever the HTTP status; the message is the service's; nothing is tried again."""
    server.answers = [fault(code, "no [1, 2 here", status)]
    error, transport = ask(server.url)
    assert type(error) is EXPECTED.get(code or "", errors.ServiceError)
    assert "no [1, 2 here" in str(error)
    assert transport.requests_sent == (4 if code == "UNAVAILABLE" else 1)


def test_wrong_key_names_user_and_service(server: Server) -> None:
    """A key that is not accepted is an error that names the user id and the address."""
    server.answers = [fault("UNAUTHENTICATED", f"no {KEY}")]
    error = refusal(server.url)
    assert server.url in str(error)
    assert "'ada'" in str(error)


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_without_graphql(server: Server, status: int) -> None:
    """A bare 401 or 403, as proxies send it, is a refused key as well."""
    server.answers = [reply("<h1>Go away</h1>", status, "text/html")]
    error = refusal(server.url)
    assert type(error) is errors.AuthenticationFailed
    assert str(status) in str(error)


def test_unknown_query_is_quoted(server: Server) -> None:
    """A service that does not know the query is called too old, with its own words."""
    server.answers = [fault("GRAPHQL_VALIDATION_FAILED", "Cannot query field 'run'.", 400)]
    assert "the service does not know this query: Cannot query field 'run'" in str(refusal(server.url))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<html>Welcome</html>", "text/html"),
        ("", "application/json"),
        ("{", "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        ("null", "application/json"),
        ("1", "application/json"),
        ('"data"', "application/json"),
        ('["data"]', "application/json"),
        ("{}", "application/json"),
        ('{"data": null}', "application/json"),
        ('{"data": []}', "application/json"),
        ('{"data": "x"}', "application/json"),
        ('{"data": null, "errors": []}', "application/json"),
        ('{"data": {}, "errors": "x"}', "application/json"),
        ('{"data": {}, "errors": ["x"]}', "application/json"),
        ('{"data": {}, "errors": [{"message": 1}]}', "application/json"),
    ],
)
@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_answer_that_is_not_graphql(server: Server, body: str | bytes, content_type: str, status: int) -> None:
    """What is no GraphQL is refused at once, with its status, type and beginning, and the hint to check the URL."""
    server.answers = [reply(body, status, content_type)]
    error, transport = ask(server.url)
    assert type(error) is errors.InvalidResponse
    assert transport.requests_sent == 1
    assert f"HTTP {status}, {content_type}" in str(error)
    assert "Check the URL" in str(error)
    assert content_type != "text/html" or "<html>Welcome</html>" in str(error)


def test_body_is_quoted_safely(server: Server) -> None:
    """A body is quoted without control characters, without secrets, and not for long."""
    server.answers = [reply(f"\x1b[31m{KEY} http://u:p@host\n" + "x" * 500, content_type="text/plain")]
    message = str(refusal(server.url))
    assert "\x1b" not in message
    assert "u:p" not in message
    assert "x" * 100 in message
    assert "x" * 200 not in message


def test_redirect_is_not_followed(server: Server) -> None:
    """A redirect gets neither the query nor the key: the error says where it led."""
    server.answers = [reply("", 307, more="Location: /elsewhere?token=1\r\n"), GOOD]
    message = str(refusal(server.url))
    assert "redirecting to /elsewhere" in message
    assert "token" not in message
    assert len(server.heard) == 1


def test_not_http(server: Server) -> None:
    """Something that does not even speak HTTP is an invalid response."""
    server.answers = [lambda _: b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]
    error = refusal(server.url)
    assert type(error) is errors.InvalidResponse
    assert "does not speak HTTP" in str(error)


def test_nobody_listens(unused_url: str) -> None:
    """A refused connection is tried as often as the policy says, and the error says so."""
    error, transport = ask(unused_url, tries=3)
    assert type(error) is errors.ConnectionFailed
    assert isinstance(error, ConnectionError)
    assert transport.requests_sent == 3
    assert f"getRun at {unused_url}" in str(error)
    assert "3 tries over" in str(error)


@pytest.fixture
def unused_url() -> str:
    """Return an address where nobody listens."""
    with Server() as gone:
        return gone.url


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
    """What stays wrong is an error after the last try."""
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
    """An answer that begins and does not go on is a time-out, not a body that is no JSON."""
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
            await transport.execute(Query(), {}, timeout=0.1, policy=RetryPolicy(tries=1))
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


@pytest.mark.parametrize("size", [0, 1000, 3 << 20])
def test_upload(server: Server, tmp_path: Path, size: int) -> None:
    """A file arrives as it is, small or large, at the path below the service's address, also when a try fails."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    server.answers = [reply("", 503), reply("", 201)]

    async def main() -> Transport:
        transport = Transport(Endpoint(server.url + "/graphql", "ada", KEY), RetryPolicy(**QUICK))
        await transport.upload("/snapshots/ab?signature=c%2Bd", archive, size)
        await transport.close()
        return transport

    assert asyncio.run(main()).requests_sent == 2
    for heard in server.heard:
        assert (heard.method, heard.path) == ("PUT", "/snapshots/ab?signature=c%2Bd")
        assert heard.body == archive.read_bytes()
        assert heard.headers["content-type"] == "application/x-tar"
        assert heard.headers["content-length"] == str(size)
        assert "transfer-encoding" not in heard.headers
        assert "authorization" in heard.headers


def upload(server: Server, archive: Path, size: int, address: str = "/snapshots/ab") -> None:
    """Upload a file in one try."""

    async def main() -> None:
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy(tries=1, read_timeout=5))
        try:
            await transport.upload(address, archive, size)
        finally:
            await transport.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (fault("INVALID_SNAPSHOT", "bad tar", 422), errors.SourceError, "bad tar"),
        (fault("LIMIT_EXCEEDED", "too big", 413), errors.LimitExceeded, "too big"),
        (reply("Not found", 404, "text/plain"), errors.InvalidResponse, "Not found"),
        (reply("", 403), errors.AuthenticationFailed, "'ada'"),
        (reply("{}", 500), errors.InvalidResponse, "HTTP 500"),
        (lambda _: None, errors.ConnectionFailed, "the upload"),
    ],
)
def test_refused_upload(server: Server, tmp_path: Path, answer: Any, kind: type[errors.GridError], says: str) -> None:
    """What the service says of an upload is mapped as it is for a query."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(b"tar")
    server.answers = [answer]
    with pytest.raises(kind, match=says) as raised:
        upload(server, archive, 3)
    assert type(raised.value) is kind


def test_upload_of_another_size(server: Server, tmp_path: Path) -> None:
    """A file that does not have the announced size is not sent."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(b"tar")
    with pytest.raises(errors.SourceError, match="3 bytes, and 4"):
        upload(server, archive, 4)
    assert server.heard == []


def test_upload_elsewhere_has_no_key(server: Server, tmp_path: Path) -> None:
    """A whole URL on another host gets the file and not the key."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(b"tar")
    with Server([reply("")]) as other:
        upload(server, archive, 3, other.url + "/bucket")
    assert server.heard == []
    assert other.heard[0].body == b"tar"
    assert "authorization" not in other.heard[0].headers


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


async def protocol(socket: web.WebSocketResponse, heard: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Play the service's part of graphql-transport-ws, and yield the id of each subscription."""
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            heard.append(message.json())
            if heard[-1]["type"] == "connection_init":
                await socket.send_json({"type": "connection_ack"})
            elif heard[-1]["type"] == "subscribe":
                yield heard[-1]["id"]


def watch(play: Any, stop_after: int | None = None, prepare: Any = None) -> tuple[list[Any], Any, list[dict[str, Any]]]:
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
        policy = RetryPolicy(connect_timeout=5, read_timeout=0.2 if prepare is silent else 5)
        transport = Transport(Endpoint(f"http://127.0.0.1:{port}", "ada", KEY), policy)
        error = None
        source = transport.subscribe(Query("runStatusChanged"), {"name": "x"})
        try:
            async for result in source:
                results.append(result)
                if len(results) == stop_after:
                    break
            await source.aclose()
            await asyncio.wait_for(done.wait(), 5)
        except errors.GridError as caught:
            error = caught
        assert transport.requests_sent == 1
        await transport.close()
        await runner.cleanup()
        return error

    return results, asyncio.run(main()), heard


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
    """What goes wrong with the upgrade is mapped as it is for a query, and leaves nothing open."""
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
