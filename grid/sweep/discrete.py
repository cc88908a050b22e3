"""Draws that are whole numbers, by NumPy's names; choices from a list; and flags that are there or not."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

from grid.errors import InvalidArgument
from grid.sweep.form import Sweep, count, draws, number

Element = str | float | bool | None | Sequence["Element"]
"""What can be chosen."""

_FLAG = re.compile(r"--?[^\s=()-][^\s=()]*")


def binomial(n: int, p: float, samples: int) -> Sweep:
    """Draw how many of several attempts succeed.

    Parameters
    ----------
    n
        The number of attempts.
    p
        The probability of each, from 0 to 1.
    samples
        How many draws.
    """
    return draws("binomial", samples, n=n, p=p)


def choice(a: Sequence[Element] | int, samples: int, *, replace: bool = False) -> Sweep:
    """Take elements by chance.

    Parameters
    ----------
    a
        A list of texts, numbers, True, False, None, and lists of those; or a whole number `n` for those below it.
    samples
        How many are taken.
    replace
        Whether one element may be taken several times.

    Examples
    --------
    >>> choice(["adam", "sgd", "lion"], 2)
    sweep.choice(['adam', 'sgd', 'lion'], 2)
    """
    number_of = count("choice", "samples", samples)
    if isinstance(a, str) or not isinstance(a, Sequence):
        text, size = repr(count("choice", "a, if it is no list,", a)), operator.index(a)  # type: ignore[arg-type]
    else:
        text, size = _written(list(a)), len(a)
        if not size:
            msg = "sweep.choice: the list is empty, so there is nothing to choose from"
            raise InvalidArgument(msg)
    if number_of > size and not replace:
        msg = f"sweep.choice: {number_of} of {size} elements need replace=True, which lets some be taken several times"
        raise InvalidArgument(msg)
    return Sweep(f"choice({text}, {number_of}{', replace=True' if replace else ''})")


def geometric(p: float, samples: int) -> Sweep:
    """Draw how many attempts are made until one succeeds.

    Parameters
    ----------
    p
        The probability of each, above 0.
    samples
        How many draws.
    """
    return draws("geometric", samples, p=p)


def hypergeometric(ngood: int, nbad: int, nsample: int, samples: int) -> Sweep:
    """Draw how many of the items that are taken are good ones.

    Parameters
    ----------
    ngood, nbad
        How many there are of either kind.
    nsample
        How many are taken.
    samples
        How many draws.
    """
    return draws("hypergeometric", samples, ngood=ngood, nbad=nbad, nsample=nsample)


def logseries(p: float, samples: int) -> Sweep:
    """Draw from a logarithmic series distribution.

    Parameters
    ----------
    p
        Its shape, above 0 and below 1.
    samples
        How many draws.
    """
    return draws("logseries", samples, p=p)


def negative_binomial(n: float, p: float, samples: int) -> Sweep:
    """Draw how many attempts fail before the `n`-th succeeds.

    Parameters
    ----------
    n
        The number of successes, above 0.
    p
        The probability of each, above 0.
    samples
        How many draws.
    """
    return draws("negative_binomial", samples, n=n, p=p)


def poisson(lam: float, samples: int) -> Sweep:
    """Draw from a Poisson distribution.

    Parameters
    ----------
    lam
        Its mean, 0 or more.
    samples
        How many draws.
    """
    return draws("poisson", samples, lam=lam)


def randint(low: int, high: int, samples: int) -> Sweep:
    """Draw whole numbers evenly.

    Parameters
    ----------
    low
        The lowest.
    high
        The end, which itself is never drawn.
    samples
        How many draws.
    """
    return draws("randint", samples, low=low, high=high)


def random_integers(low: int, high: int, samples: int) -> Sweep:
    """Draw whole numbers evenly, both ends included.

    Parameters
    ----------
    low, high
        The lowest and the highest.
    samples
        How many draws.
    """
    return draws("random_integers", samples, low=low, high=high)


def switch(absent: str = "") -> Sweep:
    """Sweep over a flag that is there, then is not.

    Parameters
    ----------
    absent
        Another flag that is there in its place: ``--no-tied``.

    Examples
    --------
    >>> switch(), switch("--no-tied")
    (sweep.switch(), sweep.switch('--no-tied'))
    """
    if absent and not _FLAG.fullmatch(str(absent)):
        msg = f"sweep.switch: absent must be a flag with its dashes, as in '--no-tied', or empty, not {absent!r}"
        raise InvalidArgument(msg)
    return Sweep(f"switch({absent})")


def zipf(a: float, samples: int) -> Sweep:
    """Draw from a Zipf distribution.

    Parameters
    ----------
    a
        Its shape, from 1.001.
    samples
        How many draws.
    """
    return draws("zipf", samples, a=a)


def _written(value: object) -> str:
    """Return an element of a list to choose from as the grammar has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str):
        return repr(str(value))
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, tuple):
        msg = f"sweep.choice: a tuple, as {value!r}, cannot be chosen; take it from a list of tuples in params"
        raise InvalidArgument(msg)
    return repr(number("choice", "an element that is neither text, True, False, None nor a list of those", value))
