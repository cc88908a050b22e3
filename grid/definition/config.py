"""The YAML configuration file of a run: read into the arguments that it fills, and written from them.

Here is the shape of the file and which argument stands where. Whether a value is allowed is asked of
:mod:`grid.definition.run_definition`, which is also where arguments and file meet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grid.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ACTIONS = ("on_build_start", "on_build_end", "on_experiment_start", "on_experiment_end")
"""When a cluster may run shell commands around the script."""

_ARGUMENT_OF_KEY = {
    "compute.provider.cluster": "cluster",
    "compute.train.framework": "framework",
    "compute.train.environment": "environment",
    "compute.train.dependency_file_info.path": "dependency_file",
    "compute.train.instance": "instance_type",
    "compute.train.use_spot": "use_spot",
    "compute.train.cpus": "cpus",
    "compute.train.gpus": "gpus",
    "compute.train.localdir": "localdir",
    "compute.train.dockerfile": "dockerfile",
    "compute.train.auto_resume": "auto_resume",
    "compute.train.max_retries": "max_retries",
    "compute.train.timeout": "timeout",
    "compute.train.datastore_name": "datastore_name",
    "compute.train.datastore_version": "datastore_version",
    "compute.train.datastore_mount_dir": "datastore_mount_dir",
    "compute.train.actions": "actions",
    "hyper_params.settings.strategy": "strategy",
    "hyper_params.settings.strategy_options.num_trials": "num_trials",
    "hyper_params.settings.strategy_options.seed": "seed",
    "hyper_params.params": "params",
}

_ONLY_WHERE_SET = {"max_retries", "timeout"}
"""What a document names only where it is asked for; everything else is always in it."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says.

    Attributes
    ----------
    path
        The file.
    values
        By the name of the argument: only what the file has, and nothing that is null there.
    """

    path: str
    values: Mapping[str, Any]

    def where(self, argument: str) -> str:
        """Say where in the file an argument stands, for messages."""
        key = next(key for key, name in _ARGUMENT_OF_KEY.items() if name == argument)
        return f"{self.path}: {key}"


def read_config(path: str) -> ConfigFile:
    """Read a configuration file.

    Its keys, and the shape of whatever is nested, are checked; plain values are left as YAML gives them.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ConfigError
        The file is missing, cannot be read, is no YAML, has a key that is not known, or something of another shape
        where keys or a list belong.
    """
    document = _load(path)
    values: dict[str, Any] = {}
    try:
        _collect(path, document, "", values)
    except RecursionError as error:
        msg = f"the configuration file {path!r} holds something that contains itself"
        raise ConfigError(msg) from error
    return ConfigFile(path, values)


def config_document(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write arguments as the nested document that :func:`read_config` reads them from; empty texts become null."""
    document: dict[str, Any] = {}
    for key, argument in _ARGUMENT_OF_KEY.items():
        *sections, last = key.split(".")
        section = document
        for name in sections:
            section = section.setdefault(name, {})
        value = arguments[argument]
        if argument in _ONLY_WHERE_SET and not value:
            continue
        if argument == "actions":
            value = {moment: list(value.get(moment, ())) for moment in ACTIONS}
        elif argument in {"environment", "params"}:
            value = dict(value)
        section[last] = None if value == "" else value
    return document


def param_words(params: Mapping[str, Any]) -> list[str]:
    """Write ``hyper_params.params`` as words of the script's command line, as a shell would split them.

    ``True`` and null give the bare flag, ``False`` leaves it out. Texts stay as they are, so that a sweep in them is
    seen; a list is written as the list of a sweep.

    Examples
    --------
    >>> param_words({"--lr": "uniform(0, 1, 3)", "--layers": [1, 2], "--fast": True, "--slow": False})
    ['--lr', 'uniform(0, 1, 3)', '--layers', '[1, 2]', '--fast']
    """
    words: list[str] = []
    for flag, value in params.items():
        if value is None or value is True:
            words.append(flag)
        elif value is not False:
            text = value if isinstance(value, str) else repr(value)
            if text.startswith("-") and isinstance(value, str) and flag.startswith("--"):
                words.append(f"{flag}={text}")  # as a word of its own it would read as the next flag
            else:
                words += [flag, text]
    return words


def _load(path: str) -> object:
    import yaml  # noqa: PLC0415 - few runs have a configuration file

    try:
        with open(path, encoding="utf-8-sig") as file:
            return yaml.safe_load(file)
    except FileNotFoundError as error:
        msg = f"there is no configuration file {path!r}; give the path of a YAML file as config_file"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"the configuration file {path!r} cannot be read: {error.strerror}"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"the configuration file {path!r} is not UTF-8 text: {error.reason} at byte {error.start}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # ValueError: a text that looks like a date and is none, 2021-02-30 say, comes out of the YAML library as one.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        msg = f"the configuration file {path!r} is not valid YAML{line}: {problem}"
        raise ConfigError(msg) from error


def _collect(path: str, section: object, prefix: str, values: dict[str, Any]) -> None:
    """Walk the sections of the document down to the arguments."""
    if section is None:
        return
    known = [key.removeprefix(prefix).split(".")[0] for key in _ARGUMENT_OF_KEY if key.startswith(prefix)]
    for name, value in _mapping(path, section, prefix.removesuffix("."), known).items():
        key = prefix + name
        argument = _ARGUMENT_OF_KEY.get(key)
        if argument is None:
            _collect(path, value, f"{key}.", values)
        elif value is not None:
            values[argument] = _NESTED[argument](path, key, value) if argument in _NESTED else value


def _mapping(path: str, value: object, key: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    place = f"{path}: {key}" if key else path
    if not isinstance(value, dict):
        expected = f"the keys {', '.join(dict.fromkeys(known))}" if known is not None else "keys and their values"
        msg = f"{place} must hold {expected}, not {shown(value)}"
        raise ConfigError(msg)
    for name in value:
        if known is None and not isinstance(name, str):
            msg = f"{place} must have texts as keys, not {shown(name)}; put it in quotes"
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


def _environment(path: str, key: str, value: object) -> dict[str, str]:
    environment = {}
    for name, text in _mapping(path, value, key).items():
        if isinstance(text, bool) or not isinstance(text, (str, int, float)):
            msg = f"{path}: {key}.{name} must be a text or a number, not {shown(text)}; put it in quotes"
            raise ConfigError(msg)
        environment[name] = str(text)
    return environment


def _actions(path: str, key: str, value: object) -> dict[str, list[str]]:
    actions = {}
    for moment, commands in _mapping(path, value, key, ACTIONS).items():
        if commands is None:
            continue
        if not isinstance(commands, list) or not all(isinstance(command, str) for command in commands):
            msg = f"{path}: {key}.{moment} must be a list of shell commands, not {shown(commands)}"
            raise ConfigError(msg)
        if commands:
            actions[moment] = commands
    return actions


_FLAG_NAME = re.compile(r"[^\W\d][^\s=]*")


def _params(path: str, key: str, value: object) -> dict[str, Any]:
    params = _mapping(path, value, key)
    for flag, given in params.items():
        stripped = flag.removeprefix("-").removeprefix("-")
        if stripped == flag or not _FLAG_NAME.fullmatch(stripped):
            msg = f"{path}: {key}: {flag!r} is no flag; write it with its dashes, as in --learning_rate"
            raise ConfigError(msg)
        _check_param(f"{path}: {key}.{flag}", given)
    return params


def _check_param(place: str, value: object) -> None:
    if isinstance(value, list):
        for element in value:
            _check_param(place, element)
    elif value is not None and not isinstance(value, (str, int, float)):
        allowed = "a text, a number, true, false, null or a list of these"
        msg = f"{place} must be {allowed}, not {shown(value)}; put it in quotes"
        raise ConfigError(msg)


_NESTED = {"environment": _environment, "actions": _actions, "params": _params}


_LONGEST_SHOWN = 80


def shown(value: object) -> str:
    """Return a value as a message quotes it: as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
