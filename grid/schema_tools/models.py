"""Checks the models against what the queries select, and the enums that client and service share against the schema.

How one model is compared with one selection is in `grid.schema_tools.selections`.
"""

from __future__ import annotations

import inspect
from enum import Enum
from typing import TYPE_CHECKING, Any

from graphql import FragmentDefinitionNode, GraphQLEnumType, GraphQLError, OperationDefinitionNode

from grid.chain.decoding import Model
from grid.chain.registry import Registry, query_files
from grid.schema_tools.problems import Problem, place_of_class
from grid.schema_tools.queries import composed, parts_of
from grid.schema_tools.selections import Selection, compare
from grid.shared import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from graphql import GraphQLSchema

__all__ = ["check_models", "check_wire"]


def check_models(package: str | Path, models: ModuleType, schema: GraphQLSchema) -> list[Problem]:
    """Check that each operation's class in a module has exactly the fields that the newest version selects.

    The selections of older versions are compared with the same classes: what they lack needs a default.

    Parameters
    ----------
    package
        The package or folder of queries, as for `grid.chain.registry.Registry`.
    models
        The module of the models.
    schema
        The schema.
    """
    problems: set[Problem] = set()
    seen: set[type[Any]] = set()
    for name, versions in query_files(package).operations.items():
        model = getattr(models, name, None)
        if not (isinstance(model, type) and issubclass(model, Model)):
            problems.add(Problem(versions[-1].path, 1, f"{models.__name__} has no model {name} for this operation"))
            continue
        for selection in _selections(package, name, schema):
            for compared, problem in compare(model, selection):
                seen.update(compared.__mro__ if compared else ())
                problems.update([problem] if problem else ())
    for cls in vars(models).values():
        if isinstance(cls, type) and issubclass(cls, Model) and cls is not Model and cls not in seen:
            problems.add(Problem(*place_of_class(cls), f"no operation is named {cls.__name__}, and none selects one"))
    return sorted(problems)


def check_wire(schema: GraphQLSchema) -> list[Problem]:
    """Check that the enums which client and service share are those of the schema, in the same order."""
    problems = []
    for name, enum in inspect.getmembers(wire, lambda member: isinstance(member, type) and issubclass(member, Enum)):
        if enum.__module__ != wire.__name__:
            continue
        words = [member.value for member in enum]
        described = schema.get_type(name)
        if not isinstance(described, GraphQLEnumType):
            problems.append(Problem(*place_of_class(enum), f"the schema has no enum {name}"))
        elif words != list(described.values):
            message = f"{name} is {', '.join(words)}, but the schema says {', '.join(described.values)}"
            problems.append(Problem(*place_of_class(enum), message))
        problems += [
            Problem(*place_of_class(enum), f"{name}.{member.name} has another value than its name: {member.value}")
            for member in enum
            if member.name != member.value
        ]
    return problems


def _selections(package: str | Path, name: str, schema: GraphQLSchema) -> Iterator[Selection]:
    """Yield what each version of an operation selects, if it differs from the next; faults are reported elsewhere."""
    latest = query_files(package).latest
    parts = {version: parts_of(Registry(package, version=version).parts, name)[0] for version in range(1, latest + 1)}
    for version in range(1, latest + 1):
        if not parts[version] or parts[version] == parts.get(version + 1):
            continue
        try:
            definitions = composed(parts[version]).definitions
        except GraphQLError:
            continue
        fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}
        for node in definitions:
            if isinstance(node, OperationDefinitionNode):
                yield Selection(schema, node, fragments, version, newest=version == latest)
