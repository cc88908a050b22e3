"""GraphQL over HTTP: a real uvicorn on a free port, spoken to with aiohttp."""

from __future__ import annotations

import http.client
import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.toy_service import GOOD, GRAPHQL, JSON, ask, toy_service

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the address of the toy service."""
    with toy_service() as url:
        yield url


def test_query_and_mutation(url: str) -> None:
    """Queries and mutations are executed, with their variables and the caller's context."""
    answer = ask(url, "query Q($n: String!) { hello(name: $n) who }", variables={"n": "Zoë"})
    assert (answer.status, answer.body) == (200, {"data": {"hello": "hello Zoë", "who": "good"}})
    before = ask(url, "mutation { add(by: 0) }").body["data"]["add"]
    assert ask(url, "mutation M($by: Int!) { add(by: $by) }", variables={"by": 3}).body == {"data": {"add": before + 3}}


def test_get_executes_queries_alone(url: str) -> None:
    """A query may come by GET; a mutation may not, and changes nothing."""
    params = {"query": "query Q($n: String!) { hello(name: $n) }", "variables": '{"n": "me"}', "operationName": "Q"}
    assert ask(url, method="GET", params=params).body == {"data": {"hello": "hello me"}}
    before = ask(url, "mutation { add(by: 0) }").body
    answer = ask(url, method="GET", params={"query": "mutation { add(by: 1) }"})
    assert (answer.status, answer.codes, answer.headers["Allow"]) == (405, ["BAD_REQUEST"], "POST")
    both = "query A { who } mutation B { add(by: 1) }"
    assert ask(url, method="GET", params={"query": both, "operationName": "B"}).status == 405
    assert ask(url, method="GET", params={"query": both, "operationName": "A"}).body == {"data": {"who": "good"}}
    assert ask(url, "mutation { add(by: 0) }").body == before


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (GRAPHQL, GRAPHQL),
        (f"{GRAPHQL}, {JSON}", GRAPHQL),
        (f"{JSON}, {GRAPHQL}", GRAPHQL),
        (f"{JSON}, {GRAPHQL};q=0.5", JSON),
        (f"{JSON};q=0, {GRAPHQL.upper()}; charset=utf-8", GRAPHQL),
        ("text/html, */*;q=0.1", JSON),
    ],
)
def test_media_type_of_the_answer(url: str, accept: str | None, expected: str) -> None:
    """The client chooses the media type; a failed validation is a status 400 only in the newer one."""
    answer = ask(url, "{ who }", accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (200, f"{expected}; charset=utf-8")
    refused = ask(url, "{ unknown }", accept=accept)
    assert (refused.status, refused.codes) == (400 if expected == GRAPHQL else 200, ["GRAPHQL_VALIDATION_FAILED"])


@pytest.mark.parametrize(
    ("status", "code", "options"),
    [
        (400, "BAD_REQUEST", {"data": b"{", "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"data": b"", "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"data": b"[" * 100_000, "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"data": b'{"query": "\xff"}', "headers": {"Content-Type": JSON}}),
        (400, "BAD_REQUEST", {"json": [{"query": "{ who }"}]}),
        (400, "BAD_REQUEST", {"json": "{ who }"}),
        (400, "BAD_REQUEST", {"json": {"query": ""}}),
        (400, "BAD_REQUEST", {"json": {"query": 1}}),
        (400, "BAD_REQUEST", {"json": {"query": "{ who }", "variables": "x"}}),
        (400, "BAD_REQUEST", {"json": {"query": "{ who }", "extensions": 1}}),
        (400, "BAD_REQUEST", {"json": {"query": "{ who }", "operationName": 1}}),
        (400, "BAD_REQUEST", {"json": {"query": "query A { who } query B { who }"}}),
        (400, "BAD_REQUEST", {"json": {"query": "query A { who }", "operationName": "B"}}),
        (400, "BAD_REQUEST", {"json": {"query": "subscription { count(to: 1) }"}}),
        (415, "BAD_REQUEST", {"data": b"query=x", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
        (415, "BAD_REQUEST", {"data": b"{}", "headers": {"Content-Type": f"{JSON}; charset=latin-1"}}),
        (415, "BAD_REQUEST", {"data": aiohttp.FormData({"operations": "{}"}, default_to_multipart=True)}),
        (405, "BAD_REQUEST", {"method": "PUT", "json": {"query": "{ who }"}}),
        (405, "BAD_REQUEST", {"method": "DELETE"}),
        (406, "BAD_REQUEST", {"accept": "text/html", "json": {"query": "{ who }"}}),
        (400, "BAD_REQUEST", {"method": "GET"}),
        (400, "BAD_REQUEST", {"method": "GET", "params": {"query": "{ who }", "variables": "{"}}),
        (400, "GRAPHQL_PARSE_FAILED", {"json": {"query": "{ who"}}),
        (400, "GRAPHQL_VALIDATION_FAILED", {"json": {"query": "{ who { id } }"}}),
        (400, "GRAPHQL_VALIDATION_FAILED", {"json": {"query": "query($n: String!) { hello(name: $n) }"}}),
        (
            400,
            "GRAPHQL_VALIDATION_FAILED",
            {"json": {"query": "query($n: String!) { hello(name: $n) }", "variables": {"n": {"a": 1}}}},
        ),
        (
            200,
            "GRAPHQL_VALIDATION_FAILED",
            {"json": {"query": 'query($n: String = "a") { hello(name: $n) }', "variables": {"n": None}}},
        ),
        (400, "LIMIT_EXCEEDED", {"json": {"query": "{" * 100_000 + "}" * 100_000}}),
    ],
)
def test_what_is_wrong_has_a_code(url: str, status: int, code: str, options: dict[str, Any]) -> None:
    """Every refusal is JSON in the shape of GraphQL errors, with a code and a fitting status."""
    answer = ask(url, **options)
    assert (answer.status, answer.codes) == (status, [code])
    assert answer.body["errors"][0]["message"]


@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
def test_who_may_not_ask_is_told_how(url: str, accept: str) -> None:
    """A request without a valid key gets a challenge, whatever it asks, in the media type that it asks for."""
    for text in ("{ who }", "{ who", "mutation { add(by: 1) }"):
        answer = ask(url, text, accept=accept, headers={"Authorization": "Basic bad"})
        assert (answer.status, answer.codes) == (401, ["UNAUTHENTICATED"])
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="grid"'
        assert answer.headers["Content-Type"] == f"{accept}; charset=utf-8"
        assert "data" not in answer.body


def test_other_refusals_of_the_context(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """An outage is a 503, a missing right a 403, a fault a 500 without details."""
    assert ask(url, "{ who }", headers={"Authorization": "Basic busy"}).status == 503
    assert ask(url, "{ who }", headers={"Authorization": "Basic once"}).codes == ["FORBIDDEN"]
    answer = ask(url, "{ who }", headers={"Authorization": "Basic crash"})
    assert (answer.status, answer.codes) == (500, ["INTERNAL"])
    assert "secret" not in json.dumps(answer.body)
    assert "/etc/secret" in caplog.text


@pytest.mark.parametrize("field", ["crash", "broken"])
def test_faults_stay_in_the_log(url: str, field: str, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error of a resolver reaches the log with its traceback, and the client as a reference to it."""
    answer = ask(url, f"{{ who {field} }}")
    assert (answer.status, answer.codes) == (200, ["INTERNAL"])
    assert answer.body["data"] == {"who": "good", field: None}
    (error,) = answer.body["errors"]
    assert error["path"] == [field]
    assert error["message"] == f"internal error, reference {error['extensions']['reference']}"
    assert "secret" not in json.dumps(answer.body)
    (record,) = (record for record in caplog.records if error["extensions"]["reference"] in record.getMessage())
    assert "secret" in str(record.exc_info)


def test_results_that_are_not_json_are_faults(url: str) -> None:
    """A result that cannot be written is a fault of the service."""
    answer = ask(url, "{ awkward }")
    assert (answer.status, answer.codes) == (500, ["INTERNAL"])


def test_resolvers_choose_their_codes(url: str) -> None:
    """An error that a resolver means to be read arrives as it is."""
    answer = ask(url, "{ refuse }")
    (error,) = answer.body["errors"]
    assert error["message"] == "no run is called x"
    assert error["extensions"] == {"code": "RUN_NOT_FOUND", "name": "x"}
    assert error["path"] == ["refuse"]
    assert answer.body["data"] == {"refuse": None}


def test_limits_hold_for_every_request_of_a_kept_document(url: str) -> None:
    """A document that was allowed once is still checked with each new set of variables."""
    text = "query($n: Int!) { items(first: $n) { id } }"
    for _ in range(2):
        assert ask(url, text, variables={"n": 2}).body == {"data": {"items": [{"id": "0"}, {"id": "1"}]}}
        for size, code in ((1001, "LIMIT_EXCEEDED"), (100_000, "LIMIT_EXCEEDED"), (0, "INVALID_ARGUMENT")):
            answer = ask(url, text, variables={"n": size})
            assert (answer.status, answer.codes) == (400, [code])
            assert "first" in answer.body["errors"][0]["message"]
    aliases = " ".join(f"a{index}: items(first: $n) {{ id }}" for index in range(101))
    assert ask(url, f"query($n: Int!) {{ {aliases} }}", variables={"n": 1}).status == 200
    answer = ask(url, f"query($n: Int!) {{ {aliases} }}", variables={"n": 1000})
    assert (answer.codes, answer.body["errors"][0]["extensions"]["cost"]) == (["LIMIT_EXCEEDED"], 101_101)


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_are_refused(url: str, chunked: bool) -> None:
    """A body above 16 MiB gets a coded 413, whether its length is announced or not."""
    part, count = b" " * 65536, 17 * 16
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(part) * count)}
    address = urlsplit(url)
    # A client that sends everything before it reads anything is the hardest to answer.
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    try:
        headers = {**GOOD, "Content-Type": JSON, **length}
        connection.request("POST", address.path, (part for _ in range(count)), headers, encode_chunked=chunked)
        response = connection.getresponse()
        (error,) = json.loads(response.read())["errors"]
    finally:
        connection.close()
    assert (response.status, error["extensions"]["code"]) == (413, "LIMIT_EXCEEDED")


def test_a_body_in_parts_is_put_together(url: str) -> None:
    """A body of several megabytes that comes in parts is read whole."""
    text = json.dumps({"query": "{ who }", "extensions": {"padding": "x" * 3_000_000}}).encode()
    assert ask(url, data=io.BytesIO(text), headers={"Content-Type": JSON}).body == {"data": {"who": "good"}}
