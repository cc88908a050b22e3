"""Tests of what a document costs, and that one that costs too much is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    get_nullable_type,
    parse,
    specified_rules,
    validate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.chain.registry import Registry
from grid.service.api import cost as cost_module
from grid.service.api.cost import MAX_COST, CostPlan
from grid.service.api.errors import ApiError
from grid.shared.wire import MAX_PAGE_SIZE, ErrorCode
from grid.views import EXPERIMENTS_PAGE

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
    """Each field costs 1 for each time that it can occur in the answer."""
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
    """A request that costs too much is refused with its cost and the limit."""
    document = parse("query($n: Int!) { runs(first: $n) { nodes { experiments(first: 1000) { nodes { id name } } } } }")
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    plan = CostPlan(SCHEMA, document, operation)
    assert plan.check({"n": 10}) == 2 + 10 * (2 + 1000 * 2)
    with pytest.raises(ApiError, match=r"200202.*100000") as caught:
        plan.check({"n": 100})
    assert caught.value.extensions == {"code": "LIMIT_EXCEEDED", "cost": 200202, "limit": MAX_COST}


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("{ runs(first: 1000) { nodes { status { groups { names } } } } }", 9_990_000, 11_000_000),
        ("{ runs(first: 9) { nodes { status { revision groups { status count names } } } } }", 89_000, MAX_COST),
        ("{ runs(first: 1000) { nodes { status { groups { status count } } } } }", 12_000, 15_000),
        ('{ run(name: "a") { failures { names } } }', 10_000, 16_000),
        ("{ runs(first: 1000) { nodes { deletedIndices } } }", 500_000, 600_000),
        ("{ runs(first: 1000) { nodes { varying } } }", 20_000, 30_000),
        ("{ runs(first: 9) { nodes { status { forecast { low high } } } } }", 90_000, MAX_COST),
        ('{ run(name: "a") { events(first: 1000) { events { number name } } } }', 2_000, 3_000),
        ("{ runs(first: 1000) { nodes { events(first: 1) { revision } } } }", 100_000, 110_000),
        ('mutation { cancelRun(name: "a") { ended pending } }', 10_000, 10_100),
        ('mutation { retryRun(input: {id: "a", key: "b"}) { names } }', 10_000, 10_100),
        ('{ cluster(name: "a") { instanceTypes { name } } }', 100, 110),
        ('{ experiment(id: "a") { log { text times { number } } } }', 11_000, 11_010),
        ('{ experiment(id: "a") { log(first: 5) { text times { number } } } }', 1_005, 1_015),
        ("{ runs(first: 1) { nodes { experiments(first: 1000) { nodes { log { text } } } } } }", 1_000_000, 1_010_000),
        ('{ preview(settings: {entrypoint: "a.py"}, script: "a.py") { seed } }', 10_000, 10_010),
        (
            '{ preview(settings: {entrypoint: "a"}, script: "a", first: 1000) { axes experiments { parameters } } }',
            11_000,
            11_010,
        ),
        ('{ run(name: "a") { logs { pages { text times { at } } isEnd } buildLog { text } } }', 22_000, 23_000),
    ],
)
def test_lists_cost_what_they_can_hold(text: str, least: int, most: int) -> None:
    """A list without a length of its own costs what it can hold: a run has up to 10,000 experiments."""
    assert least <= cost(text, schema=SCHEMA) <= most


def test_every_list_was_thought_of() -> None:
    """Each list of the schema is a page, or it is known how much it can hold; a new one is decided here."""
    short = {
        "Estimate.warnings",
        "Experiment.attempts",
        "LogPage.times",  # as many as there are lines, where a page says how many
        "Preview.axes",
        "Preview.experiments",  # as many as the argument `first` of a preview says, and so are these
        "Preview.sweep",
        "Preview.warnings",
        "Query.clusters",
        "RunSettings.inheritedVariables",
        "StartedRun.warnings",
    }
    lists = {
        f"{each.name}.{name}"
        for each in SCHEMA.type_map.values()
        if isinstance(each, GraphQLObjectType) and not each.name.startswith("__")
        for name, field in each.fields.items()
        if isinstance(get_nullable_type(field.type), GraphQLList)
    }
    pages = {name for name in lists if name.endswith("Connection.nodes") or name == "RunEvents.events"}
    assert lists - pages - short == (cost_module._LENGTHS.keys() | cost_module._WEIGHTS.keys()) & lists
    assert short <= lists


@pytest.mark.parametrize("name", Registry().names)
def test_the_client_can_ask(name: str) -> None:
    """Each operation of the client passes, with the largest page that the client asks for."""
    first = {"GetRunArtifacts": 100, "RunNames": MAX_PAGE_SIZE, "RunPage": 100}.get(name, EXPERIMENTS_PAGE)
    assert cost(Registry().get(name).text, {"first": first, "experiments": 50}, SCHEMA) <= MAX_COST


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
    """A page size out of range is refused as literal, variable and default, with the range."""
    with pytest.raises(ApiError, match=f"first of (Query.runs|Run.experiments) is {size}: .* from 1 to 1000") as caught:
        cost(text.replace("SIZE", str(size)), {} if "SIZE" in text else {"n": size}, SCHEMA)
    assert caught.value.code is (ErrorCode.INVALID_ARGUMENT if size < 1 else ErrorCode.LIMIT_EXCEEDED)


@pytest.mark.parametrize("size", [1, 1000])
def test_page_sizes_at_the_ends_are_allowed(size: int) -> None:
    """Both ends of the range are allowed."""
    assert cost("query($n: Int!) { runs(first: $n) { nodes { id } } }", {"n": size}, SCHEMA) == 2 + size
