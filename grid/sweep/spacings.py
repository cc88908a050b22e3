"""Numbers at even distances: NumPy's spacings, rounded to 15 significant digits."""

from __future__ import annotations

from grid.errors import InvalidArgument
from grid.sweep.form import Sweep, count, number


def linspace(start: float, stop: float, num: int) -> Sweep:
    """Sweep over numbers at even distances, both ends included.

    Parameters
    ----------
    start, stop
        The first and the last number.
    num
        How many there are.

    Examples
    --------
    >>> linspace(0, 1, 5)
    sweep.linspace(0, 1, 5)
    """
    return _spacing("linspace", start, stop, num)


def logspace(start: float, stop: float, num: int) -> Sweep:
    """Sweep over powers of 10 whose exponents are at even distances.

    Parameters
    ----------
    start, stop
        The first and the last exponent: -5 for ``1e-05``.
    num
        How many there are.
    """
    return _spacing("logspace", start, stop, num)


def geomspace(start: float, stop: float, num: int) -> Sweep:
    """Sweep over numbers each of which is the same multiple of the one before, both ends included.

    Parameters
    ----------
    start, stop
        The first and the last number; neither is 0.
    num
        How many there are.
    """
    for parameter, value in (("start", start), ("stop", stop)):
        if number("geomspace", parameter, value) == 0:
            msg = f"sweep.geomspace: {parameter} must not be 0: no multiple of it is another number"
            raise InvalidArgument(msg)
    return _spacing("geomspace", start, stop, num)


def arange(start: float, stop: float | None = None, step: float | None = None) -> Sweep:
    """Sweep over numbers at a distance, without the end.

    Parameters
    ----------
    start
        The first number; or the end, if it is the only argument, and the first is 0.
    stop
        The end, which itself is left out.
    step
        The distance; 1 if it is left out.
    """
    if stop is None and step is not None:
        msg = "sweep.arange: step needs a stop: sweep.arange(0, 1, 0.1)"
        raise InvalidArgument(msg)
    given = [number("arange", "start", start)]
    given += [number("arange", name, each) for name, each in (("stop", stop), ("step", step)) if each is not None]
    if step is not None and given[-1] == 0:
        msg = "sweep.arange: step must not be 0"
        raise InvalidArgument(msg)
    return Sweep(f"arange({', '.join(map(repr, given))})")


def _spacing(name: str, start: float, stop: float, num: int) -> Sweep:
    ends = number(name, "start", start), number(name, "stop", stop)
    return Sweep(f"{name}({', '.join(map(repr, (*ends, count(name, 'num', num))))})")
