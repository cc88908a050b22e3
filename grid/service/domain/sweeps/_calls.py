"""Reads the forms that are written as calls: ranges, spacings, distributions and switches."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from grid.service.domain.sweeps import _distributions, _spacings
from grid.service.domain.sweeps._distributions import DISTRIBUTIONS, Draws
from grid.service.domain.sweeps._errors import WrongForm, clip
from grid.service.domain.sweeps._flags import FLAG
from grid.service.domain.sweeps._literals import SPACE, NotLiteral, OtherNumber, literal, parse, refuse, written

_SWITCH = re.compile(rf"switch\([{SPACE}]*(.*?)[{SPACE}]*\)", re.DOTALL)
_WITH_STEP = 3  # arguments of a range: start, stop, step
_RANGE_EXAMPLE = "range(1, 10, 2)"
_SWITCH_EXAMPLE = "switch(--no-x)"


@dataclass(frozen=True, slots=True)
class Switch:
    """A flag that is there, then one that is not."""

    absent: str
    """The flag in its place; empty for none."""


def read_call(name: str, text: str) -> range | Draws | Switch:
    """Read a call of a known name that ends with a parenthesis.

    Raises
    ------
    WrongForm
        If it is not valid.
    """
    if name == "switch":
        return _switch(text)
    if name == "range":
        return _whole_range(name, _arguments(name, text)[0])
    return _spacing(name, text) if name in _spacings.SIGNATURES else _distribution(name, text)


def example(name: str) -> str:
    """Return a valid call, for messages."""
    if name in DISTRIBUTIONS:
        return _distributions.example(name)
    return {**_spacings.EXAMPLES, "range": _RANGE_EXAMPLE, "switch": "switch()"}[name]


def _switch(text: str) -> Switch:
    match = _SWITCH.fullmatch(text)
    absent = match[1] if match is not None else text
    if absent and (not FLAG.fullmatch(absent) or set(absent) & set("()[]'\"")):
        raise WrongForm(
            "switch takes nothing, or the one flag that stands in its place where it is not there, as it is typed",
            _SWITCH_EXAMPLE,
            text,
        )
    return Switch(absent)


def _whole_range(name: str, arguments: list[object]) -> range:
    if not 1 <= len(arguments) <= _WITH_STEP:
        raise WrongForm(
            f"{name} takes 1 to 3 whole numbers (start, stop, step), but has {len(arguments)}", _RANGE_EXAMPLE
        )
    numbers: list[int] = []
    for argument in arguments:
        if not isinstance(argument, int) or isinstance(argument, bool):
            shown = clip(repr(argument))
            raise WrongForm(
                f"range takes whole numbers, not {shown}; write others as a list, or as arange(0, 1, 0.25)",
                _RANGE_EXAMPLE,
            )
        numbers.append(argument)
    if len(numbers) == _WITH_STEP and numbers[-1] == 0:
        raise WrongForm(f"the step of {name} cannot be 0", example(name))
    values = range(*numbers)
    if not values:
        raise WrongForm(f"the {name} is empty, so there would be no experiments", example(name))
    return values


def _spacing(name: str, text: str) -> range | Draws:
    given, _ = _arguments(name, text)
    arguments = [each for each in given if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if len(arguments) < len(given):
        raise WrongForm(f"the arguments of {name} must be numbers, not {clip(repr(given))}", example(name))
    if name == "arange":
        if not 1 <= len(arguments) <= _WITH_STEP:
            raise WrongForm(f"arange takes 1 to 3 numbers (start, stop, step), but has {len(arguments)}", example(name))
        if all(isinstance(each, int) for each in arguments):
            return _whole_range(name, list(arguments))
        start, step, count = _spacings.steps(arguments)
        return Draws(name, (start, step), count)
    if len(arguments) != _WITH_STEP:
        raise WrongForm(f"{_spacings.SIGNATURES[name]} takes 3 numbers, but has {len(arguments)}", example(name))
    start, stop, samples = arguments
    if not isinstance(samples, int) or samples < 1:
        raise WrongForm(
            f"the last argument of {_spacings.SIGNATURES[name]} must be a positive whole number, not "
            f"{clip(repr(samples))}",
            example(name),
        )
    _spacings.check(name, start, stop)
    return Draws(name, (start, stop), samples)


def _distribution(name: str, text: str) -> Draws:
    arguments, may_repeat = _arguments(name, text)
    shown = example(name)
    needed = len(DISTRIBUTIONS[name].parameters) + 1
    if len(arguments) != needed:
        if len(arguments) == needed - 1:
            shown = _with_samples(name, text, arguments)
        takes = f"{needed} arguments, the last of them" if needed > 1 else "1 argument,"
        raise WrongForm(
            f"{_distributions.signature(name)} takes {takes} the number of samples, but has {len(arguments)}", shown
        )
    samples = arguments.pop()
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        raise WrongForm(
            f"the last argument of {_distributions.signature(name)} must be a positive whole number, not "
            f"{clip(repr(samples))}",
            shown,
        )
    sized = _sized(arguments)
    if arguments == [[]]:
        raise WrongForm("the list is empty, so there is nothing to choose from", shown)
    _distributions.check(name, sized)
    choices: tuple[str, ...] = ()
    if name == "choice":
        choices = tuple(map(written, arguments[0])) if isinstance(arguments[0], list) else ()
        if not may_repeat:
            _check_choice(text, sized[0], samples)
    # Plus 0, because NumPy treats -0.0 as a negative number.
    numbers = tuple(value + 0 for value in sized if isinstance(value, (int, float)))
    return Draws(name, numbers, samples, choices, may_repeat)


def _check_choice(text: str, total: object, samples: int) -> None:
    assert isinstance(total, int)
    if samples > total:
        opened = text[:-1].rstrip(SPACE + ",")
        raise WrongForm(
            f"choice takes each element once, and {samples:,} are more than the {total:,} that there are; "
            "replace=True lets it take one several times",
            re.sub(rf",[{SPACE}]*replace[{SPACE}]*=[{SPACE}]*False\Z", "", opened) + ", replace=True)",
        )


def _with_samples(name: str, text: str, arguments: list[object]) -> str:
    """Return the call with a number of samples added, or an example if it would still not be valid."""
    try:
        _distributions.check(name, _sized(arguments))
    except WrongForm as wrong:
        return wrong.example
    if name == "choice":
        return f"{text[:-1].rstrip(SPACE + ',')}, 1)"
    return f"{text[:-1].rstrip(SPACE + ',')}{', ' if arguments else ''}10)"


def _sized(arguments: list[object]) -> list[object]:
    """Return the arguments with a list to choose from replaced by its length, which must not be 0 either."""
    return [len(argument) if isinstance(argument, list) else argument for argument in arguments]


def _arguments(name: str, text: str) -> tuple[list[object], bool]:
    """Return the arguments, and whether the only one that has a name is ``replace=True``."""
    may_repeat = False
    try:
        tree = parse(text)
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.func.id != name:
            refuse("this is more than one call")
        for keyword in tree.keywords:
            value = literal(keyword.value)
            if name != "choice" or keyword.arg != "replace":
                but = " but for replace=True" if name == "choice" else ""
                raise WrongForm(f"{name} takes its arguments in order, not by name{but}", example(name))
            if len(tree.keywords) > 1:
                raise WrongForm("replace is there twice", example(name))
            if not isinstance(value, bool):
                raise WrongForm(f"replace must be True or False, not {clip(repr(value))}", example(name))
            may_repeat = value
        arguments = [literal(node) for node in tree.args]
    except NotLiteral as error:
        must = "" if isinstance(error, OtherNumber) else f"; {_takes(name)}"
        raise WrongForm(f"{error}{must}", example(name), text) from None
    for argument in arguments:
        if isinstance(argument, (str, tuple)) or argument is None or (isinstance(argument, list) and name != "choice"):
            raise WrongForm(f"{_takes(name)}, not {clip(repr(argument))}", example(name))
    return arguments, may_repeat


def _takes(name: str) -> str:
    if name == "choice":
        return "choice takes a list, or a whole number, and the number of samples"
    return f"the arguments of {name} must be numbers"
