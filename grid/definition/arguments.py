"""The table of a run's arguments: a row for each, with all that is known about it.

What a run may be defined with is stated here and nowhere else, except for the two signatures that people read,
``Run.__init__`` and ``create_run``; a test compares them with the table. Definition, checks, settings, configuration
file and ``script_command`` follow from the rows.
"""

from __future__ import annotations

import enum
import functools
import inspect
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, get_args, overload

from grid.chain.decoding import camel_case
from grid.definition import nested, variables
from grid.definition.checks import (
    FRAMEWORKS,
    accept,
    check_description,
    check_flag,
    check_instance_type,
    check_memory,
    check_name,
    check_number,
    check_repeats,
    check_script_args,
    check_seed,
    check_text,
    check_timeout,
    one_of,
)
from grid.definition.links import Data, check_data, take_data
from grid.definition.params import check_params, plain_params, read_params_text, read_values, settled, write_params_text
from grid.definition.starting import check_entrypoint, check_launcher, check_working_dir, take_entrypoint
from grid.definition.variables import Environment, check_environment, take_environment
from grid.shared.wire import PARAMS_STYLES, STRATEGIES

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LAST = 1_000

Params = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""What `params` may be: by name, or a list of combinations."""


# --- what a row says -------------------------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    """Return paths as text and whole numbers of other libraries as int; everything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        return value if isinstance(value, int) else operator.index(value)
    except TypeError:
        return value


def _one_word(value: Any) -> Sequence[str]:
    return (str(value),)


def _as_it_stands(_path: str, _key: str, value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """How an argument travels in the schema's ``RunSettingsInput``, under its own name in camel case.

    Attributes
    ----------
    write, read
        How a value is written for the service, and how the service's answer is read.
    only_if_set
        Whether an empty value is left out; None always is.
    """

    write: Callable[[Any], Any] = _same
    read: Callable[[Any], Any] = _same
    only_if_set: bool = False


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """Where an argument stands in the configuration file.

    Attributes
    ----------
    path
        The dotted key.
    order
        Keys are written and listed in this order; those without one come last, in the order of the table.
    only_if_set
        Whether a document contains it only if it is not the default.
    read, write
        How the value is read, from the path of the file, the key and what stands there; and how it is written.
    """

    path: str
    order: int = _LAST
    only_if_set: bool = False
    read: Callable[[str, str, Any], Any] = _as_it_stands
    write: Callable[[Any], Any] = _same


class Printed(enum.Enum):
    """How an argument stands in ``script_command``."""

    OPTION = enum.auto()
    """``--name value``, if the value is not the default."""
    FLAG = enum.auto()
    """``--name`` alone, if it is true."""
    FIRST = enum.auto()
    """Before all others, and again in front of the script's arguments."""
    NOT_AT_ALL = enum.auto()


_PLAIN = Setting()
_WORD = Setting(str.upper, str.lower)
_STYLE_WORDS = {word: style for style, word in PARAMS_STYLES.items()}


class Argument(Generic[_T]):
    """One row: an argument of a run, which is also an attribute of runs and of their definitions.

    Parameters
    ----------
    default
        Its value if neither the caller nor the configuration file sets it.
    check
        Refuses a value that it can never have, given its name and the value.
    doc
        What it means, as users read it.
    take
        Returns what was given in the form in which it is kept, and what is not allowed as it is, for the check.
    setting
        How it is sent; None if it does not travel in the settings.
    answered
        Where the service's record of a run has it: among its settings, in the run itself, or nowhere.
    config
        Where it stands in the configuration file; None if it cannot stand there.
    printed
        How it stands in ``script_command``.
    words
        What stands there behind its option, which is repeated for each of them.
    keyword_only
        Whether it can be given only by name.
    """

    def __init__(  # noqa: PLR0913 - there is much to say about an argument
        self,
        default: _T,
        check: Callable[[str, object], None],
        doc: str,
        *,
        take: Callable[[Any], Any] = _plain,
        setting: Setting | None = _PLAIN,
        answered: Literal["settings", "run"] | None = "settings",
        config: ConfigKey | None = None,
        printed: Printed = Printed.OPTION,
        words: Callable[[Any], Sequence[str]] = _one_word,
        keyword_only: bool = False,
    ) -> None:
        self.default = default
        self.doc = self.__doc__ = doc
        self.take = take
        self.setting = setting
        self.answered = answered
        self.config = config
        self.printed = printed
        self.words = words
        self.keyword_only = keyword_only
        self._check = check

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    @property
    def kind(self) -> Any:
        """The type of its values, as its row declares it."""
        return get_args(self.__orig_class__)[0]  # type: ignore[attr-defined]  # `typing` sets it

    def check(self, value: object) -> None:
        """Refuse a value that it can never have, whatever the other arguments are.

        Raises
        ------
        InvalidArgument
            The message says what was given and what is allowed.
        """
        self._check(self.name, value)

    @overload
    def __get__(self, holder: None, owner: type) -> Argument[_T]: ...
    @overload
    def __get__(self, holder: RunArguments, owner: type) -> _T: ...
    def __get__(self, holder: RunArguments | None, owner: type) -> _T | Argument[_T]:
        return self if holder is None else holder._argument(self.name)  # noqa: SLF001 - of this file

    def __set__(self, holder: RunArguments, value: _T) -> None:
        holder._change(self.name, value)  # noqa: SLF001 - of this file


# --- the table -------------------------------------------------------------------------------------------------------


class RunArguments:
    """What a run is defined with: the arguments of :class:`grid.Run`, in the order of its signature."""

    __slots__ = ()

    name = Argument[str](
        "",
        check_name,
        "Lower-case letters, digits and inner ``-``, beginning with a letter; chosen by the service if it is left out.",
        setting=None,
        answered="run",
    )
    entrypoint = Argument[str](
        "",
        check_entrypoint,
        "Path of the script: ``.py``, ``.sh`` or ``.jl``; or ``-m`` and the name of a module.",
        take=take_entrypoint,
        printed=Printed.FIRST,
    )
    script_args = Argument[str](
        "",
        check_script_args,
        'The script\'s arguments, as in a shell. Values such as ``"[1, 2]"``, ``"range(3)"`` or ``"uniform(0, 1, 5)"`` '
        "are swept over.",
    )
    description = Argument[str | None](None, check_description, "At most 200 characters.", setting=None, answered="run")
    strategy = Argument[str](
        "grid_search",
        one_of(STRATEGIES),
        "``grid_search`` (all combinations), ``random_search`` (`num_trials` of them), ``zip`` (the n-th values of all "
        "flags together) or ``none`` (nothing is swept).",
        setting=_WORD,
        config=ConfigKey("hyper_params.settings.strategy", 170),
    )
    num_trials = Argument[int](
        0,
        check_number,
        "How many combinations a random search takes.",
        config=ConfigKey("hyper_params.settings.strategy_options.num_trials", 180),
    )
    framework = Argument[str](
        "lightning",
        one_of(FRAMEWORKS),
        "``lightning``, ``torch``, ``tensorflow``, ``julia`` or ``torchelastic``.",
        setting=_WORD,
        config=ConfigKey("compute.train.framework", 20),
    )
    dependency_file = Argument[str](
        "",
        check_text,
        "Path of a file of requirements.",
        config=ConfigKey("compute.train.dependency_file_info.path", 40),
    )
    instance_type = Argument[str](
        "t2.medium",
        check_instance_type,
        "Name or nickname of a machine: see :func:`grid.get_instance_types`.",
        config=ConfigKey("compute.train.instance", 50),
    )
    use_spot = Argument[bool](
        False,  # noqa: FBT003 - the default of a flag
        check_flag,
        "Whether a cheaper machine that may be taken away will do.",
        config=ConfigKey("compute.train.use_spot", 60),
        printed=Printed.FLAG,
    )
    cpus = Argument[int](
        0,
        check_number,
        "CPUs and GPUs for each experiment; 0 for the instance type's.",
        config=ConfigKey("compute.train.cpus", 70),
    )
    gpus = Argument[int](0, check_number, cpus.doc, config=ConfigKey("compute.train.gpus", 80))
    memory = Argument[str](
        "", check_memory, 'Memory for each experiment, such as ``"16G"``, in powers of 1024; empty for no claim to any.'
    )
    datastore_name = Argument[str](
        "",
        check_text,
        "A datastore, its version and where it is mounted.",
        config=ConfigKey("compute.train.datastore_name", 140),
    )
    datastore_version = Argument[str](
        "", check_text, datastore_name.doc, config=ConfigKey("compute.train.datastore_version", 141)
    )
    datastore_mount_dir = Argument[str](
        "", check_text, datastore_name.doc, config=ConfigKey("compute.train.datastore_mount_dir", 142)
    )
    scratch_size = Argument[str]("", check_text, "Size of a scratch disk and where it is mounted.")
    scratch_mount_path = Argument[str]("/tmp/scratch", check_text, scratch_size.doc)  # noqa: S108 - in the cluster
    localdir = Argument[bool](
        False,  # noqa: FBT003 - as above
        check_flag,
        "Take the entrypoint's folder as it is, instead of the commit at ``HEAD``.",
        config=ConfigKey("compute.train.localdir", 90),
        printed=Printed.FLAG,
    )
    dockerfile = Argument[str](
        "", check_text, "Path of a Dockerfile for the environment.", config=ConfigKey("compute.train.dockerfile", 100)
    )
    config_file = Argument[str]("", check_text, "Path of a YAML file; what is given here wins over it.")
    cluster = Argument[str](
        "",
        check_text,
        "Where the run goes; empty for the service's default.",
        answered="run",
        config=ConfigKey("compute.provider.cluster", 10),
    )
    seed = Argument[int | None](
        None,
        check_seed,
        "Seed of every random draw: the same seed gives the same run. Chosen at random if it is None.",
        config=ConfigKey("hyper_params.settings.strategy_options.seed", 190),
        keyword_only=True,
    )
    timeout = Argument[float | None](
        None,
        check_timeout,
        "Seconds from an experiment's start until it is ended and counts as failed; None for no limit.",
        config=ConfigKey("compute.train.timeout", 130, only_if_set=True),
        keyword_only=True,
    )
    max_retries = Argument[int](
        0,
        check_number,
        "How many times an experiment that was lost, because the machine or its supervisor died, is queued again "
        "automatically. A script that fails is not run again: see :meth:`retry`.",
        config=ConfigKey("compute.train.max_retries", 120, only_if_set=True),
        keyword_only=True,
    )
    auto_resume = Argument[bool](
        False,  # noqa: FBT003 - as above
        check_flag,
        "Start each further attempt with the files that the one before it created or changed; implies one retry if "
        "`max_retries` is 0.",
        config=ConfigKey("compute.train.auto_resume", 110),
        printed=Printed.FLAG,
        keyword_only=True,
    )
    params = Argument[Params](
        None,
        check_params,
        "More arguments of the script as Python objects, with no quoting: a dict from name to a value, or to a list of "
        "values that is swept over, or a list of dicts, one combination each. See :mod:`grid.sweep` for draws.",
        take=settled,
        setting=Setting(write_params_text, read_params_text),
        config=ConfigKey("hyper_params.values", 210, only_if_set=True, read=read_values, write=plain_params),
        words=lambda given: (write_params_text(given),),
        keyword_only=True,
    )
    params_style = Argument[str](
        "--k v",
        one_of(tuple(PARAMS_STYLES)),
        'How `params` are written: ``"--k v"``, ``"--k=v"`` or ``"k=v"``.',
        setting=Setting(PARAMS_STYLES.__getitem__, _STYLE_WORDS.__getitem__),
        config=ConfigKey("hyper_params.settings.params_style", 195, only_if_set=True),
        keyword_only=True,
    )
    repeats = Argument[int](
        1,
        check_repeats,
        "How often each combination is run; ``GRID_REPEAT`` tells the script which time it is, from 0.",
        config=ConfigKey("hyper_params.settings.repeats", 196, only_if_set=True),
        keyword_only=True,
    )
    working_dir = Argument[str](
        "root",
        check_working_dir,
        'Where the script starts: ``"root"`` of the source code, ``"script"`` for the script\'s own folder, or a path '
        "below the root.",
        config=ConfigKey("compute.train.working_dir", 151, only_if_set=True),
        keyword_only=True,
    )
    environment = Argument[Environment](
        None,
        check_environment,
        "Extra environment variables of every experiment, added to those of the configuration file: a dict, or a list "
        "of names whose values are taken from your own environment at :meth:`start`.",
        take=take_environment,
        setting=Setting(variables.sent, take_environment, only_if_set=True),
        config=ConfigKey("compute.train.environment", 30, read=nested.read_environment, write=variables.plain),
        words=variables.words,
        keyword_only=True,
    )
    launcher = Argument[str](
        "",
        check_launcher,
        "Words that start the script in place of the interpreter, such as ``torchrun --nproc_per_node=2``; ``{cpus}``, "
        "``{gpus}`` and ``{index}`` are replaced.",
        config=ConfigKey("compute.train.launcher", 152, only_if_set=True),
        keyword_only=True,
    )
    data = Argument[Data](
        None,
        check_data,
        "What is linked into the working copy: a dict from a path there to a folder or file on the service's machine, "
        "seen from your current folder if it is relative. It is not protected from the script.",
        take=take_data,
        setting=Setting(dict, take_data, only_if_set=True),
        config=ConfigKey("compute.train.data", 153, only_if_set=True, write=dict),
        words=lambda given: [f"{path}={target}" for path, target in given.items()],
        keyword_only=True,
    )

    def _argument(self, name: str) -> Any:
        """Return the value of an argument."""
        raise NotImplementedError

    def _change(self, name: str, value: object) -> None:
        """Set an argument to another value, or refuse to."""
        raise NotImplementedError


class DefinitionArguments(RunArguments):
    """The arguments, and what is known of a run besides."""

    __slots__ = ()

    actions = Argument[Mapping[str, Sequence[str]]](
        MappingProxyType({}),
        accept,
        "Shell commands around building and running, by the moment they run at.",
        setting=Setting(
            lambda actions: {camel_case(moment): list(commands) for moment, commands in actions.items()},
            only_if_set=True,
        ),
        answered=None,
        config=ConfigKey("compute.train.actions", 150, read=nested.read_actions, write=nested.write_actions),
        printed=Printed.NOT_AT_ALL,
    )
    inherited_variables = Argument[tuple[str, ...]](
        (),
        accept,
        "The names of those in `environment` whose values were taken from the environment of whoever started the run.",
        setting=Setting(list, tuple),
        printed=Printed.NOT_AT_ALL,
    )
    file_params = Argument[Mapping[str, Any]](
        MappingProxyType({}),
        accept,
        "More script arguments, by flag; they travel as part of `script_args`.",
        setting=None,
        answered=None,
        config=ConfigKey("hyper_params.params", 200, read=nested.read_params, write=dict),
        printed=Printed.NOT_AT_ALL,
    )


def _rows(table: type[RunArguments]) -> dict[str, Argument[Any]]:
    return {name: row for name, row in vars(table).items() if isinstance(row, Argument)}


ARGUMENTS: tuple[str, ...] = tuple(_rows(RunArguments))
"""The names of the arguments of a run, in the order of its signature."""

TABLE: Mapping[str, Argument[Any]] = MappingProxyType(_rows(RunArguments) | _rows(DefinitionArguments))
"""Every row by its name: the arguments first, then what is known of a run besides."""


# --- which of them were given ----------------------------------------------------------------------------------------


def noting_what_was_given(init: Callable[_P, None]) -> Callable[_P, None]:
    """Let an ``__init__`` know what its caller wrote, which overrides a configuration file; a default does not."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def noting(*args: _P.args, **kwargs: _P.kwargs) -> None:
        given = signature.bind(*args, **kwargs).arguments
        run = given.pop("self")
        object.__setattr__(run, "_given", given)
        init(*args, **kwargs)

    return noting
