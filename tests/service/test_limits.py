"""Tests of what one request may ask for: the body limit as ASGI messages, everything else as documents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from graphql import (
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    get_introspection_query,
    parse,
    specified_rules,
    validate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.service.api.cost import MAX_COST, CostPlan
from grid.service.api.documents import DocumentRefused, Documents
from grid.service.api.errors import ApiError
from grid.service.api.limits import MAX_TOKENS, check_depth, check_text
from grid.service.http.bodies import limit_body
from grid.shared.wire import ErrorCode

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text(encoding="utf-8"))

TOY = build_schema(
    """
    type Query { things(first: Int = 7): Things!, plain: [Thing!]!, bare(first: Int): [Thing!]!, node: Node }
    type Things { nodes: [Thing!]!, edges: [Edge!]!, page: Page!, total: Int! }
    type Edge { node: Thing! }
    type Page { next: Boolean! }
    interface Node { id: ID! }
    type Thing implements Node { id: ID!, tags: [String!]!, parts: [Thing!]!, things(first: Int!): Things! }
    """
)


def cost(text: str, variables: dict[str, Any] | None = None, schema: GraphQLSchema = TOY) -> int:
    """Work out the cost of a document's only operation, however high."""
    document = parse(text)
    assert validate(schema, document, specified_rules) == []
    (operation,) = (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    return CostPlan(schema, document, operation).check(variables or {}, max_cost=10**60)


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("{ __typename }", {}, 1),
        ("{ a: __typename b: __typename }", {}, 2),
        ("{ plain { id tags } }", {}, 1 + 10 * 2),
        ("{ plain { parts { id } } }", {}, 1 + 10 * (1 + 10)),
        ("{ things { nodes { id } total } }", {}, 1 + 1 + 7 + 1),
        ("{ things(first: 3) { nodes { id } } }", {}, 1 + 1 + 3),
        ("{ things(first: 3) { edges { node { id } } page { next } } }", {}, 1 + 1 + 3 * 2 + 2),
        ("query($n: Int) { things(first: $n) { nodes { id } } }", {"n": 50}, 1 + 1 + 50),
        ("query($n: Int) { things(first: $n) { nodes { id } } }", {"n": 50.0}, 1 + 1 + 50),
        ("query($n: Int) { things(first: $n) { nodes { id } } }", {}, 1 + 1 + 7),
        ("query($n: Int) { things(first: $n) { nodes { id } } }", {"n": None}, 1 + 1 + 10),
        ("query($n: Int = 5) { things(first: $n) { nodes { id } } }", {}, 1 + 1 + 5),
        ("query($n: Int = 5) { things(first: $n) { nodes { id } } }", {"n": 6}, 1 + 1 + 6),
        ("{ bare { id } }", {}, 1 + 10),
        ("{ bare(first: 4) { id } }", {}, 1 + 4),
        ("{ bare(first: null) { id } }", {}, 1 + 10),
        (
            "query($a: Int!, $b: Int!) { things(first: $a) { nodes { things(first: $b) { nodes { id tags } } } } }",
            {"a": 11, "b": 13},
            1 + 1 + 11 * (1 + 1 + 13 * 2),
        ),
        (
            "query($n: Int!) { things(first: 3) { nodes { things(first: $n) { nodes { id } } } } }",
            {"n": 5},
            1 + 1 + 3 * (1 + 1 + 5),
        ),
        ("{ ...Q ...Q } fragment Q on Query { plain { ...T } } fragment T on Thing { id }", {}, 2 * (1 + 10)),
        ("{ a: things(first: 2) { ...C } b: things(first: 9) { ...C } } fragment C on Things { nodes { id } }", {}, 15),
        ("{ node { id ... on Thing { parts { id } } ... { id } } }", {}, 1 + 1 + (1 + 10) + 1),
        ("{ ... @include(if: false) { plain { id } } }", {}, 11),
        ('{ __type(name: "Thing") { fields { name } } }', {}, 1 + 1 + 10),
    ],
)
def test_cost(text: str, variables: dict[str, Any], expected: int) -> None:
    """Each field costs 1, as often as it can stand in the answer."""
    assert cost(text, variables) == expected


@settings(deadline=None)
@given(outer=st.integers(1, 1000), inner=st.integers(1, 1000))
def test_literals_and_variables_cost_the_same(outer: int, inner: int) -> None:
    """It makes no difference to the cost where a page size comes from."""
    body = "{ things(first: %s) { nodes { id parts { id } things(first: %s) { total nodes { id } } } } }"
    literal = cost(body % (outer, inner))
    assert literal == 1 + 1 + outer * (1 + (1 + 10) + (1 + 1 + 1 + inner))
    assert cost("query($a: Int!, $b: Int!) " + body % ("$a", "$b"), {"a": outer, "b": inner}) == literal
    assert cost("query($b: Int!) " + body % (outer, "$b"), {"b": inner}) == literal
    assert cost(f"query($a: Int! = {outer}) " + body % ("$a", inner)) == literal


def test_cost_is_refused_with_both_numbers() -> None:
    """A request that costs too much is told what it costs and what is allowed."""
    document = parse("query($n: Int!) { runs(first: $n) { nodes { experiments(first: 1000) { nodes { id name } } } } }")
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    plan = CostPlan(SCHEMA, document, operation)
    assert plan.check({"n": 10}) == 2 + 10 * (2 + 1000 * 2)
    with pytest.raises(ApiError, match=r"200202.*100000") as caught:
        plan.check({"n": 100})
    assert caught.value.extensions == {"code": "LIMIT_EXCEEDED", "cost": 200202, "limit": MAX_COST}


def test_fragments_that_double_each_other_are_added_up_at_once() -> None:
    """The cost of fragments spread over and over is worked out without walking each spread."""
    chain = " ".join(f"fragment F{i} on Query {{ ...F{i + 1} a: __typename ...F{i + 1} }}" for i in range(60))
    text = "{ ...F0 } " + chain + " fragment F60 on Query { b: __typename }"
    assert cost(text) == 2**60 + 2**60 - 1


@pytest.mark.parametrize("size", [0, -1, 1001, 10**9])
@pytest.mark.parametrize(
    "text",
    [
        "query($n: Int!) { runs(first: $n) { totalCount } }",
        'query($n: Int!) { run(name: "a") { ...R } } fragment R on Run { experiments(first: $n) { nodes { id } } }',
        "{ runs(first: SIZE) { totalCount } }",
        "query($n: Int! = SIZE) { runs(first: $n) { totalCount } }",
    ],
)
def test_page_size_is_refused_wherever_it_comes_from(text: str, size: int) -> None:
    """A page size out of range is refused as literal, variable and default, and named with its range."""
    with pytest.raises(ApiError, match=f"first of (Query.runs|Run.experiments) is {size}: .* from 1 to 1000") as caught:
        cost(text.replace("SIZE", str(size)), {} if "SIZE" in text else {"n": size}, SCHEMA)
    assert caught.value.code is (ErrorCode.INVALID_ARGUMENT if size < 1 else ErrorCode.LIMIT_EXCEEDED)


@pytest.mark.parametrize("size", [1, 1000])
def test_page_sizes_at_the_ends_are_allowed(size: int) -> None:
    """The range includes both its ends."""
    assert cost("query($n: Int!) { runs(first: $n) { nodes { id } } }", {"n": size}, SCHEMA) == 2 + size


def nested(depth: int) -> str:
    """Nest so many fields."""
    return "{ plain " + "{ parts " * (depth - 2) + "{ id }" + " }" * (depth - 1)


def test_depth_counts_fields_through_fragments() -> None:
    """The limit is on fields inside each other, whether a fragment lies between them or not."""
    check_depth(parse(nested(20)))
    with pytest.raises(ApiError, match="21, at most 20"):
        check_depth(parse(nested(21)))
    inline = "{ plain " + "{ ... { parts " * 5 + "{ id }" + " } }" * 5 + " }"
    check_depth(parse(inline), max_depth=7)
    with pytest.raises(ApiError, match="7, at most 6"):
        check_depth(parse(inline), max_depth=6)
    spread = "{ plain { ...A } } fragment A on Thing { parts { ...B } } fragment B on Thing { parts { id } }"
    check_depth(parse(spread), max_depth=4)
    with pytest.raises(ApiError, match="4, at most 3"):
        check_depth(parse(spread), max_depth=3)


def test_introspection_is_within_the_limits() -> None:
    """The introspection queries of graphql-core, the fullest among them, are deep but allowed."""
    documents = Documents(SCHEMA)
    documents.load(get_introspection_query()).operation(None).check_limits({})
    full = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, schema_description=True, input_value_deprecation=True
    )
    documents.load(full).operation(None).check_limits({})


HOSTILE = {
    "braces": "{" * 100_000,
    "fields": "{a" * 33_000,
    "closed": "{a" * 20_000 + "}" * 20_000,
    "list": "{ run(name: " + "[" * 50_000,
    "objects": "{ run(name: " + "{a:" * 30_000,
    "variable type": "query($a: " + "[" * 50_000 + "Int" + "]" * 40_000 + ") { __typename }",
    "inline fragments": "{" + "...{" * 300 + "id" + "}" * 301,
    "fragment chain": "{ ...F0 } "
    + " ".join(f"fragment F{i} on Query {{ ...F{i + 1} }}" for i in range(400))
    + " fragment F400 on Query { __typename }",
    "tokens": "{" + " __typename" * (MAX_TOKENS - 1) + "}",
    "characters": '{ run(name: "' + "a" * 100_000 + '") { id } }',
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_documents_are_refused_with_a_code(kind: str) -> None:
    """A document that is too deep or too large is refused before anything recurses into it."""
    with pytest.raises(DocumentRefused) as caught:
        Documents(SCHEMA).load(HOSTILE[kind])
    assert [error["extensions"]["code"] for error in caught.value.errors] == ["LIMIT_EXCEEDED"]


def test_fragment_cycles_are_left_to_validation() -> None:
    """Fragments that spread each other in a circle neither hang nor pass."""
    with pytest.raises(DocumentRefused) as caught:
        Documents(TOY).load("{ ...A } fragment A on Query { ...B } fragment B on Query { node { id } ...A }")
    assert {error["extensions"]["code"] for error in caught.value.errors} == {"GRAPHQL_VALIDATION_FAILED"}


@settings(deadline=None)
@given(st.text(alphabet='{}[]()"\\#.,\n\ufeff a1$:!@|', max_size=200))
def test_any_text_is_answered(text: str) -> None:
    """Whatever is sent as a document, it is parsed or refused with a code."""
    try:
        Documents(TOY).load(text)
    except DocumentRefused as refused:
        assert refused.errors
        for error in refused.errors:
            assert error["extensions"]["code"] in {
                "GRAPHQL_PARSE_FAILED",
                "GRAPHQL_VALIDATION_FAILED",
                "LIMIT_EXCEEDED",
            }


@pytest.mark.parametrize(
    "text", ['{ run(name: "{{{") { id } }', '{ run(name: """ {{ \\""" {{ """) { id } }', "{ # {{{{\n __typename }"]
)
def test_brackets_in_strings_and_comments_do_not_count(text: str) -> None:
    """Only brackets that are tokens nest."""
    check_text(text.replace("{{", "{{" * 200))


def test_documents_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is parsed once while it is kept; the least recently used goes first; refused ones are not kept."""
    monkeypatch.setattr("grid.service.api.documents._MAX_DOCUMENTS", 3)
    documents = Documents(TOY)
    first = documents.load("{ a: __typename }")
    for alias in "bc":
        documents.load(f"{{ {alias}: __typename }}")
    assert documents.load("{ a: __typename }") is first
    documents.load("{ d: __typename }")
    assert len(documents) == 3
    assert documents.load("{ a: __typename }") is first
    with pytest.raises(DocumentRefused):
        documents.load("{ unknown }")
    assert len(documents) == 3
    monkeypatch.setattr("grid.service.api.documents._MAX_CHARACTERS", 60)
    documents.load("{ e: __typename }" + " " * 30)
    assert len(documents) == 1


class Exchange:
    """One HTTP request as ASGI messages: the body in parts of one size, and what came back."""

    def __init__(self, part: int, parts: int | None, length: bytes | None = None) -> None:
        self.scope = {"type": "http", "headers": [(b"content-length", length)] if length else []}
        self.read = 0
        self.sent: list[dict[str, Any]] = []
        self._part = part
        self._parts = parts

    async def receive(self) -> dict[str, Any]:
        """Hand out the next part of the body."""
        self.read += self._part
        more = self._parts is None or self.read < self._part * self._parts
        return {"type": "http.request", "body": b"x" * self._part, "more_body": more}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a part of the answer."""
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        """Give the body of the answer."""
        assert not self.sent[-1].get("more_body")
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    """Answer with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


async def swallowing(scope: Any, receive: Any, send: Any) -> None:
    """Answer as a framework does that turns every exception into its own page."""
    try:
        await echo(scope, receive, send)
    except Exception:  # noqa: BLE001 - that is what it is here for
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"oops"})


def assert_too_large(exchange: Exchange) -> None:
    """Hold the answer to be the one for a body above 10 bytes."""
    assert exchange.sent[0]["status"] == 413
    assert (b"connection", b"close") in exchange.sent[0]["headers"]
    (error,) = orjson.loads(exchange.body)["errors"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": 10}
    assert "10 bytes" in error["message"]


@pytest.mark.parametrize("app", [echo, swallowing])
@pytest.mark.parametrize(
    ("length", "part", "parts", "read"),
    [
        (b"11", 11, 1, 0),
        (b"1000000", 1, None, 0),
        (b"10", 6, 3, 12),
        (b"10", 6, None, 12),
        (None, 4, None, 12),
    ],
)
def test_body_is_read_no_further_than_allowed(
    app: Any, length: bytes | None, part: int, parts: int | None, read: int
) -> None:
    """A body above the limit gets a coded 413, and is read no further than to the part that goes beyond it."""
    exchange = Exchange(part, parts, length)
    asyncio.run(limit_body(app, 10)(exchange.scope, exchange.receive, exchange.send))
    assert exchange.read == read
    assert_too_large(exchange)


def test_application_does_not_see_what_was_announced_too_large() -> None:
    """A length above the limit is answered before the application is called."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        pytest.fail("the application was called")

    exchange = Exchange(11, 1, b"11")
    asyncio.run(limit_body(app, 10)(exchange.scope, exchange.receive, exchange.send))
    assert_too_large(exchange)


def test_body_within_the_limit_passes() -> None:
    """A body of exactly the limit is the application's."""
    exchange = Exchange(5, 2, b"10")
    asyncio.run(limit_body(echo, 10)(exchange.scope, exchange.receive, exchange.send))
    assert (exchange.sent[0]["status"], exchange.body) == (200, b"10")
