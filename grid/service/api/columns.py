"""Objects of one type, held by column: what a page is to resolvers, and to a selection that is compiled for it.

A column is computed when it is first asked for, for all objects at once: what nobody selects costs nothing, and the
others cost no call for each object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

__all__ = ["Columns", "ObjectInColumns", "Stored"]

Stored = Mapping[str, Sequence[Any]]
"""The columns as the database has them, each under its own name and all of one length."""


class Columns(Sequence[Mapping[str, Any]]):
    """Objects of one type. Each is a mapping from its fields to their values, as default resolvers take it.

    Parameters
    ----------
    stored
        What is known of the objects.
    fields
        For each field how its column comes from what is known; a field has the same name as in the schema.
    """

    __slots__ = ("_computed", "_fields", "_size", "_stored")

    def __init__(self, stored: Stored, fields: Mapping[str, Callable[[Stored], Sequence[Any]]]) -> None:
        self._stored = stored
        self._fields = fields
        self._size = len(next(iter(stored.values())))
        self._computed: dict[str, Sequence[Any]] = {}

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields that the objects have."""
        return self._fields

    def column(self, field: str) -> Sequence[Any]:
        """Return the values of a field, in the order of the objects; None for each if they have no such field."""
        # Two threads that come at once compute the same.
        found = self._computed.get(field)
        if found is None:
            compute = self._fields.get(field)
            found = [None] * self._size if compute is None else compute(self._stored)
            self._computed[field] = found
        return found

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        places = range(self._size)[index]
        if isinstance(places, int):
            return ObjectInColumns(self, places)
        return [ObjectInColumns(self, place) for place in places]


class ObjectInColumns(Mapping[str, Any]):
    """One of the objects."""

    __slots__ = ("_columns", "_place")

    def __init__(self, columns: Columns, place: int) -> None:
        self._columns = columns
        self._place = place

    def __getitem__(self, field: str) -> Any:
        if field not in self._columns.fields:
            raise KeyError(field)
        return self._columns.column(field)[self._place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns.fields)

    def __len__(self) -> int:
        return len(self._columns.fields)
