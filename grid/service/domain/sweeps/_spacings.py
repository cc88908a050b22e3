"""NumPy's spacings, computed without NumPy: the same digits on every machine.

The numbers are those that NumPy computes, operation by operation, to 15 significant digits. Where the exact number has
no more digits than that, it is taken: ``arange(-1, 1, 0.1)`` passes through 0, and not through -2.2e-16.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Context, Decimal, localcontext

from grid.service.domain.sweeps._errors import WrongForm

SIGNATURES = {
    "linspace": "linspace(start, stop, num)",
    "logspace": "logspace(start, stop, num)",
    "geomspace": "geomspace(start, stop, num)",
    "arange": "arange(start, stop, step)",
}
EXAMPLES = {
    "linspace": "linspace(0, 1, 5)",
    "logspace": "logspace(-5, -1, 5)",
    "geomspace": "geomspace(1e-5, 1e-1, 5)",
    "arange": "arange(0, 1, 0.25)",
}
_DIGITS = 15
_EXACT = Context(prec=50)
_ALMOST_EXACT = Context(prec=40)
_SHORT = Context(prec=_DIGITS)
_LARGEST_EXPONENT = 308
_WITH_STEP = 3


def rounded(value: float) -> float:
    """Return `value` with 15 significant digits."""
    near = float(f"{value:.{_DIGITS}g}")
    return near if math.isfinite(near) else value


def exponential(value: float) -> float:
    """Return e to the power of `value`, correctly rounded: C libraries differ in the last digit."""
    with localcontext(_EXACT):
        return float(Decimal(value).exp())


def logarithm(value: float) -> float:
    """Return the natural logarithm, correctly rounded."""
    with localcontext(_EXACT):
        return float(Decimal(value).ln())


def check(name: str, start: float, stop: float) -> None:
    """Refuse bounds that have no such numbers between them.

    Raises
    ------
    WrongForm
        Says what the bounds may be.
    """
    first, last = float(start), float(stop)
    if name == "geomspace" and not (min(first, last) > 0 or max(first, last) < 0):
        raise WrongForm("the bounds of geomspace must both be above 0 or both below 0", EXAMPLES[name])
    if name == "logspace" and max(abs(first), abs(last)) > _LARGEST_EXPONENT:
        raise WrongForm(
            f"the bounds of logspace are exponents of 10, from -{_LARGEST_EXPONENT} to {_LARGEST_EXPONENT}",
            EXAMPLES[name],
        )
    if abs(last - first) > sys.float_info.max:
        raise WrongForm(f"in {SIGNATURES[name]}, stop - start must be a finite number", EXAMPLES[name])


def steps(numbers: Sequence[float]) -> tuple[float, float, int]:
    """Return start, step and length of an `arange` that has a number that is not whole.

    Raises
    ------
    WrongForm
        If it is empty, or has more numbers than can be counted.
    """
    start, stop = (0.0, float(numbers[0])) if len(numbers) == 1 else (float(numbers[0]), float(numbers[1]))
    step = float(numbers[2]) if len(numbers) == _WITH_STEP else 1.0
    if step == 0:
        raise WrongForm("the step of an arange cannot be 0", EXAMPLES["arange"])
    length = (stop - start) / step
    if not math.isfinite(length) or not math.isfinite(start + step):
        raise WrongForm("the arange has more numbers than can be counted", EXAMPLES["arange"])
    if length <= 0:
        raise WrongForm("the arange is empty, so there would be no experiments", EXAMPLES["arange"])
    return start, step, math.ceil(length)


def spaced(name: str, arguments: Sequence[float], count: int) -> tuple[str, ...]:
    """Return the numbers as Python prints them.

    Parameters
    ----------
    name
        Which spacing.
    arguments
        The first and the last number; for an ``arange`` the first and the step.
    count
        How many numbers.
    """
    first, second = float(arguments[0]), float(arguments[1])
    with localcontext(_EXACT):
        exact, numpys = _SPACINGS[name](first, second, count)
        return tuple(repr(_settled(*pair)) for pair in zip(exact, numpys, strict=True))


def _settled(exact: Decimal | None, computed: float) -> float:
    """Return the exact number if 15 digits are enough for it, else the computed one with as many."""
    if exact is not None:
        short = _SHORT.plus(exact)
        if short == _ALMOST_EXACT.plus(exact):
            return float(short) + 0.0  # no -0.0
    return rounded(computed)


_Exact = Iterator[Decimal | None]
_Computed = Iterator[float]


def _linspace(start: float, stop: float, count: int) -> tuple[_Exact, _Computed]:
    first, last = _decimal(start), _decimal(stop)
    exact = (first + (last - first) * index / max(1, count - 1) for index in range(count))
    return exact, _numpys_linspace(start, stop, count)


def _numpys_linspace(start: float, stop: float, count: int) -> _Computed:
    between = count - 1
    step = (stop - start) / between if between else 0.0
    for index in range(count):
        if index and index == between:
            yield stop
        elif step == 0 and between:
            yield index / between * (stop - start) + start
        else:
            yield index * step + start


def _logspace(start: float, stop: float, count: int) -> tuple[_Exact, _Computed]:
    exponents, computed = _linspace(start, stop, count)
    # Only whole powers have few digits.
    exact = (Decimal(10) ** each if each is not None and each == each.to_integral() else None for each in exponents)
    return exact, (float(Decimal(10) ** Decimal(each)) for each in computed)


def _geomspace(start: float, stop: float, count: int) -> tuple[_Exact, _Computed]:
    sign = -1 if start < 0 else 1
    first, last = _decimal(abs(start)), _decimal(abs(stop))
    factor = ((last / first).ln() / max(1, count - 1)).exp()
    logarithms = (float(Decimal(abs(bound)).log10()) for bound in (start, stop))
    return _geometric(first * sign, factor, count), _numpys_geomspace(start, stop, count, sign, *logarithms)


def _geometric(value: Decimal, factor: Decimal, count: int) -> _Exact:
    for _ in range(count):
        yield value
        value *= factor


def _numpys_geomspace(  # noqa: PLR0913, PLR0917 - what it is computed from
    start: float, stop: float, count: int, sign: int, first: float, last: float
) -> _Computed:
    for index, exponent in enumerate(_numpys_linspace(first, last, count)):
        if index == 0:
            yield start
        else:
            yield stop if index == count - 1 else sign * float(Decimal(10) ** Decimal(exponent))


def _arange(start: float, step: float, count: int) -> tuple[_Exact, _Computed]:
    first, distance = _decimal(start), _decimal(step)
    return (first + distance * index for index in range(count)), _numpys_arange(start, step, count)


def _numpys_arange(start: float, step: float, count: int) -> _Computed:
    following = start + step
    distance = following - start
    for index in range(count):
        yield start if index == 0 else following if index == 1 else start + index * distance


def _decimal(number: float) -> Decimal:
    """Return the number that was written: 0.1 is a tenth."""
    return Decimal(repr(number))


_SPACINGS: dict[str, Callable[[float, float, int], tuple[_Exact, _Computed]]] = {
    "linspace": _linspace,
    "logspace": _logspace,
    "geomspace": _geomspace,
    "arange": _arange,
}
