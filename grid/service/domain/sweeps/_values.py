"""What each argument stands for, and what is to be said about it."""

from __future__ import annotations

from typing import NamedTuple

from grid.service.domain.sweeps import _doubts
from grid.service.domain.sweeps._command import Argument
from grid.service.domain.sweeps._errors import WrongForm
from grid.service.domain.sweeps._forms import Form, Switch, read
from grid.service.domain.sweeps._literals import SPACE


class Value(NamedTuple):
    """The values of one argument; a single empty text for a flag without a value."""

    form: Form
    warnings: tuple[str, ...] = ()
    """A line for each thing that may be meant differently."""


def evaluate(argument: Argument) -> Value:
    """Read the value of an argument.

    Raises
    ------
    SweepError
        If it has a known form but is not valid, or if it cannot stand there.
    """
    if argument.is_fixed:
        return unevaluated(argument)
    value = argument.value or ""
    form: Form = (value,)
    try:
        if argument.value is not None:
            form = read(value)
        if isinstance(form, Switch) and not argument.is_flag:
            raise _switch_without_flag()
    except WrongForm as error:
        is_misplaced = value.strip(SPACE).startswith("switch(") and not argument.is_flag
        wrong = _switch_without_flag() if is_misplaced else error
        whole = _of_more_words(wrong, argument.meant) if wrong.is_open and argument.meant else wrong
        raise whole.of(argument.flag, value, argument.typed) from None
    said = ""
    if form == (value,):
        said = _doubts.of_text(argument)
    elif isinstance(form, tuple):
        said = _doubts.of_list(argument, len(form))
    return Value(form, (said,) if said else ())


def _switch_without_flag() -> WrongForm:
    return WrongForm(
        "a switch is a flag that is there or not, so it stands behind a flag; to sweep over a value that is on or off, "
        "write a list",
        "[True, False]",
    )


def _of_more_words(wrong: WrongForm, meant: str) -> WrongForm:
    """Return the error of a value whose end stands in another word."""
    reason = f"{wrong.reason}; a space outside of quotes separates words"
    try:
        read(meant)
    except WrongForm as whole:
        return WrongForm(reason, whole.example)
    return WrongForm(reason, meant)


def unevaluated(argument: Argument) -> Value:
    """Return the value of an argument as it is."""
    return Value((argument.value or "",))
