"""`params`: arguments of a script as Python objects, how they travel as JSON, and how a configuration file holds them.

The JSON is described in the schema. What travels of a float is what Python prints, so that all of its digits arrive.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from grid.definition.checks import check_text, shown
from grid.errors import InvalidArgument
from grid.shared.wire import MAX_PARAMS
from grid.sweep.form import Sweep

_ALLOWED = (
    "None, True, False, a number, a string, a path or another object with a text of its own; a tuple of these, which "
    "is one argument of several words; a list of these, which is swept over; or an object of grid.sweep"
)
_NAME = re.compile(r"-{0,2}[^\s=-][^\s=]*")
_RANGE = re.compile(r"range\((-?\d+(?:, *-?\d+){0,2})\)", re.ASCII)
_DEEPEST = 20


# --- what may be given -----------------------------------------------------------------------------------------------


def settled(value: Any) -> Any:
    """Return a copy of `params` that nobody else can change, with plain Python values in it; what is wrong stays.

    Numbers of other libraries become Python's, arrays lists, and their text infinity and NaN, which JSON does not have,
    and what has a text of its own, as paths, decimal numbers and dates have.
    """
    if isinstance(value, Mapping):
        return {name: _settled(each, 0) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [settled(each) if isinstance(each, Mapping) else each for each in value]
    return value


def _settled(value: Any, depth: int) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays, and what is like them
        value = value.tolist()
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (list, tuple)) and depth <= _DEEPEST:
        kind = list if isinstance(value, list) else tuple
        return kind(_settled(each, depth + 1) for each in value)
    # What has none prints as Python describes it, which no script is meant to read.
    has_text = any("__str__" in vars(kind) for kind in type(value).__mro__ if kind is not object)
    return str(value) if has_text and not isinstance(value, (Sweep, Mapping, bytes, bytearray)) else value


def check_params(name: str, value: object) -> None:
    """Refuse what is neither None, nor a dict by name, nor a list of those, and values that cannot be passed on.

    Raises
    ------
    InvalidArgument
        The message says which name it is, what was given and what is allowed.
    """
    value = settled(value)
    if value is None:
        return
    if isinstance(value, Mapping):
        _check_row(name, value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            msg = f"{name} is an empty list, so there would be no experiments; leave it out, or give None"
            raise InvalidArgument(msg)
        for number, row in enumerate(value):
            if not isinstance(row, Mapping):
                msg = f"{name}[{number}] must be a dict from name to value, as each of the list, not {shown(row)}"
                raise InvalidArgument(msg)
            _check_row(f"{name}[{number}]", row)
    else:
        msg = f"{name} must be a dict from name to value, or a list of such dicts, not {shown(value)}"
        raise InvalidArgument(msg)
    _check_length(name, value)


def _check_length(name: str, value: Any) -> None:
    try:
        length = len(write_params_text(value))
    except ValueError as error:  # a number has more digits than Python prints
        msg = f"{name} holds a number that Python does not print: {error}"
        raise InvalidArgument(msg) from error
    if length > MAX_PARAMS:
        msg = f"{name} has {length:,} characters as JSON; at most {MAX_PARAMS:,} are allowed: read them from a file"
        raise InvalidArgument(msg)


def _check_row(place: str, row: Mapping[Any, Any]) -> None:
    first: dict[str, str] = {}
    for name, value in row.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            msg = f"{place}: a name must be a string without white space and without =, as in 'lr', not {shown(name)}"
            raise InvalidArgument(msg)
        check_text(f"{place}: a name", name)
        other = first.setdefault(bare_name(name), name)
        if other != name:
            msg = f"{place} names one argument twice, as {other!r} and {name!r}; a list of values is swept over"
            raise InvalidArgument(msg)
        _check_value(f"{place}[{name!r}]", value)


def _check_value(place: str, value: Any) -> None:
    if isinstance(value, list):
        if not value:
            msg = f"{place} is an empty list, so there would be no experiments; one empty list as a value is [[]]"
            raise InvalidArgument(msg)
        for each in value:
            if isinstance(each, list):
                _check_inner(place, each, 1)
            elif isinstance(each, (Sweep, range)):
                msg = f"{place}: {each!r} cannot stand in a list; it is a list itself"
                raise InvalidArgument(msg)
            else:
                _check_single(place, each)
    elif isinstance(value, range):
        if not value:
            msg = f"{place} is {value!r}, which is empty, so there would be no experiments"
            raise InvalidArgument(msg)
    elif not isinstance(value, Sweep):
        _check_single(place, value)


def _check_single(place: str, value: Any) -> None:
    if isinstance(value, tuple):
        for each in value:
            if each is None or not isinstance(each, (str, int, float)):
                msg = f"{place}: a tuple is several words: strings and numbers, not {shown(each)}"
                raise InvalidArgument(msg)
            _check_single(place, each)
    elif isinstance(value, str):
        check_text(place, value)
    elif value is not None and not isinstance(value, (int, float)):
        hint = ""
        if isinstance(value, Mapping):
            hint = "; the name of what is nested is written with its dots: {'model.lr': 0.1}"
        elif isinstance(value, (set, frozenset)):
            hint = "; a set has no order: write a list"
        msg = f"{place} must be {_ALLOWED}, not {shown(value)}{hint}"
        raise InvalidArgument(msg)


def _check_inner(place: str, value: list[Any], depth: int) -> None:
    """Refuse a list in a list, which is passed on as Python prints it, that is more than a literal."""
    if depth > _DEEPEST:
        msg = f"{place}: a list is nested more than {_DEEPEST} levels deep"
        raise InvalidArgument(msg)
    for each in value:
        if isinstance(each, list):
            _check_inner(place, each, depth + 1)
        elif isinstance(each, str):
            check_text(place, each)
        elif each is not None and not isinstance(each, (int, float)):
            allowed = "strings, numbers, True, False, None and lists of these"
            msg = f"{place}: a list in a list is passed on as Python prints it, and holds {allowed}, not {shown(each)}"
            raise InvalidArgument(msg)


# --- by name ---------------------------------------------------------------------------------------------------------


def bare_name(name: str) -> str:
    """Return the name of an argument without its dashes."""
    return name.lstrip("-")


def without_params(given: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """Return those of the configuration file's arguments, by flag, that `params` does not have.

    Raises
    ------
    InvalidArgument
        If only some of the combinations in `params` have one of them.
    """
    rows = [{bare_name(name) for name in row} for row in _rows(params)]
    kept = {}
    for flag, value in given.items():
        having = sum(bare_name(flag) in row for row in rows)
        if not having:
            kept[flag] = value
        elif having < len(rows):
            msg = (
                f"params has {flag} in {having} of its {len(rows)} combinations, and the configuration file has it for "
                "all: write it in every one of them, or take it out of the file"
            )
            raise InvalidArgument(msg)
    return kept


def _rows(params: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(params, Mapping):
        yield params
    elif params:
        yield from params


# --- as JSON, and in the configuration file --------------------------------------------------------------------------


def write_params_text(params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> str:
    """Return `params` as the JSON text that travels; empty for none."""
    return json.dumps(plain_params(params), ensure_ascii=False, allow_nan=False) if params else ""


def read_params_text(text: str) -> Any:
    """Return the `params` that a JSON text holds; None if it is empty."""
    return _document(json.loads(text), _read) if text else None


def plain_params(params: Any) -> Any:
    """Return `params` as they travel and as a configuration file holds them: dicts, lists, strings and numbers.

    A tuple is ``{"words": [...]}``, an object of :mod:`grid.sweep` and a range ``{"sweep": "..."}``.
    """
    return _document(settled(params), _write)


def read_values(_path: str, _key: str, value: Any) -> Any:
    """Return the `params` that a configuration file holds; whether they are allowed is checked with all others."""
    return _document(value, _read)


def _document(params: Any, turned: Callable[[Any], Any]) -> Any:
    if isinstance(params, Mapping):
        return {name: turned(value) for name, value in params.items()}
    if isinstance(params, list):
        return [_document(row, turned) if isinstance(row, Mapping) else row for row in params]
    return params


def _write(value: Any) -> Any:
    if isinstance(value, Sweep):
        return {"sweep": value.text}
    if isinstance(value, range):
        return {"sweep": repr(value)}
    if isinstance(value, tuple):
        return {"words": list(value)}
    if isinstance(value, list):
        return [_write(each) for each in value]
    return value


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(each) for each in value]
    if isinstance(value, Mapping) and value.keys() == {"words"} and isinstance(value["words"], list):
        return tuple(value["words"])
    if isinstance(value, Mapping) and value.keys() == {"sweep"} and isinstance(value["sweep"], str):
        found = _RANGE.fullmatch(value["sweep"])
        return range(*map(int, found[1].split(","))) if found else Sweep(value["sweep"])
    return value
