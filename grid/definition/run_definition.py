"""The definition of a run before it is sent: the value of each argument, whether it is allowed, and how it is written.

Nothing is sent from here, and no state of a run is kept; :mod:`grid.run` does that.
"""

from __future__ import annotations

import os
import shlex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from grid.chain.decoding import camel_case
from grid.definition.arguments import TABLE, DefinitionArguments, Printed
from grid.definition.config import ConfigFile, config_document, read_config
from grid.definition.nested import param_words
from grid.definition.params import without_params
from grid.definition.starting import check_together, module_of
from grid.definition.variables import inherit, merged, named_only, shown_environment, without_values
from grid.errors import ConfigError, InvalidArgument, SourceError
from grid.shared.words import split, starts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grid.models import RunRecord

_COMMAND_START = "'grid run --entrypoint "


class RunDefinition(DefinitionArguments):
    """A value for every argument of a run. Immutable: :meth:`evolve` returns a changed one.

    Make one with :meth:`from_arguments`, which reads the configuration file.

    Attributes
    ----------
    values
        Every argument by its name, defaults included.
    given
        The arguments that were given, whether they differ from the default or not: they override the file.
    config
        What the configuration file said when it was read.
    """

    __slots__ = ("config", "given", "values")
    __hash__ = None  # type: ignore[assignment]  # some values are mappings

    values: Mapping[str, Any]
    given: Mapping[str, Any]
    config: ConfigFile | None

    def __init__(
        self, *, given: Mapping[str, Any] = MappingProxyType({}), config: ConfigFile | None = None, **values: Any
    ) -> None:
        if unknown := values.keys() - TABLE.keys():
            msg = f"a run has no argument {', '.join(sorted(unknown))}"
            raise TypeError(msg)
        every = {name: values.get(name, row.default) for name, row in TABLE.items()}
        object.__setattr__(self, "values", MappingProxyType(every))
        object.__setattr__(self, "given", given)
        object.__setattr__(self, "config", config)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"the definition of a run is immutable: use definition.evolve({name}=…), which returns a changed one"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        return self.values == other.values if isinstance(other, RunDefinition) else NotImplemented

    def __repr__(self) -> str:
        safe = {**self.values, "environment": shown_environment(self.environment, self.inherited_variables)}
        return f"RunDefinition({', '.join(f'{name}={value!r}' for name, value in safe.items())})"

    @classmethod
    def from_arguments(cls, given: Mapping[str, Any]) -> Self:
        """Define a run by the arguments that were given, and by the configuration file for those that were not.

        Parameters
        ----------
        given
            Arguments by name: exactly those that the caller wrote, even where they equal the default. A path object
            counts as its string, a whole number of another library as an ``int``.

        Raises
        ------
        ConfigError
            If the configuration file cannot be read, or a value in it is not allowed.
        """
        plain = {name: _take(name, value) for name, value in given.items()}
        path = plain.get("config_file", "")
        TABLE["config_file"].check(path)
        return cls._merge(plain, _read_checked(path) if path else None)

    @classmethod
    def _merge(cls, given: Mapping[str, Any], config: ConfigFile | None) -> Self:
        of_file = config.values if config else {}
        values = {**of_file, **given}
        if "environment" in given and "environment" in of_file:
            values["environment"] = merged(of_file["environment"], given["environment"])
        return cls(**values, given=given, config=config)

    def evolve(self, **changes: Any) -> Self:
        """Return the definition with some arguments changed; each is checked on its own.

        The configuration file is read again only if ``config_file`` is among the changes.

        Raises
        ------
        InvalidArgument
            If a value is not allowed, whatever the other arguments are.
        """
        changes = {name: _take(name, value) for name, value in changes.items()}
        for name, value in changes.items():
            TABLE[name].check(value)
        given = {**self.given, **changes}
        return self.from_arguments(given) if "config_file" in changes else self._merge(given, self.config)

    def inheriting(self, caller: Mapping[str, str]) -> Self:
        """Return the definition with the values of the variables that were given by their names alone.

        Parameters
        ----------
        caller
            The environment of whoever starts the run.

        Raises
        ------
        InvalidArgument
            If a variable is not there.
        """
        environment, names = inherit(self.environment, caller)
        values = {**self.values, "environment": environment, "inherited_variables": names}
        return type(self)(**values, given=self.given, config=self.config)

    @classmethod
    def from_record(cls, record: RunRecord) -> Self:
        """Return what a run was defined with, as far as its service reports it."""
        values = {}
        for name, row in TABLE.items():
            if row.answered is not None:
                value = getattr(record if row.answered == "run" else record.settings, name)
                values[name] = row.setting.read(value) if row.setting else value
        return cls(**values)

    def _argument(self, name: str) -> Any:
        return self.values[name]


def validate(definition: RunDefinition) -> None:
    """Refuse a definition that cannot be started, before anything is sent.

    Raises
    ------
    SourceError
        If the entrypoint is missing, or is neither a script nor the name of a module.
    InvalidArgument
        If any other argument has a value that is not allowed; the message says what is.
    """
    for name, row in TABLE.items():
        row.check(definition.values[name])
    if definition.strategy == "random_search" and definition.num_trials < 1:
        needs = "needs num_trials of 1 or more: how many combinations to take"
        msg = f"strategy 'random_search' {needs}, not {definition.num_trials}"
        raise InvalidArgument(msg)
    check_together(definition.entrypoint, definition.framework, definition.launcher)
    # Where a module lies is known once the source code is found.
    if not module_of(definition.entrypoint) and not os.path.isfile(definition.entrypoint):
        what = "is a folder, not a script" if os.path.isdir(definition.entrypoint) else "does not exist"
        msg = f"the entrypoint {definition.entrypoint!r} {what}; give the path of a script, seen from {os.getcwd()}"
        raise SourceError(msg)


def script_command(definition: RunDefinition) -> str:
    """Return the shell-quoted command line that would start the same run, without its beginning.

    Variables whose values are the caller's, or look like secrets, stand there by their names alone.

    Examples
    --------
    >>> print(script_command(RunDefinition(entrypoint="train.py", cpus=3, use_spot=True)))
    train.py --use_spot --cpus 3 train.py'
    """
    words = ["grid", "run", "--entrypoint", definition.entrypoint]
    values = _values_to_write(definition)
    for name, row in TABLE.items():
        value = values[name]
        if value == row.default or row.printed not in {Printed.OPTION, Printed.FLAG}:
            continue
        if row.printed is Printed.FLAG:
            words.append(f"--{name}")
        else:
            words += [word for entry in row.words(value) for word in (f"--{name}", entry)]
    words += [definition.entrypoint, *split(definition.script_args).words]
    return shlex.quote(shlex.join(words)).removeprefix(_COMMAND_START)


def to_settings_input(definition: RunDefinition) -> dict[str, Any]:
    """Return the settings as the schema's ``RunSettingsInput``; what was left open is left out.

    The values of variables that are the caller's are in them only once they were taken from there: see
    :meth:`RunDefinition.inheriting`. Before that they are empty.
    """
    settings: dict[str, Any] = {}
    for name, row in TABLE.items():
        value = definition.values[name]
        if row.setting is not None and value is not None and (value or not row.setting.only_if_set):
            settings[camel_case(name)] = row.setting.write(value)
    if names := named_only(definition.environment):
        settings["inheritedVariables"] = names
    settings["scriptArgs"] = _script_args(definition)
    return settings


def _script_args(definition: RunDefinition) -> str:
    """Return the arguments of the script with those of the configuration file, which come before a bare ``--``."""
    text = definition.script_args
    words = split(text).words
    end = words.index("--") if "--" in words else len(words)
    # Arguments override the file here, too: of a flag that stands in both, the argument's value counts.
    flags = {word.partition("=")[0] for word in words[:end]}
    of_file = without_params(definition.file_params, definition.params)
    kept = {flag: value for flag, value in of_file.items() if flag not in flags}
    added = param_words(kept, is_swept=definition.strategy != "none")
    if added and end < len(words):
        # The text stays as it is typed: what is to be said of it is said by the service.
        place = starts(text)[end]
        return f"{text[:place]}{shlex.join(added)} {text[place:]}"
    return " ".join(filter(None, [text, shlex.join(added)]))


def grid_config(definition: RunDefinition) -> dict[str, Any]:
    """Return the definition as the nested configuration that a configuration file holds.

    What such a file cannot hold is not in it: the entrypoint and its arguments, name, description, memory and scratch
    space. Of variables whose values are the caller's it has the names.
    """
    return config_document(_values_to_write(definition))


def _take(name: str, value: Any) -> Any:
    return TABLE[name].take(value) if name in TABLE else value


def _values_to_write(definition: RunDefinition) -> Mapping[str, Any]:
    """Return the values without those of variables that were taken from the caller."""
    if not definition.inherited_variables:
        return definition.values
    environment = without_values(definition.environment, definition.inherited_variables)
    return {**definition.values, "environment": environment}


def _read_checked(path: str) -> ConfigFile:
    config = read_config(path)
    values = {name: _take(name, value) for name, value in config.values.items()}
    for name, value in values.items():
        try:
            TABLE[name].check(value)
        except InvalidArgument as error:
            msg = f"{config.where(name)}: {error}"
            raise ConfigError(msg) from error
    return ConfigFile(path, values)
