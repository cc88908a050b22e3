"""What each argument stands for, and what is to be said about it."""

from __future__ import annotations

from typing import NamedTuple

from grid.service.domain.sweeps._command import Argument
from grid.service.domain.sweeps._errors import WrongForm
from grid.service.domain.sweeps._forms import Form, read


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
    if argument.value is None or argument.is_fixed:
        return Value((argument.value or "",))
    try:
        return Value(read(argument.value))
    except WrongForm as wrong:
        raise wrong.of_flag(argument.flag, argument.value) from None


def unevaluated(argument: Argument) -> Value:
    """Return the value of an argument as it is."""
    return Value((argument.value or "",))
