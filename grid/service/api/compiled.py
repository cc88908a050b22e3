"""A selection of fields, compiled once: it answers for a whole list of objects where graphql-core asks field by field.

A compiled selection can only succeed. Whatever it does not know (a field with a resolver of its own, an interface, an
argument) is not compiled, and whatever does not fit while it works (null where there must be a value, a number that is
none) makes it give up; `execution` then lets graphql-core do the whole list, which finds the same and says where. So
there is no second set of errors, paths and rules, and nothing to undo.

It works on columns: a field is taken from all objects, checked and converted for all of them, and put into the answer
for all of them, mostly by functions that are not written in Python. Nothing is made of text that a client has sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, chain, pairwise, repeat
from math import isfinite
from types import NoneType
from typing import Any

import orjson
from graphql import (
    GraphQLField,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    Undefined,
    is_enum_type,
    is_leaf_type,
)

from grid.service.api.columns import Columns, ObjectInColumns

__all__ = ["Compiled", "Selected", "Unfit", "Unknown", "batched"]

Batch = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]
"""Reads the values of a field for many objects at once."""

Selected = Callable[[GraphQLObjectType, Any], dict[str, Any]]
"""For a type and the place of a selection, the names in the answer with the places of their fields, in order."""

_Complete = Callable[[Sequence[Any]], Sequence[Any]]

_OBJECTS = {dict, ObjectInColumns}
_SMALLEST, _LARGEST = -(2**31), 2**31 - 1
# Values that are neither an exception, which stands for an error, nor called or awaited by graphql-core.
_PLAIN = {str, int, float, bool, dict, list, tuple, orjson.Fragment}
_AT_ONCE = 100
"""How many objects are encoded in one call, during which no other thread runs."""


class Unknown(Exception):
    """The selection has something in it that is not compiled."""


class Unfit(Exception):
    """There is a value that does not fit its type."""


def batched(read: Batch) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return the resolver of a field whose values are read for many objects at once, or for one of them."""

    async def resolve(source: Any, _: Any) -> Any:
        return (await read([source]))[0]

    resolve.batch = read  # type: ignore[attr-defined]
    return resolve


class Compiled:
    """What is selected of the items of a list, ready to be taken from any such list.

    Parameters
    ----------
    item
        The type of the items.
    place
        Where their selection stands, as `selected` takes it.
    selected
        Collects fields as graphql-core does.

    Raises
    ------
    Unknown
        If it cannot be compiled.
    """

    def __init__(self, item: Any, place: Any, selected: Selected) -> None:
        self._selected = selected
        self.size = 0
        """How many fields it holds."""
        self._batches: dict[str, Batch] = {}
        self._complete = self._completion(item, place, self._batches)
        del self._selected

    @property
    def reads(self) -> bool:
        """Whether something must be read before: see `prepare`."""
        return bool(self._batches)

    async def prepare(self, items: Sequence[Any]) -> dict[str, Sequence[Any]]:
        """Read what resolvers would read for each of the items."""
        if set(map(type, items)) <= _OBJECTS:
            return {name: await read(items) for name, read in self._batches.items()}
        raise Unfit

    def answer(self, items: Sequence[Any], prepared: dict[str, Sequence[Any]] | None = None) -> Sequence[Any]:
        """Return the items as they stand in the answer.

        Parameters
        ----------
        items
            The list that a resolver has returned.
        prepared
            What `prepare` has returned for it.

        Raises
        ------
        Exception
            Whatever is wrong with a value: the list must then be done by graphql-core.
        """
        if prepared is not None:
            items = _Prepared(items, prepared)
        return self._complete(items)

    def encoded(self, items: Sequence[Any], prepared: dict[str, Sequence[Any]] | None = None) -> orjson.Fragment:
        """Return what `answer` returns as JSON, which is made piece by piece, so that other threads run in between."""
        answer = self.answer(items, prepared)
        pieces = [orjson.dumps(answer[start : start + _AT_ONCE])[1:-1] for start in range(0, len(answer), _AT_ONCE)]
        return orjson.Fragment(b"".join((b"[", b",".join(pieces), b"]")))

    def _completion(self, type_: Any, place: Any, batches: dict[str, Batch] | None = None) -> _Complete:
        """Return the function that turns values of a type into the answer; with `batches`, fields may be read."""
        if isinstance(type_, GraphQLNonNull):
            return _required(self._completion(type_.of_type, place, batches))
        if isinstance(type_, GraphQLList):
            return _lists(self._completion(type_.of_type, place))
        if isinstance(type_, GraphQLObjectType):
            return self._objects(type_, place, batches)
        if is_leaf_type(type_):
            return _leaves(type_)
        raise Unknown  # an interface or a union

    def _objects(self, type_: GraphQLObjectType, place: Any, batches: dict[str, Batch] | None) -> _Complete:
        if type_.is_type_of is not None:
            raise Unknown
        fields: dict[str, tuple[str, _Complete | None]] = {}
        for key, below in self._selected(type_, place).items():
            name = getattr(below[0], "node", below[0]).name.value  # since graphql-core 3.3, a node is part of an entry
            fields[key] = name, None if name == "__typename" else self._field(type_, name, below, batches)
            self.size += 1
        return _nullable(_rows(type_.name, fields))

    def _field(self, type_: GraphQLObjectType, name: str, place: Any, batches: dict[str, Batch] | None) -> _Complete:
        field: GraphQLField | None = type_.fields.get(name)
        if field is None or field.args:
            raise Unknown
        if field.resolve is not None:
            batch: Batch | None = getattr(field.resolve, "batch", None)
            if batch is None or batches is None:
                raise Unknown
            batches[name] = batch
        return self._completion(field.type, place)


class _Prepared(Sequence[Any]):
    """Objects by column, some of whose fields were read for all of them."""

    def __init__(self, objects: Sequence[Any], read: dict[str, Sequence[Any]]) -> None:
        self._objects = objects
        self._read = read
        self._take = _columns_of(objects)

    def column(self, field: str) -> Sequence[Any]:
        read = self._read.get(field)
        return self._take(field) if read is None else read

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, index: Any) -> Any:
        return self._objects[index]


def _columns_of(objects: Sequence[Any]) -> Callable[[str], Sequence[Any]]:
    """Return what takes the values of a field from objects, as graphql-core's default resolver does from each."""
    if isinstance(objects, (Columns, _Prepared)):
        return objects.column
    if not set(map(type, objects)) <= _OBJECTS:
        raise Unfit
    return lambda field: [each.get(field) for each in objects]


def _rows(type_name: str, fields: dict[str, tuple[str, _Complete | None]]) -> _Complete:
    keys = tuple(fields)

    def complete(objects: Sequence[Any]) -> Sequence[Any]:
        take, number = _columns_of(objects), len(objects)
        columns = [[type_name] * number if finish is None else finish(take(field)) for field, finish in fields.values()]
        if not columns:
            return [{} for _ in objects]
        return list(map(dict, map(zip, repeat(keys), zip(*columns, strict=True))))

    return complete


def _required(complete: _Complete) -> _Complete:
    def completed(values: Sequence[Any]) -> Sequence[Any]:
        answer = complete(values)
        if None in answer:
            raise Unfit
        return answer

    return completed


def _nullable(complete: _Complete) -> _Complete:
    """Let something work on values of which some are null, and on one object that many have in common only once."""

    def completed(values: Sequence[Any]) -> Sequence[Any]:
        if isinstance(values, (Columns, _Prepared)):
            return complete(values)
        different = {id(value): value for value in values if value is not None}
        answers = dict(zip(different, complete(list(different.values())), strict=True))
        return [None if value is None else answers[id(value)] for value in values]

    return completed


def _lists(complete: _Complete) -> _Complete:
    def completed(lists: Sequence[Any]) -> Sequence[Any]:
        if not set(map(type, lists)) <= {list, tuple}:
            raise Unfit
        items = complete(list(chain.from_iterable(lists)))
        ends = list(accumulate(map(len, lists), initial=0))
        return [items[start:end] for start, end in pairwise(ends)]

    return _nullable(completed)


def _leaves(type_: Any) -> _Complete:
    convert = getattr(type_, "coerce_output_value", type_.serialize)  # the former since graphql-core 3.3
    exact, is_valid = _EXACT.get(type_.name, (set(), None))
    if convert is GraphQLScalarType.serialize:  # a scalar that is answered as it is
        exact = _PLAIN

    def completed(values: Sequence[Any]) -> Sequence[Any]:
        kinds = set(map(type, values))
        if kinds - {NoneType} <= exact and (is_valid is None or is_valid(values)):
            return values
        if not kinds - {NoneType} <= _PLAIN:
            raise Unfit
        known: dict[Any, Any] = {None: None}
        if is_enum_type(type_) and kinds <= {str, NoneType}:  # few words, and each many times
            known |= {word: _converted(convert, word) for word in set(values) - {None}}
            return [known[word] for word in values]
        return [None if value is None else _converted(convert, value) for value in values]

    return completed


def _converted(convert: Callable[[Any], Any], value: Any) -> Any:
    converted = convert(value)
    if converted is None or converted is Undefined:
        raise Unfit
    return converted


def _are_in_range(values: Sequence[int | None]) -> bool:
    present = [value for value in values if value is not None]
    return not present or (min(present) >= _SMALLEST and max(present) <= _LARGEST)


def _are_finite(values: Sequence[float | None]) -> bool:
    return all(isfinite(value) for value in values if value is not None)


# For the scalars of GraphQL itself: which values are answered as they are, and what else must hold for all of them.
_EXACT: dict[str, tuple[set[type], Callable[[Sequence[Any]], bool] | None]] = {
    "String": ({str}, None),
    "ID": ({str}, None),
    "Boolean": ({bool}, None),
    "Int": ({int}, _are_in_range),
    "Float": ({float}, _are_finite),
}
