"""What is nested in the configuration file (environment, actions and params): how each is read and written.

Where they stand in the file is defined in :mod:`grid.definition.arguments`; the file itself is read in
:mod:`grid.definition.config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grid.definition.checks import shown
from grid.errors import ConfigError

ACTIONS = ("on_build_start", "on_build_end", "on_experiment_start", "on_experiment_end")
"""When a cluster may run shell commands around the script."""


def read_mapping(path: str, value: object, key: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    """Return a section as it stands in the file, after checking that it is one and has only known keys.

    Raises
    ------
    ConfigError
        If the check fails; the message names the file, the place and what is allowed there.
    """
    place = f"{path}: {key}" if key else path
    if not isinstance(value, dict):
        expected = f"the keys {', '.join(dict.fromkeys(known))}" if known is not None else "keys and their values"
        msg = f"{place} must hold {expected}, not {shown(value)}"
        raise ConfigError(msg)
    for name in value:
        if known is None and not isinstance(name, str):
            msg = f"{place} must have strings as keys, not {shown(name)}; put it in quotes"
            raise ConfigError(msg)
        if known is not None and name not in known:
            dotted = f"{key}.{name}" if key else str(name)
            msg = f"{path}: unknown key {dotted}; {_nearest(name, known)}"
            raise ConfigError(msg)
    return value


def _nearest(name: object, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only for messages

    allowed = list(dict.fromkeys(known))
    close = difflib.get_close_matches(str(name), allowed, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known here: {', '.join(allowed)}"


def read_environment(path: str, key: str, value: object) -> dict[str, str] | list[str]:
    """Return environment variables: keys and values, or a list of names that may have a value behind ``=``.

    A variable that is null is left out.
    """
    texts = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else None
    if texts is None:
        msg = f"{path}: {key} must hold names and their values, or a list of names; not one text"
        raise ConfigError(msg)
    for text in texts:
        if isinstance(text, (list, dict)):
            msg = f"{path}: {key} must have a text for each variable, not a list or keys of their own; put it in quotes"
            raise ConfigError(msg)
    if isinstance(value, list):
        return [text for text in texts if text is not None]
    return {name: text for name, text in read_mapping(path, value, key).items() if text is not None}


def read_actions(path: str, key: str, value: object) -> dict[str, list[str]]:
    """Return shell commands by their moment, without the moments that have none."""
    actions = {}
    for moment, commands in read_mapping(path, value, key, ACTIONS).items():
        if commands is None:
            continue
        if not isinstance(commands, list) or not all(isinstance(command, str) for command in commands):
            msg = f"{path}: {key}.{moment} must be a list of shell commands, not {shown(commands)}"
            raise ConfigError(msg)
        if commands:
            actions[moment] = commands
    return actions


_SWITCHED = [True, False]
_FLAG_NAME = re.compile(r"[^\W\d][^\s=]*")


def read_params(path: str, key: str, value: object) -> dict[str, Any]:
    """Return script arguments by their flag, without those that are null."""
    params = read_mapping(path, value, key)
    for flag, given in params.items():
        stripped = flag.removeprefix("-").removeprefix("-")
        if stripped == flag or not _FLAG_NAME.fullmatch(stripped):
            msg = f"{path}: {key}: {flag!r} is not a flag; write it with its dashes, as in --learning_rate"
            raise ConfigError(msg)
        _check_param(f"{path}: {key}.{flag}", given)
    return {flag: given for flag, given in params.items() if given is not None}


def _check_param(place: str, value: object) -> None:
    if not isinstance(value, list):
        if value is not None and not isinstance(value, (str, int, float)):
            allowed = "a string, a number, true, false, null or a list of these"
            msg = f"{place} must be {allowed}, not {shown(value)}; put it in quotes"
            raise ConfigError(msg)
        return
    is_switch = value == _SWITCHED and all(isinstance(each, bool) for each in value)
    for element in value:
        if (element is None or isinstance(element, bool)) and not is_switch:
            word = "null" if element is None else str(element).lower()
            one = f"put {word} in quotes if the script is to get that word"
            msg = f"{place} has {word} in a list; {one}, and write [true, false] for a flag that is there or not"
            raise ConfigError(msg)
        _check_element(place, element)


def _check_element(place: str, value: object) -> None:
    if isinstance(value, list):
        for element in value:
            _check_element(place, element)
    elif value is not None and not isinstance(value, (str, int, float)):
        msg = f"{place} must hold strings, numbers or lists of these, not {shown(value)}; put it in quotes"
        raise ConfigError(msg)


def write_actions(actions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return every moment, including those without commands."""
    return {moment: list(actions.get(moment, ())) for moment in ACTIONS}


def param_words(params: Mapping[str, Any], *, is_swept: bool = True) -> list[str]:
    """Return ``hyper_params.params`` as words of the script's command line, as a shell would split them.

    ``True`` gives the bare flag, ``False`` leaves it out. Strings stay as they are, so that a sweep in them is seen; a
    list is written as the list of a sweep, or as Python prints it where nothing is swept.

    Examples
    --------
    >>> param_words({"--lr": "uniform(0, 1, 3)", "--layers": [1, 2], "--fast": True, "--slow": False})
    ['--lr', 'uniform(0, 1, 3)', '--layers', '[1, 2]', '--fast']
    >>> param_words({"--tied": [True, False], "--hidden": [[64, 64]]})
    ['--tied', 'switch()', '--hidden', '[[64, 64]]']
    """
    words: list[str] = []
    for flag, value in params.items():
        if value is True:
            words.append(flag)
        elif value is not False:
            text = _list_text(value) if is_swept and isinstance(value, list) else str(value)
            if text.startswith("-") and isinstance(value, str) and flag.startswith("--"):
                words.append(f"{flag}={text}")  # as a word of its own it would read as the next flag
            else:
                words += [flag, text]
    return words


def _list_text(values: list[Any]) -> str:
    if values == _SWITCHED and all(isinstance(each, bool) for each in values):
        return "switch()"
    if len(values) == 1 and not isinstance(values[0], list):
        return repr([str(values[0])])  # a number alone would read as a list that was meant to be one value
    return repr(values)
