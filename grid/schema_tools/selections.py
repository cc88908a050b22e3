"""Compares a model with the selection of a query, field by field and type by type.

Which model is compared with which query is decided in `grid.schema_tools.models`.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin, get_type_hints

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    InlineFragmentNode,
    get_named_type,
)

from grid.chain.decoding import camel_case
from grid.schema_tools.problems import Problem, place, place_of_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from graphql import GraphQLOutputType, GraphQLSchema, Node, OperationDefinitionNode, SelectionSetNode

__all__ = ["Selection", "compare"]

_SCALARS = {
    "ID": str,
    "String": str,
    "Int": int,
    "Float": float,
    "Boolean": bool,
    "DateTime": datetime,
    "StringMap": dict[str, str],
}


class Selection(NamedTuple):
    """What an operation selects, with everything that is needed to read it."""

    schema: GraphQLSchema
    operation: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    version: int
    newest: bool

    @property
    def name(self) -> str:
        """The operation's name and its version, for messages."""
        name = self.operation.name.value if self.operation.name else "the operation"
        return f"{name} (v{self.version})"


def compare(model: type[Any], selection: Selection) -> Iterator[tuple[type[Any] | None, Problem | None]]:
    """Compare an operation's model with what the operation selects.

    Parameters
    ----------
    model
        The class of the whole answer.
    selection
        The operation. If it is not the newest version, what it lacks must have a default in the model.

    Yields
    ------
    tuple
        Each model that was compared, as `(model, None)`, and each problem, as `(None, problem)`.
    """
    root = selection.schema.get_root_type(selection.operation.operation)
    if root is not None:
        yield from _compare_object(model, root, [selection.operation.selection_set], selection)


def _compare_object(
    model: type[Any], parent: GraphQLObjectType, sets: Sequence[SelectionSetNode], selection: Selection
) -> Iterator[tuple[type[Any] | None, Problem | None]]:
    yield model, None
    hints = get_type_hints(model)
    fields = {camel_case(field.name): field for field in dataclasses.fields(model)}
    chosen: dict[str, list[FieldNode]] = {}
    for node in _fields(sets, selection):
        if isinstance(node, FieldNode) and (node.name.value in parent.fields or node.name.value == "__typename"):
            chosen.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
        elif not isinstance(node, FieldNode) and _condition(node) not in (None, parent.name):
            yield (
                None,
                Problem(*place(node), "interfaces and unions have no models: select the fields one by one"),
            )
    for key, nodes in chosen.items():
        definition = parent.fields.get(nodes[0].name.value)
        if key not in fields or definition is None:
            yield (
                None,
                Problem(*place(nodes[0]), f"{selection.name} selects {key}, but {model.__name__} has no such field"),
            )
            continue
        hint = hints[fields[key].name]
        if not _fits(hint, definition.type):
            message = (
                f"{model.__name__}.{fields[key].name} is {_shown(hint)}, but {parent.name}.{nodes[0].name.value} is "
                f"{definition.type}: expected {_expected(definition.type)}"
            )
            yield None, Problem(*place_of_class(model, fields[key].name), message)
            continue
        named = get_named_type(definition.type)
        if isinstance(named, GraphQLObjectType):
            inner = [node.selection_set for node in nodes if node.selection_set]
            yield from _compare_object(_innermost(hint), named, inner, selection)
    for key, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if key not in chosen and (selection.newest or not optional):
            why = "" if selection.newest else ": what an older version lacks needs a default"
            message = f"{model.__name__}.{field.name} is not selected by {selection.name}{why}"
            yield None, Problem(*place_of_class(model, field.name), message)


def _fields(
    sets: Sequence[SelectionSetNode], selection: Selection
) -> Iterator[FieldNode | InlineFragmentNode | FragmentDefinitionNode]:
    """Yield the fields of selection sets, including those of fragments, and each fragment before its own."""
    for selections in sets:
        for node in selections.selections:
            if isinstance(node, FieldNode):
                yield node
                continue
            fragment: Node | None = node
            if isinstance(node, FragmentSpreadNode):
                fragment = selection.fragments.get(node.name.value)
            if isinstance(fragment, (InlineFragmentNode, FragmentDefinitionNode)):
                yield fragment
                yield from _fields([fragment.selection_set], selection)


def _condition(node: InlineFragmentNode | FragmentDefinitionNode) -> str | None:
    return node.type_condition.name.value if node.type_condition else None


def _fits(hint: Any, wanted: GraphQLOutputType) -> bool:
    options = get_args(hint)
    optional = NoneType in options
    if optional == isinstance(wanted, GraphQLNonNull):
        return False
    if optional:
        others = [option for option in options if option is not NoneType]
        return len(others) == 1 and _fits_non_null(others[0], wanted)
    return _fits_non_null(hint, wanted.of_type if isinstance(wanted, GraphQLNonNull) else wanted)


def _fits_non_null(hint: Any, wanted: GraphQLOutputType) -> bool:
    options = get_args(hint)
    if isinstance(wanted, GraphQLList):
        is_list = get_origin(hint) is list or (get_origin(hint) is tuple and options[1:] == (...,))
        return is_list and _fits(options[0], wanted.of_type)
    if isinstance(wanted, GraphQLEnumType):
        return hint is str or (isinstance(hint, type) and _is_enum_of(hint, wanted))
    if isinstance(wanted, GraphQLScalarType):
        return bool(hint == _SCALARS.get(wanted.name))
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _is_enum_of(hint: type[Any], wanted: GraphQLEnumType) -> bool:
    return issubclass(hint, Enum) and {member.value for member in hint} == set(wanted.values)


def _innermost(hint: Any) -> Any:
    """Return the class inside of `X | None`, `tuple[X, ...]` and so on."""
    inner = [option for option in get_args(hint) if option not in (NoneType, ...)]
    return _innermost(inner[0]) if inner else hint


def _expected(wanted: GraphQLOutputType) -> str:
    """Return which annotation would fit."""
    if not isinstance(wanted, GraphQLNonNull):
        return f"{_expected(GraphQLNonNull(wanted))} | None"
    inner = wanted.of_type
    if isinstance(inner, GraphQLList):
        return f"tuple[{_expected(inner.of_type)}, ...]"
    if isinstance(inner, GraphQLScalarType):
        return _shown(_SCALARS.get(inner.name, "a type for this scalar, which is not known"))
    return f"{'str or an enum' if isinstance(inner, GraphQLEnumType) else 'a model'} of {inner}"


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
