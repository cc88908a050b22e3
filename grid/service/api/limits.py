"""What one request may ask for: size and depth of the document and of its variables.

The contents of a document are counted in `shapes`, the cost of an operation is computed in `cost`, and the size of a
body is limited by `http/bodies`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, OperationDefinitionNode

from grid.service.api.errors import ApiError
from grid.service.system.settings import MAX_EXPERIMENTS
from grid.shared.wire import MAX_SCRIPT_ARGS, MAX_SCRIPT_COMMAND, ErrorCode

if TYPE_CHECKING:
    from graphql import DocumentNode, InlineFragmentNode, SelectionSetNode

__all__ = [
    "MAX_DEPTH",
    "MAX_TOKENS",
    "check_depth",
    "check_text",
    "check_variables",
    "exceeded",
]

MAX_DEPTH = 20

_MAX_CHARACTERS = 100_000
# Validation compares selections of the same name in pairs; with this many tokens it takes half a second at worst.
MAX_TOKENS = 4_000
# How deeply brackets of any kind may be nested, and selections through fragments. This keeps every recursive walk, here
# and in graphql-core, far from the interpreter's limit.
_MAX_NESTING = 100
# Values that the variables hold: how many in all (and how many variables), how deeply nested, and how many characters
# in a string. A client that goes on following the largest run says for each experiment how far it is known.
_MAX_VALUES = MAX_EXPERIMENTS
_MAX_VARIABLE_DEPTH = 20
_MAX_TEXT = MAX_SCRIPT_ARGS
_LONG_TEXTS = {"scriptCommand": MAX_SCRIPT_COMMAND}  # which has the arguments twice

_TOKEN = re.compile(
    r"""
    (?P<open>[{(\[]) | (?P<close>[})\]])
    | (?P<skip>\#[^\r\n]* | [\s,\ufeff]+)
    | \"{3} (?: \\\"{3} | (?!\"{3}) . )* (?: \"{3} )?
    | " (?: \\. | [^"\\\r\n] )* "?
    | \.{3} | [A-Za-z_]\w* | -?\d[\w.+-]* | .
    """,
    re.VERBOSE | re.DOTALL,
)


def check_text(text: str) -> None:
    """Refuse a document that is too large or nested too deeply to be parsed.

    Parameters
    ----------
    text
        The document.

    Raises
    ------
    ApiError
        If it has too many characters or tokens, or brackets that are nested too deeply.
    """
    if len(text) > _MAX_CHARACTERS:
        raise exceeded("characters of the document", len(text), _MAX_CHARACTERS, "send large values as variables")
    tokens = depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "skip":
            continue
        tokens += 1
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        if tokens > MAX_TOKENS:
            raise exceeded("tokens of the document", f"more than {MAX_TOKENS}", MAX_TOKENS, "split it into several")
        if depth > _MAX_NESTING:
            raise exceeded(
                "levels of nested brackets", f"more than {_MAX_NESTING}", _MAX_NESTING, "nest it less deeply"
            )


def check_depth(document: DocumentNode, max_depth: int = MAX_DEPTH) -> bool:
    """Refuse a document whose fields, including those of its fragments, are nested too deeply.

    Parameters
    ----------
    document
        The parsed document.
    max_depth
        How deeply fields may be nested.

    Returns
    -------
    bool
        False if fragments spread each other in a cycle and there is no depth: validation refuses such a document.

    Raises
    ------
    ApiError
        If they are nested more deeply.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    order = _inner_first(fragments)
    if order is None:
        return False
    known: dict[str, tuple[int, int]] = {}
    for name in order:
        known[name] = _depth(fragments[name].selection_set, known)
        _refuse_depth(known[name], max_depth)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            _refuse_depth(_depth(node.selection_set, known), max_depth)
    return True


def check_variables(variables: dict[str, Any] | None) -> None:
    """Refuse variables that are too many, too large or nested too deeply to be checked one by one.

    Parameters
    ----------
    variables
        The variables as the client sent them.

    Raises
    ------
    ApiError
        If they hold too many values, lists and objects that are nested too deeply, or a string that is too long.
    """
    values = 0
    level: list[Any] = [variables] if variables else []
    for _ in range(_MAX_VARIABLE_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            values += len(value)
            if values > _MAX_VALUES:
                raise exceeded("values in the variables", f"more than {_MAX_VALUES}", _MAX_VALUES, "send fewer at once")
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            # Without a step for each part where all are strings, as in a large StringMap: this is the event loop.
            is_text = set(map(type, parts)) == {str}
            longest = max(map(len, parts if is_text else [each for each in parts if isinstance(each, str)]), default=0)
            if longest > _MAX_TEXT:
                _refuse_long(value)
            if not is_text:
                inner += [each for each in parts if isinstance(each, (dict, list))]
        if not inner:
            return
        if level[0] is variables:
            values = 0
        level = inner
    given = f"more than {_MAX_VARIABLE_DEPTH}"
    raise exceeded("levels of nested values in the variables", given, _MAX_VARIABLE_DEPTH, "nest them less deeply")


def _refuse_long(value: dict[str, Any] | list[Any]) -> None:
    """Refuse a list or an object with a text that is too long where it stands."""
    parts = (
        [*value.items(), *((each, each) for each in value)]
        if isinstance(value, dict)
        else [("", each) for each in value]
    )
    for name, each in parts:
        most = _LONG_TEXTS.get(name, _MAX_TEXT)
        if isinstance(each, str) and len(each) > most:
            raise exceeded("characters of a string in the variables", len(each), most, "send a shorter one")


def _refuse_depth(depths: tuple[int, int], max_depth: int) -> None:
    fields, selections = depths
    if fields > max_depth:
        raise exceeded("levels of nested fields", fields, max_depth, "nest them less deeply")
    if selections > _MAX_NESTING:
        raise exceeded("levels of nested fragments", selections, _MAX_NESTING, "nest them less deeply")


def _depth(selection_set: SelectionSetNode, known: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Return how deeply fields are nested, and how deeply selections of any kind are."""
    fields = selections = 0
    for selection in selection_set.selections:
        if isinstance(selection, FragmentSpreadNode):
            below = known.get(selection.name.value, (0, 0))
        else:
            nested = cast("FieldNode | InlineFragmentNode", selection).selection_set
            below = _depth(nested, known) if nested else (0, 0)
        fields = max(fields, below[0] + isinstance(selection, FieldNode))
        selections = max(selections, below[1] + 1)
    return fields, selections


def _inner_first(fragments: dict[str, FragmentDefinitionNode]) -> list[str] | None:
    """Sort fragments so that each comes after those it spreads; None if they form a cycle."""
    order: list[str] = []
    done: set[str] = set()
    for root, fragment in fragments.items():
        stack = [(root, iter(_spreads(fragment)))]
        entered = {root}
        while stack and root not in done:
            name, spreads = stack[-1]
            for spread in spreads:
                if spread in entered:
                    return None
                if spread in fragments and spread not in done:
                    stack.append((spread, iter(_spreads(fragments[spread]))))
                    entered.add(spread)
                    break
            else:
                stack.pop()
                entered.discard(name)
                done.add(name)
                order.append(name)
    return order


def _spreads(fragment: FragmentDefinitionNode) -> set[str]:
    names: set[str] = set()
    stack = [fragment.selection_set]
    while stack:
        for selection in stack.pop().selections:
            if isinstance(selection, FragmentSpreadNode):
                names.add(selection.name.value)
            else:
                nested = cast("FieldNode | InlineFragmentNode", selection).selection_set
                if nested:
                    stack.append(nested)
    return names


def exceeded(what: str, given: object, limit: int, remedy: str, key: str = "given") -> ApiError:
    """Return the error that says what was given, what is allowed, and what to do instead.

    Parameters
    ----------
    what
        What is counted.
    given
        How much of it there is.
    limit
        How much of it there may be.
    remedy
        What the client can do.
    key
        The name of `given` in the error's extensions.

    Returns
    -------
    ApiError
        An error with the code `LIMIT_EXCEEDED`.
    """
    return ApiError(
        ErrorCode.LIMIT_EXCEEDED,
        f"{what}: {given}, at most {limit} are allowed; {remedy}",
        {key: given, "limit": limit},
    )
