"""The scalars of the schema that check their input."""

from __future__ import annotations

from ariadne import ScalarType

_string_map = ScalarType("StringMap")

BINDABLES = (_string_map,)


@_string_map.value_parser
def _parse_string_map(value: object) -> dict[str, str]:
    # No step for each entry: there may be 10,000 of them, and this is the event loop.
    if not isinstance(value, dict) or not {*map(type, value), *map(type, value.values())} <= {str}:
        message = "a StringMap is an object whose values are all strings"
        raise ValueError(message)
    return value
