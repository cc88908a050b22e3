"""Tests of the limits of a document's text and depth: how large it may be, and how deeply nested."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import (
    build_schema,
    get_introspection_query,
    parse,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.service.api.documents import DocumentRefused, Documents
from grid.service.api.errors import ApiError
from grid.service.api.limits import MAX_TOKENS, check_depth, check_text

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text(encoding="utf-8"))

TOY = build_schema("type Query { node: Node } interface Node { id: ID! }")


def nested(depth: int) -> str:
    """Return a document with that many fields nested."""
    return "{ plain " + "{ parts " * (depth - 2) + "{ id }" + " }" * (depth - 1)


def test_depth_counts_fields_through_fragments() -> None:
    """The limit counts nested fields, whether there are fragments in between or not."""
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
