"""Tests of how the schema and its resolvers are put together."""

from __future__ import annotations

import pkgutil
from collections import Counter
from importlib import import_module

from ariadne import ObjectType

from grid.service.api import resolvers
from grid.service.api.schema import NOUNS, executable_schema


def test_every_file_of_resolvers_is_bound() -> None:
    """What has bindables is listed by the schema, so that no new file is written and never called."""
    found = [import_module(f"{resolvers.__name__}.{each.name}") for each in pkgutil.iter_modules(resolvers.__path__)]
    assert {each.__name__ for each in found if hasattr(each, "BINDABLES")} == {noun.__name__ for noun in NOUNS}


def test_no_field_is_bound_twice() -> None:
    """Two files that bind the same field would answer it as the later of them does."""
    bound = Counter(
        (bindable.name, field)
        for noun in NOUNS
        for bindable in noun.BINDABLES
        if isinstance(bindable, ObjectType)
        for field in bindable._resolvers  # Ariadne shows it nowhere else
    )
    assert [field for field, times in bound.items() if times > 1] == []


def test_every_operation_has_a_resolver() -> None:
    """A field of the root types that nothing is bound to would be null, whatever is asked."""
    schema = executable_schema()
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    fields = {f"{root.name}.{name}": field for root in roots if root for name, field in root.fields.items()}
    assert len(fields) > 10
    assert [name for name, field in fields.items() if field.resolve is None] == []
