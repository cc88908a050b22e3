"""Tests of finding out what a document selects below a field."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import build_schema, execute_sync, parse

from grid.service.api.selections import selects

SCHEMA = build_schema(
    """
    interface Named { names: [String!]! }
    type Group implements Named { count: Int!, names: [String!]! }
    type Status { revision: Int!, groups: [Group!]! }
    type Query { status: Status, names: Status }
    """
)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("status { revision }", False),
        ("status { groups { count } }", False),
        ("status { groups { count names } }", True),
        ("status { groups { others: names } }", True),
        ("status { groups { names: count } }", False),
        ("names: status { revision }", False),
        ("status { ... { groups { ... on Named { names } } } }", True),
        ("status { ...A } ", True),
        ("status { ...B ...B } ", False),
        ("status { revision } status { groups { names } }", True),
        ("status { revision } other: status { groups { names } }", None),
        ("status { groups { names @include(if: false) } }", True),
    ],
)
def test_what_is_selected(selection: str, expected: bool | None) -> None:
    """A field is found wherever it stands below the one that is resolved, and by its own name; nowhere else."""
    found: list[bool] = []

    def resolve(_: object, info: Any) -> None:
        found.append(selects(info, "names"))

    text = "query { %s } fragment A on Status { ...B groups { ...C } } fragment B on Status { revision }"
    text = text % selection + " fragment C on Named { names }"
    SCHEMA.query_type.fields["status"].resolve = resolve  # type: ignore[union-attr]
    execute_sync(SCHEMA, parse(text))  # not validated: most leave a fragment unused
    assert found == ([False, True] if expected is None else [expected])
