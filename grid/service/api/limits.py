"""What one request may ask for: size and depth of the document and of its variables.

What a document may hold is counted in `shapes`, what an operation costs is worked out in `cost`; the size of a body is
limited by `http/bodies`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, OperationDefinitionNode

from grid.service.api.errors import ApiError
from grid.shared.wire import MAX_SCRIPT_ARGS, ErrorCode

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
# Validation compares selections of the same name in pairs: this many tokens take it half a second at worst.
MAX_TOKENS = 4_000
# Brackets of any kind inside each other, and selections inside each other through fragments. It keeps every recursive
# walk, here and in graphql-core, far from the interpreter's limit.
_MAX_NESTING = 100
# Values of the variables: all of them, inside each other, and a text's characters.
_MAX_VALUES = 10_000
_MAX_VARIABLE_DEPTH = 20
_MAX_TEXT = MAX_SCRIPT_ARGS

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
    """Refuse a document that is too large or too deep to be parsed.

    Parameters
    ----------
    text
        The document.

    Raises
    ------
    ApiError
        When it has too many characters or tokens, or too many brackets inside each other.
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
                "brackets inside each other", f"more than {_MAX_NESTING}", _MAX_NESTING, "nest it less deeply"
            )


def check_depth(document: DocumentNode, max_depth: int = MAX_DEPTH) -> bool:
    """Refuse a document whose fields are nested too deeply, those of its fragments included.

    Parameters
    ----------
    document
        The parsed document.
    max_depth
        How many fields may stand inside each other.

    Returns
    -------
    bool
        False where fragments spread each other in a circle, and no depth can be said: validation refuses that.

    Raises
    ------
    ApiError
        When there are more.
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
    """Refuse variables that are too many, too large or too deep to be looked at one by one.

    Parameters
    ----------
    variables
        As the client sent them.

    Raises
    ------
    ApiError
        When they hold too many values, lists and objects inside each other, or a text that is too long.
    """
    values = 0
    level: list[Any] = [variables] if variables else []
    for _ in range(_MAX_VARIABLE_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            values += len(value)
            if values > _MAX_VALUES:
                raise exceeded("values of the variables", f"more than {_MAX_VALUES}", _MAX_VALUES, "send fewer at once")
            for each in (*value, *value.values()) if isinstance(value, dict) else value:
                if isinstance(each, str):
                    if len(each) > _MAX_TEXT:
                        what = "characters of a text in the variables"
                        raise exceeded(what, len(each), _MAX_TEXT, "send a shorter one")
                elif isinstance(each, (dict, list)):
                    inner.append(each)
        if not inner:
            return
        level = inner
    given = f"more than {_MAX_VARIABLE_DEPTH}"
    raise exceeded("values of the variables inside each other", given, _MAX_VARIABLE_DEPTH, "nest them less deeply")


def _refuse_depth(depths: tuple[int, int], max_depth: int) -> None:
    fields, selections = depths
    if fields > max_depth:
        raise exceeded("fields inside each other", fields, max_depth, "nest them less deeply")
    if selections > _MAX_NESTING:
        raise exceeded("fragments inside each other", selections, _MAX_NESTING, "nest them less deeply")


def _depth(selection_set: SelectionSetNode, known: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Count fields inside each other, and selections of any kind inside each other."""
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
    """Sort fragments so that each stands after those it spreads; None where they form a cycle."""
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
    """Make the error that says what was asked for, what is allowed, and what to do instead.

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
        The name that `given` has among the error's extensions.

    Returns
    -------
    ApiError
        With the code `LIMIT_EXCEEDED`.
    """
    return ApiError(
        ErrorCode.LIMIT_EXCEEDED,
        f"{what}: {given}, at most {limit} are allowed; {remedy}",
        {key: given, "limit": limit},
    )
