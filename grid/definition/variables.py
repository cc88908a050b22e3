"""`environment`: variables of the experiments with their values, or the names of those that the caller has.

It is kept as a mapping where every value is known, else as a list with `NAME` for a variable whose value is taken from
the caller at the start, and `NAME=value` for one that has its value. Values of text never get into messages: they may
be secrets.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from grid.definition.checks import check_text, shown
from grid.errors import InvalidArgument
from grid.shared.masking import MASK, is_secret
from grid.shared.wire import RESERVED_VARIABLES, VARIABLE_NAME

Environment = Mapping[str, str] | Sequence[str] | None
"""What `environment` may be: variables with their values, or names of the caller's own."""

_FORMS = 'a dict of variables, or a list of names whose values are taken from your own environment, as in ["HF_TOKEN"]'


# --- what is given ---------------------------------------------------------------------------------------------------


def take_environment(value: Any) -> Any:
    """Return an environment in the form in which it is kept, None for none; leave what is not allowed as it is."""
    if isinstance(value, Mapping):
        plain = {name: _text(text) for name, text in value.items()}
        return MappingProxyType(plain) if plain else None
    if isinstance(value, (list, tuple)):
        names = [each.partition("=")[0] if isinstance(each, str) else None for each in value]
        if None not in names and len(set(names)) == len(names):
            return _joined(entries(value))
        return list(value)
    return value


def check_environment(name: str, value: object) -> None:
    """Refuse names that a shell could not have, those that Grid sets itself, and values that are not text."""
    if value is None:
        return
    if isinstance(value, str):
        msg = f"{name} must be {_FORMS}, not one string; put it into a list"
        raise InvalidArgument(msg)
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = list(_parted(name, value))
    else:
        msg = f"{name} must be {_FORMS}, not {shown(value)}"
        raise InvalidArgument(msg)
    for variable, text in pairs:
        _check_name(name, variable)
        _check_value(f"{name}: {variable}", str(variable), text)


def _parted(name: str, given: Sequence[object]) -> Iterable[tuple[str, str]]:
    seen = set()
    for each in given:
        if not isinstance(each, str):
            msg = f"{name}: a list must hold names, not {shown(each)}; a dict holds names and their values"
            raise InvalidArgument(msg)
        variable, _, text = each.partition("=")
        if variable in seen:
            msg = f"{name} names {variable} twice; leave one of them out"
            raise InvalidArgument(msg)
        seen.add(variable)
        yield variable, text


def _check_name(name: str, variable: object) -> None:
    if not isinstance(variable, str) or not VARIABLE_NAME.fullmatch(variable):
        msg = f"{name}: a name must be letters, digits and '_' and not start with a digit, not {shown(variable)}"
        raise InvalidArgument(msg)
    if variable in RESERVED_VARIABLES:
        msg = f"{name}: {variable} is set by Grid for every experiment; choose another name"
        raise InvalidArgument(msg)


def _check_value(place: str, variable: str, value: object) -> None:
    if value is None:
        msg = (
            f"{place} has no value: give it one, leave it out, or take it from your own environment with [{variable!r}]"
        )
        raise InvalidArgument(msg)
    if not isinstance(value, str):
        given = f"a value of type {type(value).__name__}" if is_secret(variable, "") else shown(value)
        msg = f"{place} must be a string, not {given}; write it in quotes"
        raise InvalidArgument(msg)
    try:
        check_text(place, value)
    except InvalidArgument:
        msg = f"{place} has a value with a NUL character, or that is not Unicode text; no process can be given it"
        raise InvalidArgument(msg) from None  # the message of that has the value


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


# --- what is kept ----------------------------------------------------------------------------------------------------


def entries(environment: Environment) -> dict[str, str | None]:
    """Return each variable with its value; None for one whose value is the caller's."""
    if isinstance(environment, Mapping):
        return dict(environment)
    parted = (each.partition("=") for each in environment or ())
    return {name: text if equals else None for name, equals, text in parted}


def merged(below: Environment, above: Any) -> Any:
    """Return both environments in one, in which the second wins by name; one that is not allowed is left as it is."""
    try:
        check_environment("environment", above)
    except InvalidArgument:
        return above
    return _joined({**entries(below), **entries(above)})


def without_values(environment: Environment, names: Iterable[str]) -> Environment:
    """Return an environment in which these variables have no values of their own any more."""
    return _joined({**entries(environment), **dict.fromkeys(names)})


def named_only(environment: Environment) -> list[str]:
    """Return the names of the variables whose values are the caller's."""
    return [name for name, text in entries(environment).items() if text is None]


def _joined(found: Mapping[str, str | None]) -> Environment:
    if not found:
        return None
    known = {name: text for name, text in found.items() if text is not None}
    if len(known) == len(found):
        return MappingProxyType(known)
    return [name if text is None else f"{name}={text}" for name, text in found.items()]


# --- how it is written -----------------------------------------------------------------------------------------------


def sent(environment: Environment) -> dict[str, str]:
    """Return an environment as it travels; a value that was not taken from the caller yet is empty."""
    return {name: text or "" for name, text in entries(environment).items()}


def plain(environment: Environment) -> dict[str, str] | list[str]:
    """Return an environment as a configuration file holds it.

    A value that only its owner is told would reach a script as the mask: of such a variable there is the name alone.
    """
    known = _joined({name: None if text == MASK else text for name, text in entries(environment).items()})
    return dict(known) if isinstance(known, Mapping) else list(known or ()) or {}


def words(environment: Environment) -> list[str]:
    """Return an environment as a command line has it: without values that are the caller's or look like secrets."""
    return [
        name if text is None or is_secret(name, text) else f"{name}={text}"
        for name, text in entries(environment).items()
    ]


def shown_environment(environment: Environment, inherited: Iterable[str] = ()) -> dict[str, str | None]:
    """Return an environment as a text for people may have it."""
    hidden = set(inherited)
    return {
        name: MASK if text is not None and (name in hidden or is_secret(name, text)) else text
        for name, text in entries(environment).items()
    }


# --- the caller's own environment ------------------------------------------------------------------------------------


def inherit(environment: Environment, caller: Mapping[str, str]) -> tuple[Environment, tuple[str, ...]]:
    """Take the values of variables that were given by their names alone.

    Parameters
    ----------
    environment
        The run's own.
    caller
        The environment of whoever starts the run.

    Returns
    -------
    environment, names
        The environment with every value, and the names of the variables whose values were taken.

    Raises
    ------
    InvalidArgument
        If the caller does not have one of them.
    """
    names = named_only(environment)
    if missing := [name for name in names if name not in caller]:
        are = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
        what = f'set {missing[0]} before you start the run, or give its value: environment={{"{missing[0]}": "…"}}'
        msg = f"environment: {are} not set in your environment, so no value can be taken from there; {what}"
        raise InvalidArgument(msg)
    found = {**entries(environment), **{name: caller[name] for name in names}}
    for name in names:
        _check_value(f"environment: {name}", name, found[name])
    return _joined(found), tuple(names)
