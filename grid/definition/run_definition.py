"""The description of a run before it is sent: its arguments and their defaults, what is allowed, and how it is written.

Nothing is sent from here, and no state of a run is kept; :mod:`grid.run` does that.
"""

from __future__ import annotations

import operator
import os
import shlex
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from grid.definition.config import ConfigFile, config_document, param_words, read_config, shown
from grid.errors import ConfigError, InvalidArgument, SourceError
from grid.shared.wire import (
    MAX_DESCRIPTION,
    MAX_SCRIPT_ARGS,
    MAX_TIMEOUT_SECONDS,
    RESERVED_VARIABLES,
    RUN_NAME,
    SCRIPT_SUFFIXES,
    STRATEGIES,
    VARIABLE_NAME,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FRAMEWORKS = ("lightning", "torch", "tensorflow", "julia", "torchelastic")

_MAX_INT = 2**31 - 1  # what a whole number in GraphQL can be
_COMMAND_START = "'grid run --entrypoint "


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDefinition:
    """Every argument of a run, with its default. Immutable: :meth:`evolve` gives a changed one.

    Make one with :meth:`from_arguments`, which reads the configuration file. The first part, up to ``auto_resume``, has
    the names, the order and the defaults of the arguments of :class:`grid.Run`; what follows is said in the file only.

    Attributes
    ----------
    environment
        Extra environment variables of every experiment.
    actions
        Shell commands around building and running, by the moment they run at.
    params
        More script arguments, by flag.
    given
        The arguments that were given, whether they differ from the default or not: they win over the file.
    config
        What the configuration file said when it was read.
    """

    name: str = ""
    entrypoint: str = ""
    script_args: str = ""
    description: str | None = None
    strategy: str = "grid_search"
    num_trials: int = 0
    framework: str = "lightning"
    dependency_file: str = ""
    instance_type: str = "t2.medium"
    use_spot: bool = False
    cpus: int = 0
    gpus: int = 0
    memory: str = ""
    datastore_name: str = ""
    datastore_version: str = ""
    datastore_mount_dir: str = ""
    scratch_size: str = ""
    scratch_mount_path: str = "/tmp/scratch"  # noqa: S108  # the interface's default, a path inside the cluster
    localdir: bool = False
    dockerfile: str = ""
    config_file: str = ""
    cluster: str = ""
    seed: int | None = None
    timeout: float | None = None
    max_retries: int = 0
    auto_resume: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    actions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    config: ConfigFile | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_arguments(cls, given: Mapping[str, Any]) -> RunDefinition:
        """Define a run by the arguments that were given, and by the configuration file for those that were not.

        Parameters
        ----------
        given
            Arguments by name: exactly those that the caller wrote, even where they equal the default. A path object
            counts as its text, a whole number of another library as an ``int``.

        Raises
        ------
        ConfigError
            The configuration file cannot be read, or a value in it is not allowed.
        """
        plain = {name: _plain(value) for name, value in given.items()}
        path = plain.get("config_file", "")
        check_argument("config_file", path)
        return cls._merge(plain, _read_checked(path) if path else None)

    @classmethod
    def _merge(cls, given: Mapping[str, Any], config: ConfigFile | None) -> RunDefinition:
        return cls(**{**(config.values if config else {}), **given}, given=given, config=config)

    def evolve(self, **changes: Any) -> RunDefinition:
        """Return the definition with some arguments given anew; each is checked by itself.

        The configuration file is read again only where ``config_file`` is among the changes.

        Raises
        ------
        InvalidArgument
            A value is not allowed, whatever the other arguments are.
        """
        changes = {name: _plain(value) for name, value in changes.items()}
        for name, value in changes.items():
            check_argument(name, value)
        given = {**self.given, **changes}
        return self.from_arguments(given) if "config_file" in changes else self._merge(given, self.config)


_FIELDS = fields(RunDefinition)[: [item.name for item in fields(RunDefinition)].index("auto_resume") + 1]

ARGUMENTS = tuple(item.name for item in _FIELDS)
"""The names of the arguments of a run, in the order of its signature."""


def validate(definition: RunDefinition) -> None:
    """Refuse a definition that cannot be started, before anything is sent.

    Raises
    ------
    SourceError
        The entrypoint is missing, or no script.
    InvalidArgument
        Any other argument has a value that is not allowed; the message says what is.
    """
    for name in _CHECKS:
        check_argument(name, getattr(definition, name))
    if definition.strategy == "random_search" and definition.num_trials < 1:
        needs = "needs num_trials of 1 or more: how many combinations to take"
        msg = f"strategy 'random_search' {needs}, not {definition.num_trials}"
        raise InvalidArgument(msg)
    if not os.path.isfile(definition.entrypoint):
        what = "is a folder, not a script" if os.path.isdir(definition.entrypoint) else "does not exist"
        msg = f"the entrypoint {definition.entrypoint!r} {what}; give the path of a script, seen from {os.getcwd()}"
        raise SourceError(msg)


def check_argument(name: str, value: object) -> None:
    """Refuse a value that the argument can never have, whatever the others are.

    Raises
    ------
    InvalidArgument
        The message says what was given and what is allowed.
    """
    _CHECKS[name](name, value)


def check_text(name: str, value: object) -> None:
    """Refuse what is no text, or none that a service could take.

    Raises
    ------
    InvalidArgument
        The message says what was given and what is allowed.
    """
    if not isinstance(value, str):
        msg = f"{name} must be a text, not {shown(value)}"
        raise InvalidArgument(msg)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        msg = f"{name} must be Unicode text, which {shown(value)} is not at character {error.start}"
        raise InvalidArgument(msg) from error
    if "\0" in value:
        msg = f"{name} must hold no NUL character, as {shown(value)} does"
        raise InvalidArgument(msg)


def script_command(definition: RunDefinition) -> str:
    """Write the shell-quoted command line that would make the same run, without its beginning.

    Examples
    --------
    >>> print(script_command(RunDefinition(entrypoint="train.py", cpus=3, use_spot=True)))
    train.py --use_spot --cpus 3 train.py'
    """
    words = ["grid", "run", "--entrypoint", definition.entrypoint]
    for item in _FIELDS:
        value = getattr(definition, item.name)
        if item.name == "entrypoint" or value == item.default:
            continue
        words.append(f"--{item.name}")
        if value is not True:
            words.append(str(value))
    words += [definition.entrypoint, *shlex.split(definition.script_args)]
    return shlex.quote(shlex.join(words)).removeprefix(_COMMAND_START)


def to_settings_input(definition: RunDefinition) -> dict[str, Any]:
    """Write the settings as the schema's ``RunSettingsInput``; what was left open is left out."""
    settings: dict[str, Any] = {}
    for name in ARGUMENTS:
        if name not in {"name", "description"} and getattr(definition, name) is not None:
            settings[_camel_case(name)] = getattr(definition, name)
    settings["strategy"] = definition.strategy.upper()
    settings["framework"] = definition.framework.upper()
    # An argument wins over the file here, too: a flag that stands in both is the argument's.
    flags = {word.partition("=")[0] for word in shlex.split(definition.script_args)}
    words = shlex.join(param_words({flag: value for flag, value in definition.params.items() if flag not in flags}))
    settings["scriptArgs"] = " ".join(filter(None, [definition.script_args, words]))
    if definition.environment:
        settings["environment"] = dict(definition.environment)
    if definition.actions:
        settings["actions"] = {_camel_case(moment): list(commands) for moment, commands in definition.actions.items()}
    return settings


def grid_config(definition: RunDefinition) -> dict[str, Any]:
    """Write the definition as the nested configuration that a configuration file holds.

    What such a file cannot say is not in it: the entrypoint and its arguments, name, description, memory and scratch
    space.
    """
    return config_document({item.name: getattr(definition, item.name) for item in fields(definition)})


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _plain(value: Any) -> Any:
    """Return paths as text and whole numbers of other libraries as int; everything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        return value if isinstance(value, int) else operator.index(value)
    except TypeError:
        return value


def _read_checked(path: str) -> ConfigFile:
    config = read_config(path)
    for name, value in config.values.items():
        try:
            check_argument(name, value)
        except InvalidArgument as error:
            msg = f"{config.where(name)}: {error}"
            raise ConfigError(msg) from error
    return config


# --- what each argument may be ---------------------------------------------------------------------------------------


def _check_name(name: str, value: object) -> None:
    check_text(name, value)
    if value and not RUN_NAME.fullmatch(str(value)):
        form = "lower-case letters, digits and inner '-', starting with a letter and ending in a letter or digit"
        msg = f"{name} must be {form}, not {shown(value)}"
        raise InvalidArgument(msg)


def _check_entrypoint(name: str, value: object) -> None:
    try:
        check_text(name, value)
    except InvalidArgument as error:
        raise SourceError(str(error)) from error
    if not str(value).endswith(SCRIPT_SUFFIXES):
        msg = f"{name} must be the path of a script that ends in {_choice(SCRIPT_SUFFIXES)}, not {shown(value)}"
        raise SourceError(msg)


def _check_script_args(name: str, value: object) -> None:
    if isinstance(value, (list, tuple)):
        msg = f"{name} must be one text, not {shown(value)}; shlex.join() makes one of a list of words"
        raise InvalidArgument(msg)
    check_text(name, value)
    if len(str(value)) > MAX_SCRIPT_ARGS:
        # Before it is split: the time that takes grows with the square of the length of a word.
        msg = (
            f"{name} has {len(str(value)):,} characters; at most {MAX_SCRIPT_ARGS:,} are allowed: read them from a file"
        )
        raise InvalidArgument(msg)
    try:
        shlex.split(str(value))
    except ValueError as error:
        msg = f"{name} cannot be split as a shell splits words: {str(error).lower()} in {shown(value)}"
        raise InvalidArgument(msg) from error


def _check_description(name: str, value: object) -> None:
    if value is None:
        return
    check_text(name, value)
    if len(str(value)) > MAX_DESCRIPTION:
        msg = f"{name} must have at most {MAX_DESCRIPTION} characters, not {len(str(value))}"
        raise InvalidArgument(msg)


def _check_instance_type(name: str, value: object) -> None:
    check_text(name, value)
    if not value:
        msg = f"{name} must be a type of machine, not empty; get_instance_types() lists them"
        raise InvalidArgument(msg)


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, not {shown(value)}"
        raise InvalidArgument(msg)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INT:
        msg = f"{name} must be a whole number from 0 to {_MAX_INT}, not {shown(value)}"
        raise InvalidArgument(msg)


def _check_seed(name: str, value: object) -> None:
    if value is not None:
        _check_number(name, value)


def _check_timeout(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TIMEOUT_SECONDS:
        allowed = f"a number of seconds above 0 and at most {MAX_TIMEOUT_SECONDS}, or None for as long as it takes"
        msg = f"{name} must be {allowed}, not {shown(value)}"
        raise InvalidArgument(msg)


def _one_of(allowed: Sequence[str]) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, str) and value in allowed:
            return
        import difflib  # noqa: PLC0415 - only for messages

        close = difflib.get_close_matches(str(value).lower(), allowed, n=1)
        msg = f"{name} must be {_choice(map(repr, allowed))}, not {shown(value)}"
        raise InvalidArgument(msg + (f"; did you mean {close[0]!r}?" if close else ""))

    return check


def _check_environment(name: str, value: object) -> None:
    if not isinstance(value, dict):
        msg = f"{name} must be a dict of names to texts, not {shown(value)}"
        raise InvalidArgument(msg)
    for variable, text in value.items():
        if not isinstance(variable, str) or not VARIABLE_NAME.fullmatch(variable):
            msg = f"{name}: a name must be letters, digits and '_' and not start with a digit, not {shown(variable)}"
            raise InvalidArgument(msg)
        if variable in RESERVED_VARIABLES:
            msg = f"{name}: {variable} is set by Grid for every experiment; choose another name"
            raise InvalidArgument(msg)
        check_text(f"{name}: {variable}", text)


def _accept(name: str, value: object) -> None:
    """Accept what was checked already where it was read from the configuration file."""


_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    **dict.fromkeys(ARGUMENTS, check_text),
    "name": _check_name,
    "entrypoint": _check_entrypoint,
    "script_args": _check_script_args,
    "description": _check_description,
    "strategy": _one_of(STRATEGIES),
    "framework": _one_of(FRAMEWORKS),
    "instance_type": _check_instance_type,
    **dict.fromkeys(("num_trials", "cpus", "gpus", "max_retries"), _check_number),
    **dict.fromkeys(("use_spot", "localdir", "auto_resume"), _check_flag),
    "seed": _check_seed,
    "timeout": _check_timeout,
    "environment": _check_environment,
    **dict.fromkeys(("actions", "params"), _accept),
}


def _choice(allowed: Iterable[str]) -> str:
    *others, last = allowed
    return f"{', '.join(others)} or {last}"
