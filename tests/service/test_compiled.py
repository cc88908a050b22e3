"""Tests of compiled selections: their answers are those of graphql-core, whatever is selected and whatever is wrong."""

from __future__ import annotations

import asyncio
import random
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import graphql
import orjson
import pytest
from ariadne import InterfaceType, ObjectType, QueryType, UnionType, make_executable_schema
from graphql import GraphQLSchema, execute
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from grid.service.api import execution
from grid.service.api.columns import Columns
from grid.service.api.compiled import batched
from grid.service.api.documents import DocumentRefused, Documents
from grid.service.api.errors import ApiError
from grid.service.api.operations import _EXECUTOR
from grid.service.api.projections import _command, _Quoted, moment
from grid.shared.wire import ErrorCode

TYPE_DEFS = """
type Query {
  things: [Thing!], maybe: [Thing], makers: [Maker!]!, named: [Named!], any: [Any], words: [String!], shelf: Shelf
}
type Shelf { things(first: Int): [Thing!]!, maker: Maker, words: [[Int]!] }
interface Named { name: String! }
type Thing implements Named {
  id: ID!, name: String!, size: Int, weight: Float!, sold: Boolean, kind: Kind, kinds: [Kind!], maker: Maker!,
  other: Maker, tags: [String]!, note(long: Boolean): String, slow: Int, read: Maker!
  made: Time, parts: [Thing!], map: Map!
}
type Maker implements Named { name: String!, country: String, years: [Int!], things: [Thing] }
union Any = Thing | Maker
enum Kind { BIG, SMALL }
scalar Time
scalar Map
"""
# The types of the fields that can be selected of each type: a leaf has none.
FIELDS: dict[str, dict[str, str | None]] = {
    "Query": {
        "things": "Thing", "maybe": "Thing", "makers": "Maker", "named": "Named", "any": "Any", "words": None,
        "shelf": "Shelf",
    },
    "Shelf": {"things": "Thing", "maker": "Maker", "words": None},
    "Named": {"name": None},
    "Any": {},
    "Thing": {
        "id": None, "name": None, "size": None, "weight": None, "sold": None, "kind": None, "kinds": None,
        "maker": "Maker", "other": "Maker", "tags": None, "note": None, "slow": None, "read": "Maker", "made": None,
        "parts": "Thing", "map": None,
    },
    "Maker": {"name": None, "country": None, "years": None, "things": "Thing"},
}  # fmt: skip
CONDITIONS = {
    "Query": ["Query"],
    "Shelf": ["Shelf"],
    "Named": ["Named", "Thing", "Maker"],
    "Any": ["Any", "Named", "Thing", "Maker"],
    "Thing": ["Thing", "Named"],
    "Maker": ["Maker", "Named"],
}


class Word(StrEnum):
    """Words that are strings, and more."""

    BIG = "BIG"
    SMALL = "SMALL"


class Awaited(int):
    """Tells a column of a batch that it has to fail."""


async def _read_slow(things: Sequence[Any]) -> list[Any]:
    values = [thing.get("slow") for thing in things]
    await asyncio.sleep(0)
    if any(isinstance(value, Awaited) for value in values):
        raise ApiError(ErrorCode.UNAVAILABLE, "it cannot be read")
    return values


async def _read_maker(things: Sequence[Any]) -> list[Any]:
    return [thing.get("read") for thing in things]


def _schema() -> GraphQLSchema:
    thing, query = ObjectType("Thing"), QueryType()
    thing.set_field("slow", batched(_read_slow))
    thing.set_field("read", batched(_read_maker))

    def kind_of(value: Any, *_: Any) -> str:
        return "Thing" if "id" in value else "Maker"

    return make_executable_schema(TYPE_DEFS, query, thing, InterfaceType("Named", kind_of), UnionType("Any", kind_of))


SCHEMA = _schema()
DOCUMENTS = Documents(SCHEMA)
PLAIN: Any = getattr(graphql, "Executor", None) or graphql.ExecutionContext


# What is selected


@st.composite
def selections(draw: Any, type_: str, depth: int, fragments: Sequence[tuple[str, str]]) -> str:
    """Draw the selections of a type, as text."""
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        directive = draw(
            st.sampled_from(
                [
                    *[""] * 6,
                    "@skip(if: $yes)",
                    "@skip(if: $no)",
                    "@include(if: $yes)",
                    "@include(if: $no) @skip(if: $no)",
                    "@include(if: true)",
                    "@skip(if: true)",
                ]
            )
        )
        usable = [name for name, on in fragments if on in CONDITIONS[type_]]
        form = draw(st.sampled_from(["field"] * 6 + ["typename", "inline"] + ["spread"] * bool(usable)))
        names = [name for name, of in FIELDS[type_].items() if of is None or depth > 0]
        if form == "spread":
            parts.append(f"...{draw(st.sampled_from(usable))} {directive}")
        elif form == "inline" and depth > 0:
            on = draw(st.sampled_from(["", *CONDITIONS[type_]]))
            inside = draw(selections(on or type_, depth - 1, fragments))
            parts.append(f"...{f' on {on}' if on else ''} {directive} {{ {inside} }}")
        elif form == "typename" or not names:
            parts.append(f"{draw(st.sampled_from(['', 'word: ']))}__typename {directive}")
        else:
            name = draw(st.sampled_from(names))
            of = FIELDS[type_][name]
            below = f"{{ {draw(selections(of, depth - 1, fragments))} }}" if of else ""
            # The alias belongs to the field of one type, so that any two selections can be merged.
            alias = draw(st.sampled_from(["", "", f"{type_.lower()}_{name}: "]))
            parts.append(f"{alias}{name} {directive} {below}")
    return " ".join(parts)


@st.composite
def documents(draw: Any) -> str:
    """Draw a document with a few fragments, of which a later one may spread an earlier one."""
    fragments: list[tuple[str, str]] = []
    texts = []
    for number in range(draw(st.integers(0, 3))):
        on = draw(st.sampled_from(["Thing", "Maker", "Named"]))
        texts.append(f"fragment F{number} on {on} {{ {draw(selections(on, 1, fragments))} }}")
        fragments.append((f"F{number}", on))
    inside = draw(selections("Query", 3, fragments))
    # What is defined has to be used.
    spread = "".join(f"...{name} " for name, _ in fragments)
    used = f"never: named @skip(if: true) {{ __typename @skip(if: $yes) __typename @include(if: $no) {spread} }}"
    return f"query ($yes: Boolean! = true, $no: Boolean!) {{ {inside} {used} }} {' '.join(texts)}"


# What it is selected of

ODD = (
    [None] * 6
    + [2**31, 1.5, float("nan"), True, "", "BIG", "12", {"a": 1}, [1, None], b"x", object, Word.BIG, Awaited(1)]
    + [ValueError("wrong"), ApiError(ErrorCode.INTERNAL, "worse"), lambda _info, **_: "called", graphql.Undefined]
)


class Objects:
    """Draws objects of every type, and rarely an odd value in place of a right one.

    From a generator with a seed: Hypothesis would spend most of a test on drawing them value by value.
    """

    def __init__(self, seed: int, odd: float) -> None:
        self.random = random.Random(seed)
        self.odd = odd

    def mostly(self, right: Any) -> Any:
        """Return what is right, or rarely what is odd."""
        return self.random.choice(ODD) if self.random.random() < self.odd else right

    def optional(self, right: Any) -> Any:
        """Return what is right, or null."""
        return None if self.random.random() < 0.3 else self.mostly(right)

    def some(self, most: int, draw: Callable[[], Any]) -> list[Any]:
        """Return a few of something."""
        return [draw() for _ in range(self.random.randint(0, most))]

    def word(self) -> str:
        """Return a word."""
        return self.random.choice(["", "a", "BIG", "é", '"', "x y"])

    def kind(self) -> str:
        """Return a word of the enum."""
        return self.random.choice(["BIG", "SMALL"])

    def few(self, known: dict[str, Any]) -> dict[str, Any]:
        """Leave out some of what may be missing: it is null then."""
        return {name: value for name, value in known.items() if value is not None or self.random.random() < 0.5}

    def maker(self, depth: int = 1) -> dict[str, Any]:
        """Return a maker."""
        pick, mostly, optional = self.random, self.mostly, self.optional
        return self.few(
            {
                "name": mostly(self.word()),
                "country": optional(self.word()),
                "years": optional(self.some(3, lambda: mostly(pick.randint(0, 9)))),
                "things": optional(self.some(2, lambda: optional(self.thing(depth - 1)))) if depth else None,
            }
        )

    def thing(self, depth: int = 1) -> dict[str, Any]:
        """Return a thing."""
        pick, mostly, optional = self.random, self.mostly, self.optional
        return self.few(
            {
                "id": mostly(pick.choice(["1", 2])),
                "name": mostly(self.word()),
                "size": optional(pick.choice([0, 5, 2**31 - 1, -(2**31)])),
                "weight": mostly(pick.choice([0.5, 1.0, 3])),
                "sold": optional(pick.choice([True, False])),
                "kind": optional(self.kind()),
                "kinds": optional(self.some(3, lambda: mostly(self.kind()))),
                "maker": mostly(self.maker(0)),
                "other": optional(self.maker(0)),
                "tags": mostly(pick.choice([tuple, list])(self.some(3, lambda: optional(self.word())))),
                "note": optional(self.word()),
                "slow": optional(pick.randint(0, 9)),
                "read": mostly(self.maker(0)),
                "made": optional(self.word()),
                "parts": optional(self.some(2, lambda: self.thing(depth - 1))) if depth else None,
                "map": mostly(pick.choice([{"b": "1", "a": "2"}, orjson.Fragment('{"b":"1"}')])),
            }
        )

    def things(self) -> Any:
        """Return things, as a list or by column."""
        drawn = self.some(4, lambda: self.mostly(self.thing()))
        return drawn if self.random.random() < 0.5 else by_column(drawn)

    def root(self) -> dict[str, Any]:
        """Return all that there is."""
        mostly, optional = self.mostly, self.optional
        shelf = {
            "things": mostly(self.things()),
            "maker": optional(self.maker()),
            "words": mostly(self.some(3, lambda: mostly(self.some(3, lambda: optional(self.random.randint(0, 9)))))),
        }
        return {
            "things": self.things(),
            "maybe": self.some(4, lambda: optional(self.thing())),
            "makers": self.some(3, lambda: mostly(self.maker())),
            "named": self.some(3, lambda: mostly(self.random.choice([self.thing, self.maker])())),
            "any": self.some(3, lambda: optional(self.random.choice([self.thing, self.maker])())),
            "words": self.some(5, lambda: mostly(self.word())),
            "shelf": shelf,
        }


def by_column(objects: list[Any]) -> Columns | list[Any]:
    """Hold objects by column, if they all are objects."""
    if not objects or not all(type(each) is dict and "weight" in each for each in objects):
        return objects
    names = {name for each in objects for name in each}
    stored = {name: [each.get(name) for each in objects] for name in names}
    return Columns(stored, {name: lambda known, name=name: known[name] for name in names})


def answered(text: str, root: Any, variables: dict[str, Any], executor: Any) -> Any:
    """Execute a document, and return its answer as it is sent: the data, and the errors in any order."""
    document = DOCUMENTS.load(text)
    chosen = document.operation(None).selections if executor is None else executor

    async def go() -> Any:
        given = {"root_value": root, "variable_values": variables, _EXECUTOR: chosen}
        result = execute(SCHEMA, document.ast, **given)
        return result if isinstance(result, graphql.ExecutionResult) else await result

    result = asyncio.run(go())
    data = orjson.dumps(result.data, default=repr)  # in the order of its keys
    # Where one value of several is wrong at once, which of them is told and in which order is up to the executor.
    return data, sorted(orjson.dumps(error.formatted) for error in result.errors or ())


def prepared(text: str, seed: int, odd: float) -> dict[str, Any]:
    """Return what there is, if the document may be executed."""
    try:
        DOCUMENTS.load(text)
    except DocumentRefused as refused:
        assert {error["extensions"]["code"] for error in refused.errors} == {"LIMIT_EXCEEDED"}, text
        reject()  # it asks for the same too often
    return Objects(seed, odd).root()


drawn = given(documents(), st.integers(0, 10**9), st.sampled_from([0.0, 0.01, 0.1]), st.booleans(), st.booleans())
few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@few
@drawn
def test_answers_are_those_of_graphql_core(text: str, seed: int, odd: float, yes: bool, no: bool) -> None:
    """Whatever is selected of whatever there is, data, errors and the order of the answer are graphql-core's own."""
    root = prepared(text, seed, odd)
    # The second time with the selections that were kept, under other values of the variables.
    for variables in ({"yes": yes, "no": no}, {"no": not no}):
        assert answered(text, root, variables, None) == answered(text, root, variables, PLAIN)


@few
@drawn
def test_answers_from_a_thread(
    monkeypatch: pytest.MonkeyPatch, text: str, seed: int, odd: float, yes: bool, no: bool
) -> None:
    """So are those of lists that leave the event loop; of several errors that lead to one null, others may be told."""
    monkeypatch.setattr(execution, "_ON_THE_LOOP", 0)
    root = prepared(text, seed, odd)
    data, errors = answered(text, root, {"yes": yes, "no": no}, None)
    expected, expected_errors = answered(text, root, {"yes": yes, "no": no}, PLAIN)
    assert (data, bool(errors)) == (expected, bool(expected_errors))


def calls_of(name: str, action: Callable[[], Any]) -> int:
    """Count how often a function of that name is called on this thread."""
    count = 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_name == name

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def test_a_list_is_not_executed_field_by_field() -> None:
    """A list of a thousand objects takes graphql-core no more steps than a list of one."""
    objects = Objects(1, 0)
    things = [{**objects.thing(), "kind": "BIG"} for _ in range(1_000)]
    text = "{ things { id name kind maker { name } tags parts { id size } slow read { name } } }"
    few = calls_of("execute_field", lambda: answered(text, {"things": things[:1]}, {}, None))
    many = calls_of("execute_field", lambda: answered(text, {"things": things}, {}, None))
    assert many == few
    assert calls_of("execute_field", lambda: answered(text, {"things": things}, {}, PLAIN)) > 10_000


def test_columns_are_computed_when_they_are_selected() -> None:
    """What nobody selects is not computed, and what is selected is computed once for all objects."""
    asked = []

    def column(name: str) -> Callable[[Any], Any]:
        return lambda known: asked.append(name) or known[name]

    columns = Columns({"id": ["1", "2"], "name": ["a", "b"]}, {name: column(name) for name in ("id", "name")})
    answer, errors = answered("{ things { id same: id } }", {"things": columns}, {}, None)
    assert (answer, errors, asked) == (b'{"things":[{"id":"1","same":"1"},{"id":"2","same":"2"}]}', [], ["id"])
    assert dict(columns[1]) == {"id": "2", "name": "b"}
    assert columns[0].get("weight") is None
    assert [each["name"] for each in columns[:1]] == ["a"]


def test_kept_selections_are_bounded_by_the_text() -> None:
    """However many values its variables take, a document keeps no more selections than its text is long."""
    names = [f"v{number}" for number in range(8)]
    fields = " ".join(f"id @include(if: ${name})" for name in names)
    text = f"query ({' '.join(f'${name}: Boolean!' for name in names)}) {{ things {{ name {fields} }} }}"
    root = {"things": [{"id": "1", "name": "a"}]}
    for number in range(2 ** len(names)):
        variables = {name: bool(number >> place & 1) for place, name in enumerate(names)}
        assert answered(text, root, variables, None) == answered(text, root, variables, PLAIN)
    selections = DOCUMENTS.load(text).operation(None).selections
    assert 0 < selections._size <= len(text) // 8
    assert len(selections._kept) <= selections._size


@given(st.integers(-(10**15), 10**17))
def test_moments(microseconds: int) -> None:
    """A moment is written as Python writes it."""
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert moment(microseconds) == expected.isoformat(timespec="microseconds")


@given(st.lists(st.text(alphabet="ab-", min_size=1, max_size=3) | st.text(alphabet="a, '\"$-=/.\n\\é", max_size=5)))
def test_commands(arguments: list[str]) -> None:
    """A command is quoted as `shlex` does."""
    assert _command("bash run.sh", 0, orjson.dumps(arguments).decode(), _Quoted()) == shlex.join(
        ["bash", "run.sh", *arguments]
    )
