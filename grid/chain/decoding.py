"""Converts JSON into models and back. The models themselves are in `grid.models`.

The service's answers are decoded by a converter that is compiled once for each class. What users call,
`Model.from_dict` and its siblings, is dataclasses-json over the same fields and names, but far slower; tests make sure
that the two agree.
"""

from __future__ import annotations

import functools
import json
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from grid.errors import InvalidArgument, InvalidResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from cattrs import Converter
    from dataclasses_json import DataClassJsonMixin

    _Hook = Callable[[Any, Any], Any]

__all__ = ["Model", "camel_case", "decode", "read_time", "write_time"]

_M = TypeVar("_M", bound="Model")

# What a converter raises for an answer of the wrong shape: a missing key, a list for an object, an unknown word.
_MISFITS = (KeyError, TypeError, ValueError, AttributeError)

_HOOKS: dict[Any, _Hook] = {}

# How a message names what was received, and what was expected.
_WORDS = {
    NoneType: "null",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    datetime: "a moment in time",
}


class Model:
    """Base of every model: converts to and from JSON, with the names of the wire.

    Unknown fields are ignored, times are ISO 8601 in UTC.
    """

    __slots__ = ()

    dataclass_json_config: ClassVar[dict[str, Any] | None] = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that the service sent for this, with the names of the wire.

        Returns
        -------
        dict
            Strings, numbers, booleans, None, lists and dictionaries only.
        """
        return _codec().to_dict(self)  # type: ignore[arg-type]

    def to_json(self, *, indent: int | None = None) -> str:
        """Return what `to_dict` returns, as JSON text.

        Parameters
        ----------
        indent
            How many spaces to indent each level by; None for a single line.
        """
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> Self:
        """Return the model for a JSON object such as `to_dict` returns.

        Parameters
        ----------
        payload
            The object, with the names of the wire. Fields that the model does not have are ignored.

        Raises
        ------
        InvalidArgument
            If the object does not have the model's shape.
        """
        try:
            return _codec().from_dict.__func__(cls, payload)  # type: ignore[no-any-return,attr-defined]
        except KeyError as error:
            message = f"this does not fit {cls.__name__}: the field {error} is missing"
            raise InvalidArgument(message) from error
        except (AttributeError, TypeError, ValueError) as error:
            message = f"this does not fit {cls.__name__}: {error}"
            raise InvalidArgument(message) from error

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the model for a JSON text such as `to_json` returns.

        Parameters
        ----------
        text
            The JSON text of one object.

        Raises
        ------
        InvalidArgument
            If the text is not JSON, or does not have the model's shape.
        """
        try:
            payload = json.loads(text)
        except ValueError as error:
            message = f"this does not fit {cls.__name__}: it is not JSON, {error}"
            raise InvalidArgument(message) from error
        return cls.from_dict(payload)


@functools.cache
def _codec() -> type[DataClassJsonMixin]:
    # Imported on first use: it costs more than everything that is imported before it.
    from dataclasses_json import DataClassJsonMixin, LetterCase, Undefined, config  # noqa: PLC0415

    names = config(letter_case=LetterCase.CAMEL, undefined=Undefined.EXCLUDE)
    Model.dataclass_json_config = names["dataclasses_json"]
    return DataClassJsonMixin


def decode(cls: type[_M], payload: Mapping[str, Any]) -> _M:
    """Decode what stands under `data` in an answer, or a part of it.

    Parameters
    ----------
    cls
        The model of the selection, a subclass of `Model`.
    payload
        The JSON object, with the names of the wire.

    Returns
    -------
    Model
        An instance of `cls`. Fields that the model does not have are ignored.

    Raises
    ------
    InvalidResponse
        If the payload does not have the model's shape; the message names the class and the place.
    """
    try:
        return _compiled(cls)(payload, cls)  # type: ignore[no-any-return]
    except _MISFITS as error:
        fault = _fault(cls, payload, "data") or f"{type(error).__name__}: {error}"
        message = (
            f"the service's answer does not fit {cls.__name__}: {fault}. "
            "Check that the URL is that of a Grid service, and that the versions of client and service match"
        )
        raise InvalidResponse(message) from error


def camel_case(name: str) -> str:
    """Return the name of a field on the wire and in the schema: `commit_sha` is `commitSha`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


_parse_time = datetime.fromisoformat


def read_time(text: str | datetime) -> datetime:
    """Return the moment that an ISO 8601 text with an offset stands for, in UTC.

    Raises
    ------
    ValueError
        If the text does not stand for a moment, or has no offset.
    """
    moment = _parse_time(text) if isinstance(text, str) else text
    if moment.tzinfo is UTC:
        return moment
    if moment.utcoffset() is None:
        message = f"{text!s} is not a moment in time: it needs an offset, as in 2021-08-10T16:59:58.044624+00:00"
        raise ValueError(message)
    return moment.astimezone(UTC)


def write_time(moment: datetime | None) -> str | None:
    """Return a moment as the wire writes it: ISO 8601 in UTC, with microseconds; None stays None."""
    return None if moment is None else read_time(moment).isoformat(timespec="microseconds")


def _compiled(hint: Any) -> _Hook:
    hook = _HOOKS.get(hint)
    if hook is None:
        hook = _HOOKS[hint] = _compile(hint)
    return hook


def _compile(hint: Any) -> _Hook:
    """Return the function that turns the JSON of a type into its value.

    Each field gets its hook here: the converter's own choice would take an enum of strings for a string, and turn a
    missing string into the word "None".
    """
    if hint in _SCALARS:
        return _SCALARS[hint]
    if _is_optional(hint):
        return _optional(hint)
    if _is_tuple(hint):
        return _list(hint)
    if _is_enum(hint):
        return _word(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _object(hint)
    message = f"no answer can be decoded into {hint}: models hold models, scalars, enums and tuples, or None"
    raise NotImplementedError(message)


@functools.cache
def _converter() -> Converter:
    # Imported for the first answer, so that importing the models stays cheap.
    from cattrs import Converter  # noqa: PLC0415

    return Converter(detailed_validation=False)


def _object(cls: type[Any]) -> _Hook:
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415  # as above

    hints = get_type_hints(cls)
    names: dict[str, Any] = {
        field.name: override(rename=camel_case(field.name), struct_hook=_compiled(hints[field.name]))
        for field in fields(cls)
    }
    return make_dict_structure_fn(cls, _converter(), _cattrs_detailed_validation=False, **names)


def _optional(hint: Any) -> _Hook:
    inner = next(option for option in get_args(hint) if option is not NoneType)
    read = _compiled(inner)
    return lambda value, _: None if value is None else read(value, inner)


def _list(hint: Any) -> _Hook:
    item = get_args(hint)[0]
    read = _compiled(item)

    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        if value.__class__ is not list:
            raise _unexpected(value, list)
        return tuple([read(element, item) for element in value])

    return structure


def _word(enum: type[Enum]) -> _Hook:
    members = {member.value: member for member in enum}
    return lambda value, _: members[value]  # several times faster than calling the class


def _is_optional(hint: Any) -> bool:
    return NoneType in get_args(hint)


def _is_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _text(value: Any, _: Any) -> Any:
    if value.__class__ is str:
        return value
    raise _unexpected(value, str)


def _whole(value: Any, _: Any) -> Any:
    if value.__class__ is int:
        return value
    raise _unexpected(value, int)


def _number(value: Any, _: Any) -> Any:
    if value.__class__ is float:
        return value
    if value.__class__ is int:
        return float(value)
    raise _unexpected(value, float)


def _truth(value: Any, _: Any) -> Any:
    if value.__class__ is bool:
        return value
    raise _unexpected(value, bool)


def _time(value: Any, _: Any) -> Any:
    if value.__class__ is str:
        moment = _parse_time(value)
        return moment if moment.tzinfo is UTC else read_time(moment)
    raise _unexpected(value, datetime)


def _string_map(value: Any, _: Any) -> Any:
    if value.__class__ is not dict:
        raise _unexpected(value, dict)
    for entry in value.values():
        if entry.__class__ is not str:
            raise _unexpected(entry, str)
    return dict(value)


_SCALARS: dict[Any, _Hook] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    datetime: _time,
    dict[str, str]: _string_map,
}


def _unexpected(value: object, expected: type) -> TypeError:
    return TypeError(f"expected {_WORDS[expected]}, got {_WORDS.get(type(value), type(value).__name__)}")


def _fault(expected: Any, value: Any, path: str) -> str | None:
    """Return where and why a value does not fit; called only after the compiled converter has refused it."""
    if _is_optional(expected):
        inner = next(option for option in get_args(expected) if option is not NoneType)
        return None if value is None else _fault(inner, value, path)
    if is_dataclass(expected):
        return _fault_of_object(expected, value, path)
    if _is_tuple(expected) and isinstance(value, list):
        item = get_args(expected)[0]
        faults = (_fault(item, element, f"{path}[{index}]") for index, element in enumerate(value))
        return next((fault for fault in faults if fault), None)
    try:
        _compiled(expected)(value, expected)
    except _MISFITS as error:
        if _is_enum(expected):
            return f"{path} is {value!r}, but the known values are {', '.join(member.value for member in expected)}"
        return f"{path}: {error}"
    return None


def _fault_of_object(cls: Any, value: Any, path: str) -> str | None:
    if not isinstance(value, dict):
        return f"{path}: {_unexpected(value, dict)}"
    types = get_type_hints(cls)
    for field in fields(cls):
        name = camel_case(field.name)
        place = f"{path}.{name}"
        if name in value:
            if found := _fault(types[field.name], value[name], place):
                return found
        elif field.default is MISSING and field.default_factory is MISSING:
            return f"{place} is missing"
    return None
