"""What a failed request means: error codes, answers that are not GraphQL, refusals; each from a real server."""

from __future__ import annotations

import inspect

import pytest
from gql.transport import exceptions as gql_errors

from grid import errors
from grid.chain.failures import CODES
from grid.chain.transport import _FAULTS
from grid.shared.wire import ErrorCode
from tests.support.raw_service import GOOD, KEY, Server, ask, fault, refusal, reply

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
    "ARTIFACT_NOT_FOUND": errors.ArtifactNotFound,
    "CLUSTER_NOT_FOUND": errors.ClusterNotFound,
    "NAME_TAKEN": errors.NameTaken,
    "NOT_ENDED": errors.NotEnded,
    "INVALID_SNAPSHOT": errors.SourceError,
    "TOO_MANY_REQUESTS": errors.TooManyRequests,
    "UNAVAILABLE": errors.ConnectionFailed,
    "INTERNAL": errors.ServiceError,
}


def test_every_code_and_every_exception_is_mapped() -> None:
    """The tables have every error code, and every exception of gql."""
    raised = {kind for _, kind in inspect.getmembers(gql_errors, inspect.isclass) if issubclass(kind, Exception)}
    assert set(CODES) == set(ErrorCode)
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
    assert transport.requests_sent == (6 if code == "UNAVAILABLE" else 1)


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
    """A service that does not know the query is reported as too old, with its own message."""
    server.answers = [fault("GRAPHQL_VALIDATION_FAILED", "Cannot query field 'run'.", 400)]
    assert "the service does not know this query: Cannot query field 'run'" in str(refusal(server.url))


def test_many_wrong_keys_are_not_answered_with_more(server: Server) -> None:
    """A client that is told to wait because of wrong keys does not send the key again at once."""
    server.answers = [fault("TOO_MANY_REQUESTS", "wait 60 s", 429)]
    error, transport = ask(server.url)
    assert type(error) is errors.TooManyRequests
    assert transport.requests_sent == 1


BROKEN = ["", "{", '{"data": {"run":', b"\xff\xfe\x00"]


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("status", [200, 201])
def test_answer_that_is_broken(server: Server, body: str | bytes, status: int) -> None:
    """An answer that claims to be JSON, but is not, is requested again; if that does not help, the error quotes it."""
    server.answers = [reply(body, status), reply(body, status), GOOD]
    answer, transport = ask(server.url)
    assert (answer, transport.requests_sent) == ({"run": 1}, 3)

    server.answers = [reply(body, status)]
    error, transport = ask(server.url, tries=3)
    assert type(error) is errors.InvalidResponse
    assert transport.requests_sent == 3
    assert f"the answer is broken: HTTP {status}, application/json" in str(error)
    assert "3 tries over" in str(error)


@pytest.mark.parametrize("status", [302, 404, 500])
@pytest.mark.parametrize("body", BROKEN)
def test_broken_answer_of_a_failure(server: Server, body: str | bytes, status: int) -> None:
    """If the status says that it is a failure anyway, nothing is tried again."""
    server.answers = [reply(body, status)]
    error, transport = ask(server.url)
    assert type(error) is errors.InvalidResponse
    assert transport.requests_sent == 1


def test_page_after_an_answer_passes(server: Server) -> None:
    """Once a service has answered, another program's page comes from something in between, and is retried."""
    server.answers = [GOOD, reply("<html>", 200, "text/html"), reply("<html>", 404, "text/html"), GOOD]
    answer, transport = ask(server.url, times=2)
    assert (answer, transport.requests_sent) == ({"run": 1}, 4)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<html>Welcome</html>", "text/html"),
        ("{", "text/plain"),
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
    """What is not GraphQL is refused at once, with its status, type and beginning, and the hint to check the URL."""
    server.answers = [reply(body, status, content_type)]
    error, transport = ask(server.url)
    assert type(error) is errors.InvalidResponse
    assert transport.requests_sent == 1
    assert f"HTTP {status}, {content_type}" in str(error)
    assert "Check the URL" in str(error)
    assert content_type != "text/html" or "<html>Welcome</html>" in str(error)


def test_body_is_quoted_safely(server: Server) -> None:
    """A body is quoted without control characters, without secrets, and not at length."""
    server.answers = [reply(f"\x1b[31m{KEY} http://u:p@host\n" + "x" * 500, content_type="text/plain")]
    message = str(refusal(server.url))
    assert "\x1b" not in message
    assert "u:p" not in message
    assert "x" * 100 in message
    assert "x" * 200 not in message


def test_redirect_is_not_followed(server: Server) -> None:
    """Neither the query nor the key is sent to a redirect's target: the error says where it led."""
    server.answers = [reply("", 307, more="Location: /elsewhere?token=1\r\n"), GOOD]
    message = str(refusal(server.url))
    assert "redirecting to /elsewhere" in message
    assert "token" not in message
    assert len(server.heard) == 1


def test_not_http(server: Server) -> None:
    """Something that does not even speak HTTP is an invalid response, even after retries."""
    server.answers = [lambda _: b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]
    error = refusal(server.url)
    assert type(error) is errors.InvalidResponse
    assert "does not speak HTTP" in str(error)
