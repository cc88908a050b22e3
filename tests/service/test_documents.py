"""Tests of the documents that are kept: parsed once, checked, and bounded in number and size."""

from __future__ import annotations

import pytest
from graphql import (
    build_schema,
)

from grid.service.api.documents import DocumentRefused, Documents


def test_documents_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is parsed once while it is kept; the least recently used is dropped; refused ones are not kept."""
    monkeypatch.setattr("grid.service.api.documents._MAX_DOCUMENTS", 3)
    documents = Documents(build_schema("type Query { known: Int }"))
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
