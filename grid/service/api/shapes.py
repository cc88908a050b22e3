"""What a document may hold: how many operations, fragments, variables, directives and values, aliases and repetitions.

These are counted before validation, which compares fields of the same name in pairs. The size and the depth of a
document are limited in `limits`; the cost of executing it is computed in `cost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    ValueNode,
)

from grid.service.api.limits import exceeded

if TYPE_CHECKING:
    from graphql import DirectiveNode, DocumentNode, InlineFragmentNode, SelectionSetNode

    from grid.service.api.errors import ApiError

__all__ = ["check_counts", "check_selections"]

MAX_OPERATIONS = 20
MAX_FRAGMENTS = 50
MAX_VARIABLES = 100
MAX_DIRECTIVES = 50
MAX_VALUES = 300
MAX_SELECTIONS = 4_000
MAX_ALIASES = 150
MAX_REPEATED = 10

_SPLIT = "split it into several documents"


def check_counts(document: DocumentNode) -> None:
    """Refuse a document whose text holds too many of anything.

    Parameters
    ----------
    document
        The parsed document, valid or not.

    Raises
    ------
    ApiError
        If it has too many operations, fragments, variables, directives or values.
    """
    operations = fragments = variables = 0
    directives: list[DirectiveNode] = []
    values: list[ValueNode] = []
    stack: list[SelectionSetNode] = []
    for node in document.definitions:
        directives += getattr(node, "directives", None) or ()
        if isinstance(node, (OperationDefinitionNode, FragmentDefinitionNode)):
            stack.append(node.selection_set)
            operations += isinstance(node, OperationDefinitionNode)
            fragments += isinstance(node, FragmentDefinitionNode)
            for definition in node.variable_definitions or ():
                variables += 1
                directives += definition.directives or ()
                values += [definition.default_value] if definition.default_value else []
    _refuse("operations of the document", operations, MAX_OPERATIONS)
    _refuse("fragments of the document", fragments, MAX_FRAGMENTS)
    _refuse("variables of the document", variables, MAX_VARIABLES)
    while stack:
        for selection in stack.pop().selections:
            directives += selection.directives or ()
            if isinstance(selection, FieldNode):
                values += [argument.value for argument in selection.arguments or ()]
            nested = getattr(selection, "selection_set", None)
            if nested:
                stack.append(nested)
    _refuse("directives of the document", len(directives), MAX_DIRECTIVES)
    for directive in directives:
        values += [argument.value for argument in directive.arguments or ()]
    _refuse("values in the document", _count(values), MAX_VALUES, "send them as variables")


def _count(values: list[ValueNode]) -> int:
    """Count values, including nested ones."""
    count = 0
    while values:
        value = values.pop()
        count += 1
        if isinstance(value, ListValueNode):
            values += value.values
        elif isinstance(value, ObjectValueNode):
            values += [field.value for field in value.fields]
    return count


def check_selections(document: DocumentNode) -> None:
    """Refuse a document that asks for the same too often; fragments count wherever they are spread.

    Parameters
    ----------
    document
        The parsed document. Its depth must be within the limits, and its fragments must not form a cycle.

    Raises
    ------
    ApiError
        If an operation has too many selections or aliases, or too many fields of one name in one place.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    counter = _Counter({name: node.selection_set for name, node in fragments.items()})
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            counter.aliases = 0
            counter.count([node.selection_set])


class _Counter:
    def __init__(self, fragments: dict[str, SelectionSetNode]) -> None:
        self.aliases = 0
        self._fragments = fragments
        # Of the whole document: a fragment that many operations spread is walked once for each of them.
        self._selections = 0

    def count(self, place: list[SelectionSetNode]) -> None:
        """Count the fields in one place of the answer, and then those below it."""
        fields: dict[str, list[FieldNode]] = {}
        while place:
            for selection in place.pop().selections:
                self._selections += 1
                if self._selections > MAX_SELECTIONS:
                    raise _more("selections of the document, with its fragments", MAX_SELECTIONS)
                if isinstance(selection, FieldNode):
                    self._add(selection, fields)
                elif isinstance(selection, FragmentSpreadNode):
                    # Validation reports one that is not defined.
                    place += [self._fragments[name] for name in (selection.name.value,) if name in self._fragments]
                else:
                    place.append(cast("InlineFragmentNode", selection).selection_set)
        for same in fields.values():
            below = [node.selection_set for node in same if node.selection_set]
            if below:
                self.count(below)

    def _add(self, field: FieldNode, fields: dict[str, list[FieldNode]]) -> None:
        if field.alias:
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise _more("aliases of an operation", MAX_ALIASES)
        key = (field.alias or field.name).value
        same = fields.setdefault(key, [])
        same.append(field)
        if len(same) > MAX_REPEATED:
            raise _more(f"fields in one place that are named {key[:50]!r}", MAX_REPEATED, "ask for it once")


def _refuse(what: str, given: int, limit: int, remedy: str = _SPLIT) -> None:
    if given > limit:
        raise exceeded(what, given, limit, remedy)


def _more(what: str, limit: int, remedy: str = _SPLIT) -> ApiError:
    """Return the error for a count that was broken off at its limit."""
    return exceeded(what, f"more than {limit}", limit, remedy)
