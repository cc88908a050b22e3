"""The scalars of the schema that check their input."""

from __future__ import annotations

from ariadne import ScalarType

_string_map = ScalarType("StringMap")

BINDABLES = (_string_map,)


@_string_map.value_parser
def _parse_string_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        message = "a StringMap is an object whose values are all strings"
        raise ValueError(message)
    return value
