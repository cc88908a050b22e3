"""Anything that may be sent for an operation's arguments, made from the schema; and the judge of the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    build_schema,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
)
from hypothesis import strategies as st

from grid.shared.wire import ErrorCode
from tests.support.raw_http import Answer
from tests.support.services import ServiceProcess

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text(encoding="utf-8"))

_DEPTH = 4
_CODES = {code.value for code in ErrorCode}


@dataclass(frozen=True)
class Operation:
    """A field of the schema's roots as an operation that asks for everything below it, its arguments as variables."""

    name: str
    arguments: dict[str, GraphQLInputType]
    document: str

    def __str__(self) -> str:
        return self.name


def operations() -> Iterator[Operation]:
    """Every query and mutation of the schema."""
    for kind, root in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type)):
        assert root is not None
        for name, field_ in root.fields.items():
            arguments = {argument: each.type for argument, each in field_.args.items()}
            declared = ", ".join(f"${argument}: {type_}" for argument, type_ in arguments.items())
            given = ", ".join(f"{argument}: ${argument}" for argument in arguments)
            call = f"{name}({given})" if given else name
            document = f"{kind} Q({declared})" if declared else f"{kind} Q"
            yield Operation(f"{root}.{name}", arguments, f"{document} {{ {call}{_selection(field_.type, _DEPTH)} }}")


def _selection(type_: GraphQLOutputType, depth: int) -> str:
    named = get_named_type(type_)
    if is_leaf_type(named):
        return ""
    assert isinstance(named, GraphQLObjectType)
    fields = [_field(name, each, depth) for name, each in named.fields.items()]
    return " { __typename " + " ".join(each for each in fields if each) + " }"


def _field(name: str, field_: GraphQLField, depth: int) -> str:
    if not is_leaf_type(get_named_type(field_.type)) and depth == 0:
        return ""
    page = "(first: 2)" if "first" in field_.args else ""
    return name + page + _selection(field_.type, depth - 1)


# Values

_TEXTS = [
    "", " ", "\0", "a\0b", "\n", "\u20ac", "\U0001f600", "\ud800", "\ufeff", "\u202e", "%00", "%s%n", "{}", "null",
    "NaN", "../../etc/passwd", "/etc/passwd", "..", "a" * 70_000, "'; DROP TABLE runs; --", '"', "\\", "x-exp0",
    "x-exp-1", "x-exp99999999999999999999", ":", "a:b", "-1", "1e999", "run.py", "run.sh", "a/../b.py", "local",
    "t2.medium", "k" * 16, "K" * 64, "0" * 64, "f" * 64, "2021-08-10T16:59:58.044624+00:00", "16G", "1e9999G",
    "--x 'range(3)'", "--x '[1, 2'", "--x 'uniform(0, 1, 5)'", "--x=" + "[" * 5_000,
]  # fmt: skip
_NUMBERS = [
    0, 1, -1, 2, 5, 20, 21, 1_000, 1_001, 10_000, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53, 2**63, 2**64,
    -(2**63), 10**30, 0.5, -0.0, 1e308, 5e-324, 1.5, 1e20,
]  # fmt: skip

_json = st.recursive(
    st.none() | st.booleans() | st.sampled_from(_NUMBERS) | st.sampled_from(_TEXTS) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def values_of(name: str, type_: GraphQLInputType, known: dict[str, list[Any]]) -> st.SearchStrategy[Any]:
    """Values for an argument or a field: mostly of its kind, whether allowed or not, and now and then of another.

    Parameters
    ----------
    name
        Its name.
    type_
        Its type.
    known
        Values that mean something to the service, by the name of their argument or field; ``""`` for any text.
    """
    right = st.sampled_from(known[name]) if name in known else _fitting(type_, known)
    of_kind = (
        right
        if name not in known
        else st.integers(0, 9).flatmap(lambda draw: right if draw else _fitting(type_, known))
    )
    return st.integers(0, 39).flatmap(lambda draw: of_kind if draw else _json)


def _fitting(type_: GraphQLInputType, known: dict[str, list[Any]]) -> st.SearchStrategy[Any]:
    if not isinstance(type_, GraphQLNonNull):
        return st.none() | _fitting(GraphQLNonNull(type_), known)
    inner = get_nullable_type(type_)
    if isinstance(inner, GraphQLList):
        return st.lists(_fitting(inner.of_type, known), max_size=5)
    if isinstance(inner, GraphQLInputObjectType):
        fields = inner.fields.items()
        required = {name: values_of(name, each.type, known) for name, each in fields if _is_required(each)}
        optional = {name: values_of(name, each.type, known) for name, each in fields if name not in required}
        return st.fixed_dictionaries(required, optional=optional)
    if isinstance(inner, GraphQLEnumType):
        return st.sampled_from(list(inner.values))
    texts = st.sampled_from(known[""]) | st.sampled_from(_TEXTS) | st.text(max_size=30)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "Int": st.sampled_from(_NUMBERS) | st.integers(0, 20),
        "Float": st.sampled_from(_NUMBERS) | st.floats(),
        "Boolean": st.booleans(),
        "StringMap": st.dictionaries(st.sampled_from(["A", "PATH", "LD_PRELOAD", "_"]) | texts, texts, max_size=2),
    }
    return kinds.get(str(inner), texts)


def _is_required(field_: Any) -> bool:
    return isinstance(field_.type, GraphQLNonNull) and field_.ast_node.default_value is None


def texts_in(type_: GraphQLInputType, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path to every text that a value of this type can hold; ``[]`` for an element, ``{}`` for what a map holds."""
    inner = get_nullable_type(type_)
    if is_list_type(inner):
        yield from texts_in(inner.of_type, (*path, "[]"))
    elif isinstance(inner, GraphQLInputObjectType):
        for name, each in inner.fields.items():
            yield from texts_in(each.type, (*path, name))
    elif str(inner) in ("String", "ID"):
        yield path
    elif str(inner) == "StringMap":
        yield (*path, "{}")
        yield (*path, "{key}")


def least(type_: GraphQLInputType, known: dict[str, Any]) -> Any:
    """The smallest value that is allowed for a type; `known` holds the values that certain fields must have."""
    inner = get_nullable_type(type_)
    if isinstance(inner, GraphQLInputObjectType):
        return {
            name: known[name] if name in known else least(each.type, known)
            for name, each in inner.fields.items()
            if _is_required(each)
        }
    return {"Int": 1, "Float": 1, "Boolean": False}.get(str(inner), [] if is_list_type(inner) else "x")


def put(value: Any, path: tuple[str, ...], text: str) -> Any:
    """A value with a text at a path; what is missing on the way is added."""
    if not path:
        return text
    step, rest = path[0], path[1:]
    if step == "[]":
        return [put(None, rest, text)]
    if step in ("{}", "{key}"):
        return {"NAME": text} if step == "{}" else {text: "x"}
    return {**(value or {}), step: put((value or {}).get(step), rest, text)}


# Answers


@dataclass
class Judge:
    """Reads answers and the service's log, and knows what must never appear in them."""

    service: ServiceProcess
    cases: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    _read: int = 0

    def __post_init__(self) -> None:
        self._read = self.service.log.stat().st_size

    def read(self, answer: Answer, asked: object) -> None:
        """Require a proper answer to a GraphQL request: no fault of the service, and nothing about its internals."""
        self.cases += 1
        assert answer.status < 500, (asked, answer)
        assert answer.headers["content-type"] == "application/json; charset=utf-8", (asked, answer)
        text = answer.body.decode()
        assert str(self.service.home) not in text, (asked, text)
        assert "Traceback" not in text, (asked, text)
        parsed = json.loads(text)
        assert parsed.keys() <= {"data", "errors"}, (asked, text)
        for error in parsed.get("errors", [{"extensions": {"code": "none"}}]):
            code = error["extensions"]["code"]
            assert code in _CODES | {"none"}, (asked, error)
            assert code != ErrorCode.INTERNAL, (asked, error)
            assert len(error.get("message", "")) < 5_000, (asked, len(error["message"]))
            self.codes[code] = self.codes.get(code, 0) + 1

    def read_log(self) -> None:
        """Require that the service has met no fault since the last check."""
        with self.service.log.open("rb") as log:
            log.seek(self._read)
            text = log.read().decode(errors="replace")
            self._read = log.tell()
        assert not re.search(r"Traceback|\bERROR\b|\bCRITICAL\b|internal error|never awaited", text), text[-5_000:]
        assert self.service.process.poll() is None

    def __str__(self) -> str:
        return f"{self.cases:,} cases: " + ", ".join(f"{code} {count:,}" for code, count in sorted(self.codes.items()))
