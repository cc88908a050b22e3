"""A form of the grammar as a Python object, and what its arguments may be. The service has the last word on them."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from grid.errors import InvalidArgument


@dataclass(frozen=True, slots=True, repr=False)
class Sweep:
    """Values that are swept over, as one form of the grammar. Made by the functions of :mod:`grid.sweep`.

    Attributes
    ----------
    text
        How `script_args` has it: ``uniform(0.0001, 0.1, 3)``.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        name, _, rest = self.text.partition("(")
        if name == "switch" and rest != ")":
            return f"sweep.switch({rest.removesuffix(')')!r})"
        return f"sweep.{self.text}"


def draws(name: str, samples: object, **arguments: object) -> Sweep:
    """Return the form of that many draws from a distribution.

    Raises
    ------
    InvalidArgument
        If an argument is no finite number, or `samples` no positive whole number.
    """
    given = [number(name, parameter, value) for parameter, value in arguments.items()]
    return Sweep(f"{name}({', '.join(map(repr, [*given, count(name, 'samples', samples)]))})")


def number(name: str, parameter: str, value: object) -> int | float:
    """Return a finite number as Python's own."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)) or not math.isfinite(plain):
        msg = f"sweep.{name}: {parameter} must be a finite number, not {plain!r}"
        raise InvalidArgument(msg)
    return plain


def count(name: str, parameter: str, value: object) -> int:
    """Return a positive whole number as Python's own."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int) or plain < 1:
        msg = f"sweep.{name}: {parameter} must be a positive whole number, not {plain!r}"
        raise InvalidArgument(msg)
    return plain


def _plain(value: object) -> object:
    """Return a number of another library as Python's own; everything else as it is."""
    if type(value) in (int, float, bool):
        return value
    if isinstance(value, float):
        return float(value)  # of a class of its own, as NumPy's is
    try:
        return operator.index(value)  # type: ignore[arg-type]  # that is what is found out
    except TypeError:
        item = getattr(value, "item", None)
        return item() if callable(item) else value
