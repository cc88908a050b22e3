"""Tests of how the schema and its resolvers are put together."""

from __future__ import annotations

import pkgutil
from collections import Counter
from importlib import import_module

from ariadne import ObjectType

from grid.service.api import resolvers
from grid.service.api.schema import NOUNS, executable_schema


def test_every_file_of_resolvers_is_bound() -> None:
    """The schema lists every file that has bindables, so that no new one is forgotten."""
    found = [import_module(f"{resolvers.__name__}.{each.name}") for each in pkgutil.iter_modules(resolvers.__path__)]
    assert {each.__name__ for each in found if hasattr(each, "BINDABLES")} == {noun.__name__ for noun in NOUNS}


def test_no_field_is_bound_twice() -> None:
    """No field is bound twice: the later binding would silently win."""
    bound = Counter(
        (bindable.name, field)
        for noun in NOUNS
        for bindable in noun.BINDABLES
        if isinstance(bindable, ObjectType)
        for field in bindable._resolvers  # Ariadne does not show it elsewhere
    )
    assert [field for field, times in bound.items() if times > 1] == []


def test_every_operation_has_a_resolver() -> None:
    """Every field of the root types is bound: otherwise it would always be null."""
    schema = executable_schema()
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    fields = {f"{root.name}.{name}": field for root in roots if root for name, field in root.fields.items()}
    assert len(fields) > 10
    assert [name for name, field in fields.items() if field.resolve is None] == []
