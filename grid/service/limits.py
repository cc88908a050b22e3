"""What one request may ask for: size of the body, size and depth of the document, size of pages, cost.

Nothing here reads GraphQL requests; the body limit works around any ASGI application.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import orjson
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    VariableNode,
    get_named_type,
)

from grid.service.api_errors import ApiError, coded
from grid.wire import MAX_PAGE_SIZE, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from graphql import (
        DocumentNode,
        GraphQLArgument,
        GraphQLNamedType,
        GraphQLOutputType,
        GraphQLSchema,
        SelectionSetNode,
    )

    _Message = MutableMapping[str, Any]
    _Receive = Callable[[], Awaitable[_Message]]
    _Send = Callable[[_Message], Awaitable[None]]
    _App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_COST",
    "MAX_DEPTH",
    "MAX_TOKENS",
    "CostPlan",
    "check_depth",
    "check_text",
    "limit_body",
]

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_COST = 100_000
MAX_DEPTH = 20

_MAX_CHARACTERS = 100_000
# Validation compares selections of the same name in pairs: this many tokens take it half a second at worst.
MAX_TOKENS = 4_000
# Brackets of any kind inside each other, and selections inside each other through fragments. It keeps every recursive
# walk, here and in graphql-core, far from the interpreter's limit.
_MAX_NESTING = 100
# How many elements a list is taken to have that says nothing of its length.
_LIST_SIZE = 10

_LINGER_SECONDS = 2.0

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
        raise _exceeded("characters of the document", len(text), _MAX_CHARACTERS, "send large values as variables")
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
            raise _exceeded("tokens of the document", f"more than {MAX_TOKENS}", MAX_TOKENS, "split it into several")
        if depth > _MAX_NESTING:
            raise _exceeded(
                "brackets inside each other", f"more than {_MAX_NESTING}", _MAX_NESTING, "nest it less deeply"
            )


def check_depth(document: DocumentNode, max_depth: int = MAX_DEPTH) -> None:
    """Refuse a document whose fields are nested too deeply, those of its fragments included.

    A document whose fragments form a cycle passes: validation refuses it.

    Parameters
    ----------
    document
        The parsed document.
    max_depth
        How many fields may stand inside each other.

    Raises
    ------
    ApiError
        When there are more.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    order = _inner_first(fragments)
    if order is None:
        return
    known: dict[str, tuple[int, int]] = {}
    for name in order:
        known[name] = _depth(fragments[name].selection_set, known)
        _refuse_depth(known[name], max_depth)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            _refuse_depth(_depth(node.selection_set, known), max_depth)


def _refuse_depth(depths: tuple[int, int], max_depth: int) -> None:
    fields, selections = depths
    if fields > max_depth:
        raise _exceeded("fields inside each other", fields, max_depth, "nest them less deeply")
    if selections > _MAX_NESTING:
        raise _exceeded("fragments inside each other", selections, _MAX_NESTING, "nest them less deeply")


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


class _Sum:
    """A cost: a constant, and so many times the cost of each of some lists whose length is a variable."""

    __slots__ = ("constant", "lists")

    def __init__(self, constant: int = 0) -> None:
        self.constant = constant
        self.lists: dict[int, int] = {}

    def add(self, other: _Sum, times: int = 1) -> None:
        self.constant += times * other.constant
        for index, count in other.lists.items():
            self.lists[index] = self.lists.get(index, 0) + times * count

    def value(self, lists: list[int]) -> int:
        return self.constant + sum(count * lists[index] for index, count in self.lists.items())


class _Length:
    """The length of a page, where a variable decides it."""

    __slots__ = ("default", "field", "index", "variable")

    def __init__(self, index: int, field: str, variable: str, default: int) -> None:
        self.index = index
        self.field = field
        self.variable = variable
        self.default = default


class CostPlan:
    """What an operation costs, worked out as far as it can be without its variables.

    A field costs 1, and what is selected below it as often as it can stand in the answer: the elements of a page as
    often as the argument `first` says, those of another list 10 times.

    Parameters
    ----------
    schema
        The schema that the document is valid for.
    document
        The valid document.
    operation
        The operation in it.

    Raises
    ------
    ApiError
        When a page size that the document itself states is not allowed.
    """

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._defaults = {
            node.variable.name.value: _literal(node.default_value)
            for node in operation.variable_definitions or ()
            if node.default_value is not None
        }
        self._lengths: list[_Length] = []
        # Each list's length and the cost of one element, an inner list before the one that it stands in.
        self._lists: list[tuple[int, _Sum]] = []
        self._spread: dict[tuple[str, int | _Length], _Sum] = {}
        root = schema.get_root_type(operation.operation)
        self._total = self._selections(operation.selection_set, root, _LIST_SIZE)

    def check(self, variables: dict[str, Any], max_cost: int = MAX_COST) -> int:
        """Hold a request against the limits.

        Parameters
        ----------
        variables
            The variables as the client sent them.
        max_cost
            The highest cost that is allowed.

        Returns
        -------
        int
            The cost.

        Raises
        ------
        ApiError
            When a page size or the cost is not allowed.
        """
        lengths = [self._length(length, variables) for length in self._lengths]
        lists: list[int] = []
        for index, element in self._lists:
            lists.append(lengths[index] * element.value(lists))
        cost = self._total.value(lists)
        if cost > max_cost:
            raise _exceeded(
                "cost of the operation", cost, max_cost, "ask for smaller pages or fewer fields", key="cost"
            )
        return cost

    def _length(self, length: _Length, variables: dict[str, Any]) -> int:
        if length.variable in variables:
            value = variables[length.variable]
        elif length.variable in self._defaults:
            value = self._defaults[length.variable]
        else:
            return length.default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            # It does not fit the variable's type, or is the null of a page that may go without a size.
            return _LIST_SIZE
        return _page_size(value, length.field)

    def _selections(
        self, selection_set: SelectionSetNode, parent: GraphQLNamedType | None, elements: int | _Length
    ) -> _Sum:
        """Add up a selection; `elements` is how many elements a list in it has that does not say it."""
        total = _Sum()
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                total.constant += 1
                if selection.selection_set or selection.arguments:
                    total.add(self._below(selection, parent, elements))
            elif isinstance(selection, FragmentSpreadNode):
                total.add(self._fragment(selection.name.value, elements))
            elif isinstance(selection, InlineFragmentNode):
                narrowed = parent
                if selection.type_condition:
                    narrowed = self._schema.get_type(selection.type_condition.name.value)
                total.add(self._selections(selection.selection_set, narrowed, elements))
        return total

    def _fragment(self, name: str, elements: int | _Length) -> _Sum:
        known = self._spread.get((name, elements))
        if known is None:
            fragment = self._fragments[name]
            on = self._schema.get_type(fragment.type_condition.name.value)
            known = self._spread[name, elements] = self._selections(fragment.selection_set, on, elements)
        return known

    def _below(self, node: FieldNode, parent: GraphQLNamedType | None, elements: int | _Length) -> _Sum:
        field = getattr(parent, "fields", {}).get(node.name.value)
        if field is None:
            # `__schema` and `__type`, which every schema has: their types know their fields.
            named = self._schema.get_type({"__schema": "__Schema", "__type": "__Type"}.get(node.name.value, ""))
            return self._selections(node.selection_set, named, _LIST_SIZE) if node.selection_set else _Sum()
        is_list = _is_list(field.type)
        first = field.args.get("first")
        page: int | _Length | None = None
        if first is not None and get_named_type(first.type) is GraphQLInt:
            page = self._page(node, first, f"{parent}.{node.name.value}")
        if node.selection_set is None:
            return _Sum()
        # The lists inside a connection are the page: its other fields stand in the answer once.
        inside = page if page is not None and not is_list else _LIST_SIZE
        element = self._selections(node.selection_set, get_named_type(field.type), inside)
        if not is_list:
            return element
        times = elements if page is None else page
        total = _Sum()
        if isinstance(times, int):
            total.add(element, times)
        else:
            total.lists[len(self._lists)] = 1
            self._lists.append((times.index, element))
        return total

    def _page(self, node: FieldNode, first: GraphQLArgument, field: str) -> int | _Length:
        # Schema first: the default stands in the schema's text, which every version of graphql-core keeps alike.
        default = (_literal(first.ast_node.default_value) if first.ast_node else None) or _LIST_SIZE
        for argument in node.arguments or ():
            if argument.name.value == "first":
                if isinstance(argument.value, VariableNode):
                    length = _Length(len(self._lengths), field, argument.value.name.value, default)
                    self._lengths.append(length)
                    return length
                value = _literal(argument.value)
                return _LIST_SIZE if value is None else _page_size(value, field)
        return default


def _literal(node: object) -> int | None:
    if isinstance(node, IntValueNode):
        return int(node.value)
    return None if node is None or isinstance(node, NullValueNode) else _LIST_SIZE


def _is_list(type_: GraphQLOutputType) -> bool:
    return isinstance(type_.of_type if isinstance(type_, GraphQLNonNull) else type_, GraphQLList)


def _page_size(size: int, field: str) -> int:
    if 1 <= size <= MAX_PAGE_SIZE:
        return size
    code = ErrorCode.INVALID_ARGUMENT if size < 1 else ErrorCode.LIMIT_EXCEEDED
    message = f"the argument first of {field} is {size}: 1 to {MAX_PAGE_SIZE} are allowed"
    if size > 1:
        message += "; get what is left with `after` and the page's endCursor"
    raise ApiError(code, message, {"argument": "first", "minimum": 1, "maximum": MAX_PAGE_SIZE})


def _exceeded(what: str, given: object, limit: int, remedy: str, key: str = "given") -> ApiError:
    return ApiError(
        ErrorCode.LIMIT_EXCEEDED,
        f"{what}: {given}, at most {limit} are allowed; {remedy}",
        {key: given, "limit": limit},
    )


class _BodyTooLarge(Exception):
    """Unwinds the application that was reading the body."""


def limit_body(app: _App, max_bytes: int = MAX_BODY_BYTES) -> _App:
    """Wrap an ASGI application so that no request body is read further than a limit.

    The client gets a coded 413 as soon as the length that it announces, or what it has sent, is above the limit. The
    application is given no more of the body; of what still comes, at most as much again as the limit is thrown away,
    for at most two seconds. Then the connection is closed.

    Parameters
    ----------
    app
        The application.
    max_bytes
        The largest body that is allowed.

    Returns
    -------
    ASGI application
        The application within the limit.
    """

    async def limited(scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > max_bytes:
                await _refuse_body(receive, send, max_bytes)
                return
        received = 0
        exceeded = answered = False

        async def counting() -> _Message:
            nonlocal received, exceeded
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                exceeded = True
                raise _BodyTooLarge
            return message

        async def watching(message: _Message) -> None:
            nonlocal answered
            # What an application says of the exception that cut its reading short is not what the client needs to know.
            if not exceeded or answered:
                answered = True
                await send(message)

        with suppress(_BodyTooLarge):
            await app(scope, counting, watching)
        if exceeded and not answered:
            await _refuse_body(receive, send, max_bytes)

    return limited


async def _refuse_body(receive: _Receive, send: _Send, max_bytes: int) -> None:
    error = ApiError(
        ErrorCode.LIMIT_EXCEEDED,
        f"the body of the request is too large: at most {max_bytes} bytes are allowed",
        {"limit": max_bytes},
    )
    body = orjson.dumps({"errors": [coded(error, error.code)]})
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    # To close while the client still sends is to reset the connection, and it may lose the answer before it reads it.
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_discard(receive, max_bytes), _LINGER_SECONDS)
    await send({"type": "http.response.body"})


async def _discard(receive: _Receive, max_bytes: int) -> None:
    left = max_bytes
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if not message.get("more_body"):
            return
