"""A sweep that was read and found to be within its limits: how many experiments it has, before any is made.

The limit bounds what is held in memory, and is checked before anything is made: lists and draws are held, a range is
not, so a random search may take its few trials from ranges of any length. A combination is only a number until it is
looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.service.domain.sweeps._command import parse
from grid.service.domain.sweeps._errors import SweepError, clip, written
from grid.service.domain.sweeps._forms import Form, Switch
from grid.service.domain.sweeps._params import Params, read_params, switch
from grid.service.domain.sweeps._parts import Choice, Choices, Combinations, Part, Values, check_bytes
from grid.service.domain.sweeps._values import evaluate, unevaluated
from grid.shared.wire import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grid.service.domain.sweeps._command import Argument

_MOST_COMBINATIONS = 10**100
_MOST_SHOWN = 4
_MOST_WARNINGS = 50
_MOST_CHARACTERS = 100_000_000
"""In the arguments of all experiments together: enough for 10,000 experiments, the limit, of 10,000 characters each."""
_SHORT = 20_000
"""So many characters are never 128 KiB, whatever they are."""
_POSITIONAL = re.compile(r"arg\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; see `count`."""

    script_args: str
    strategy: str
    num_trials: int
    params: str
    params_style: str
    repeats: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep that can be made."""

    parts: tuple[Part, ...]
    combinations: int
    """Those that there are, of which a random search takes some."""
    taken: int
    """Those that are run, each as often as it is repeated."""
    size: int
    warnings: tuple[str, ...]


def plan(request: Request, limit: int | None) -> Plan:
    """Read a sweep and count its experiments; `limit` is the most that it may have, None for any number."""
    _check(request)
    params = read_params(request.params, request.params_style)
    parts, warnings = _command_line(request, params)
    combinations = taken = _combinations(request, parts)
    if request.strategy == "random_search":
        taken = min(request.num_trials, combinations)
        if request.num_trials > combinations:
            fewer = f"{written(combinations)} combination{'s' if combinations > 1 else ''}"
            warnings.append(
                f"random_search was asked for {written(request.num_trials)} trials out of only {fewer}: all are taken"
            )
    elif request.num_trials > 0:
        warnings.append(
            f"num_trials={written(request.num_trials)} has no effect with strategy={request.strategy!r}: only "
            "strategy='random_search' takes some of the combinations"
        )
    if limit is not None:
        _check_size(request, parts, taken, limit)
    if combinations > _MOST_COMBINATIONS:
        raise SweepError(f"the sweep has {written(combinations)} combinations: take fewer or shorter ranges")
    if len(request.script_args) + len(request.params) > _SHORT:
        check_bytes(parts)
    warnings += _name_warnings(parts)
    return Plan(parts, combinations, taken, taken * request.repeats, _few(warnings))


def _few(warnings: list[str]) -> tuple[str, ...]:
    """Return each warning once, and only as many as one can read."""
    different = tuple(dict.fromkeys(warnings))
    if len(different) <= _MOST_WARNINGS:
        return different
    more = len(different) - _MOST_WARNINGS
    return (*different[:_MOST_WARNINGS], f"and {more:,} more warning{'s' if more > 1 else ''} about other values")


def _check(request: Request) -> None:
    strategy, num_trials, repeats = request.strategy, request.num_trials, request.repeats
    if strategy not in STRATEGIES:
        raise SweepError(f'strategy is "{clip(strategy)}", but must be one of {", ".join(STRATEGIES)}')
    if strategy == "random_search" and num_trials < 1:
        raise SweepError(f"random_search needs num_trials of 1 or more, not {num_trials}. For example: num_trials=10")
    if repeats < 1:
        raise SweepError(f"repeats must be 1 or more, not {repeats}. For example: repeats=3")


def _command_line(request: Request, params: Params) -> tuple[tuple[Part, ...], list[str]]:
    """Return all parts in the order of the command line, where `params` stand before a bare ``--``, and warnings."""
    is_swept = request.strategy != "none"
    if params.swept and not is_swept:
        raise SweepError(
            f"strategy='none' sweeps nothing, but params has {', '.join(map(clip, params.swept[:_MOST_SHOWN]))}: give "
            "one value for each name, or another strategy"
        )
    arguments, said = parse(request.script_args)
    warnings = list(said)
    parts: list[Part] = []
    positionals = 0
    for argument in arguments:
        name = argument.name
        if not argument.flag:
            name = f"arg{positionals}"
            positionals += 1
        value = evaluate(argument) if is_swept else unevaluated(argument)
        warnings += value.warnings
        parts.append(_part(argument, name, value.form))
    end = next((place for place, argument in enumerate(arguments) if argument.is_fixed), len(parts))
    return (*parts[:end], *params.parts, *parts[end:]), warnings + list(params.warnings)


def _part(argument: Argument, name: str, form: Form) -> Part:
    flag, value = argument.flag, argument.value
    if value is None:
        return Choices(flag, clip(flag), (Choice((flag,), {name: "True"}),))
    if isinstance(form, Switch):
        return switch(flag, name, argument.typed(value), form)
    return Values(argument, name, form)


def _combinations(request: Request, parts: Sequence[Part]) -> int:
    swept = [part for part in parts if part.length > 1]
    if request.strategy == "zip":
        if len({part.length for part in swept}) > 1:
            raise SweepError(
                "strategy='zip' takes the n-th values of all lists together, so they must have one length, but "
                f"{_factors(swept)}. Make them equal, or multiply them out: strategy='grid_search'"
            )
        return swept[0].length if swept else 1
    # Multiplied until the product is too large: it could have a million digits.
    combinations = 1
    for part in swept:
        combinations *= part.length
        if combinations > _MOST_COMBINATIONS:
            break
    return combinations


def _check_size(request: Request, parts: Sequence[Part], taken: int, limit: int) -> None:
    size = taken * request.repeats
    if size > limit:
        raise _too_many(request, parts, size, limit)
    for part in parts:
        if part.held > limit:
            raise SweepError(
                f"{part.label} has {written(part.held)} values; a list or "
                f"distribution may have at most {limit:,}, even in a random search. Take fewer, or use a range",
                part.flag,
            )
    longest = sum(part.width for part in parts)
    if size > 1 and size * longest > _MOST_CHARACTERS:
        raise SweepError(
            f"the {size:,} experiments have arguments of up to {longest:,} characters each, but may have at most "
            f"{_MOST_CHARACTERS:,} together: write long values to a file in the project, and pass its name"
        )


def _too_many(request: Request, parts: Sequence[Part], size: int, limit: int) -> SweepError:
    swept = [part for part in parts if part.length > 1]
    factors = _factors(swept)
    if request.repeats > 1:
        factors += f"{', and ' if factors else ''}each combination is repeated {written(request.repeats)} times"
    fewer = "Take fewer values"
    if request.strategy == "grid_search" and swept:
        fewer += ', or only some of the combinations: strategy="random_search", num_trials=100'
    elif not swept:
        fewer = "Repeat it less often"
    return SweepError(
        f"the sweep has {written(size)} experiments, but may have at most {limit:,}: {factors}. {fewer}",
        swept[0].flag if len(swept) == 1 else "",
    )


def _factors(swept: Sequence[Part]) -> str:
    factors = [f"{part.label} has {written(part.length)}" for part in swept[:_MOST_SHOWN]]
    return ", ".join(factors + (["and so on"] if len(swept) > _MOST_SHOWN else []))


def _name_warnings(parts: Sequence[Part]) -> list[str]:
    """Return what is to be said about the names of the parameters."""
    warnings = []
    names = Counter(name for part in parts for name in part.names)
    swept = {name for part in parts if part.length > 1 for name in part.names}
    repeated = [name for name, times in names.items() if times > 1 and name in swept]
    if repeated:
        shown = ", ".join(map(clip, repeated[:_MOST_SHOWN])) + (", and so on" if len(repeated) > _MOST_SHOWN else "")
        warnings.append(
            f"{shown}: given more than once, and swept: the script gets each of them, and the parameter is the last"
        )
    given = {name for part in parts if part.flag or isinstance(part, Combinations) for name in part.names}
    odd = [name for name in given if name == "Script" or _POSITIONAL.fullmatch(name)]
    warnings += [
        f"the argument {clip(name)} takes the place of the parameter {clip(name)}, which is "
        + ("the name of the script" if name == "Script" else "what a positional argument is called")
        for name in sorted(odd)[:_MOST_SHOWN]
    ]
    return warnings
