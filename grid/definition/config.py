"""The YAML configuration file of a run: read into the arguments that it fills, and written from them.

Which argument stands where is defined in :mod:`grid.definition.arguments`, as is what each may be; file and arguments
meet in :mod:`grid.definition.run_definition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grid.definition.arguments import TABLE, ConfigKey
from grid.definition.nested import read_mapping
from grid.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS: Mapping[str, tuple[ConfigKey, str]] = {
    key.path: (key, name)
    for key, name in sorted(
        ((row.config, name) for name, row in TABLE.items() if row.config is not None), key=lambda pair: pair[0].order
    )
}
"""The arguments that a file can hold by their dotted keys, in the order of the file."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says.

    Attributes
    ----------
    path
        The file.
    values
        By the name of the argument: only what the file sets, and nothing that is null there.
    """

    path: str
    values: Mapping[str, Any]

    def where(self, argument: str) -> str:
        """Return where in the file an argument stands, for messages."""
        key = TABLE[argument].config
        return f"{self.path}: {key.path}" if key else self.path


def read_config(path: str) -> ConfigFile:
    """Read a configuration file.

    Its keys, and the shape of whatever is nested, are checked; plain values are left as YAML gives them, but for those
    that reach the script, which are as they are written.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ConfigError
        If the file is missing, cannot be read, is not YAML, has an unknown key or one that stands twice, or has
        something of another shape where keys or a list belong.
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
    """Return arguments as the nested document that :func:`read_config` reads them from; empty strings become null."""
    document: dict[str, Any] = {}
    for key, argument in _KEYS.values():
        value = arguments[argument]
        if key.only_if_set and value == TABLE[argument].default:
            continue
        *sections, last = key.path.split(".")
        section = document
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = None if value == "" else key.write(value)
    return document


def _load(path: str) -> object:
    import yaml  # noqa: PLC0415 - few runs have a configuration file

    from grid.definition.written import load  # noqa: PLC0415 - as above

    try:
        with open(path, encoding="utf-8-sig") as file:
            return load(path, file.read())
    except FileNotFoundError as error:
        msg = f"there is no configuration file {path!r}; give the path of a YAML file as config_file"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"the configuration file {path!r} cannot be read: {error.strerror}"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"the configuration file {path!r} is not UTF-8 text: {error.reason} at byte {error.start}"
        raise ConfigError(msg) from error
    except ConfigError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # ValueError: the YAML library raises one for text that looks like a date but is not, such as 2021-02-30.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        msg = f"the configuration file {path!r} is not valid YAML{line}: {problem}"
        raise ConfigError(msg) from error


def _collect(path: str, section: object, prefix: str, values: dict[str, Any]) -> None:
    """Walk the sections of the document down to the arguments."""
    if section is None:
        return
    known = [key.removeprefix(prefix).split(".")[0] for key in _KEYS if key.startswith(prefix)]
    for name, value in read_mapping(path, section, prefix.removesuffix("."), known).items():
        key = prefix + name
        if key not in _KEYS:
            _collect(path, value, f"{key}.", values)
        elif value is not None:
            found, argument = _KEYS[key]
            values[argument] = found.read(path, key, value)
