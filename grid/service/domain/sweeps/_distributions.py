"""Distributions, NumPy's legacy scalar ones and a few more: what their arguments may be, and how they are drawn.

Arguments are checked here and not left to NumPy, so that experiments can be counted without drawing or importing it,
and because a few arguments that it accepts make it loop for ever.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.service.domain.sweeps import _spacings
from grid.service.domain.sweeps._errors import WrongForm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import RandomState

_MAX_INT64 = 2**63 - 1
_LONGEST_SHOWN = 40  # characters of a number in a message


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that a parameter may have."""

    text: str
    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    above: bool = False
    """Whether `low` itself is left out."""
    below: bool = False
    """Whether `high` itself is left out."""
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )


_ANY = Domain("a finite number")
_NOT_NEGATIVE = Domain("0 or more", low=0)
_POSITIVE = Domain("above 0", low=0, above=True)
_PROBABILITY = Domain("from 0 to 1", low=0, high=1)
_INT = Domain("a 64-bit whole number", low=-(2**63), high=_MAX_INT64, whole=True)
_COUNT = Domain("a whole number, 0 or more", low=0, high=_MAX_INT64, whole=True)
# The next four are narrower than NumPy's own: outside them it can take minutes to draw, or never finish.
_ITEMS = Domain("a whole number from 0 to 1,000,000", low=0, high=1_000_000, whole=True)
_SOME_ITEMS = Domain("a whole number from 1 to 1,000,000", low=1, high=1_000_000, whole=True)
_ZIPF = Domain("from 1.001 to 1,000", low=1.001, high=1000)
_CONCENTRATION = Domain("from 0 to 1e12", low=0, high=1e12)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution's parameters, all of them required and in NumPy's order, and an example of valid arguments."""

    parameters: dict[str, Domain]
    example: tuple[float, ...] = ()


def _of(example: tuple[float, ...] = (), /, **parameters: Domain) -> Distribution:
    return Distribution(parameters, example)


DISTRIBUTIONS: dict[str, Distribution] = {
    "beta": _of((0.5, 0.5), a=_POSITIVE, b=_POSITIVE),
    "binomial": _of((10, 0.5), n=_COUNT, p=_PROBABILITY),
    "chisquare": _of((2,), df=_POSITIVE),
    "choice": _of((10,), a=Domain("a list, or a whole number of 1 or more", low=1, high=_MAX_INT64, whole=True)),
    "exponential": _of((1.0,), scale=_NOT_NEGATIVE),
    "f": _of((5, 10), dfnum=_POSITIVE, dfden=_POSITIVE),
    "gamma": _of((2.0, 1.0), shape=_NOT_NEGATIVE, scale=_NOT_NEGATIVE),
    "geometric": _of((0.5,), p=Domain("above 0 and up to 1", low=0, high=1, above=True)),
    "gumbel": _of((0, 1), loc=_ANY, scale=_NOT_NEGATIVE),
    "hypergeometric": _of((10, 20, 5), ngood=_ITEMS, nbad=_ITEMS, nsample=_SOME_ITEMS),
    "laplace": _of((0, 1), loc=_ANY, scale=_NOT_NEGATIVE),
    "logistic": _of((0, 1), loc=_ANY, scale=_NOT_NEGATIVE),
    "loguniform": _of((1e-5, 0.1), a=_POSITIVE, b=_POSITIVE),
    "lognormal": _of((0, 1), mean=_ANY, sigma=_NOT_NEGATIVE),
    "logseries": _of((0.5,), p=Domain("above 0 and below 1", low=0, high=1, above=True, below=True)),
    "negative_binomial": _of((10, 0.5), n=_POSITIVE, p=Domain("above 0 and up to 1", low=0, high=1, above=True)),
    "noncentral_chisquare": _of((2, 1), df=_POSITIVE, nonc=_NOT_NEGATIVE),
    "noncentral_f": _of((5, 10, 1), dfnum=_POSITIVE, dfden=_POSITIVE, nonc=_NOT_NEGATIVE),
    "normal": _of((0, 1), loc=_ANY, scale=_NOT_NEGATIVE),
    "pareto": _of((2.0,), a=_POSITIVE),
    "poisson": _of((5,), lam=Domain("from 0 to 1e18", low=0, high=1e18)),
    "power": _of((2.0,), a=_POSITIVE),
    "rand": _of(),
    "randint": _of((1, 100), low=_INT, high=_INT),
    "randn": _of(),
    "random": _of(),
    "random_integers": _of((1, 100), low=_INT, high=_INT),
    "random_sample": _of(),
    "ranf": _of(),
    "rayleigh": _of((1.0,), scale=_NOT_NEGATIVE),
    "sample": _of(),
    "standard_cauchy": _of(),
    "standard_exponential": _of(),
    "standard_gamma": _of((2.0,), shape=_NOT_NEGATIVE),
    "standard_normal": _of(),
    "standard_t": _of((10,), df=_POSITIVE),
    "triangular": _of((0.0, 0.5, 1.0), left=_ANY, mode=_ANY, right=_ANY),
    "uniform": _of((1e-4, 0.1), low=_ANY, high=_ANY),
    "vonmises": _of((0.0, 1.0), mu=_ANY, kappa=_CONCENTRATION),
    "wald": _of((1.0, 1.0), mean=_POSITIVE, scale=_POSITIVE),
    "weibull": _of((2.0,), a=_NOT_NEGATIVE),
    "zipf": _of((2.0,), a=_ZIPF),
}


@dataclass(frozen=True, slots=True)
class Draws:
    """A number of draws from a distribution, or the numbers of a spacing, not made yet."""

    name: str
    arguments: tuple[float, ...]
    samples: int
    choices: tuple[str, ...] = ()
    """The list that `choice` picks from, if it is a list; `arguments` then contains its length."""
    may_repeat: bool = True
    """Whether `choice` may pick the same twice."""

    def draw(self, seed: Sequence[int]) -> tuple[str, ...]:
        """Draw, with a generator of its own whose stream NumPy has promised not to change.

        Parameters
        ----------
        seed
            Numbers of 32 bits.

        Raises
        ------
        WrongForm
            If NumPy refuses arguments that passed `check`.
        """
        if self.name in _spacings.SIGNATURES:
            return _spacings.spaced(self.name, self.arguments, self.samples)
        import numpy as np  # noqa: PLC0415 - slow to import, and most runs draw nothing

        state = np.random.RandomState(list(seed))
        try:
            drawn = self._drawn(state)
        except (ValueError, TypeError, OverflowError) as error:
            raise WrongForm(f"NumPy refuses these arguments ({error})", example(self.name)) from error
        if self.choices:
            return tuple(self.choices[int(index)] for index in drawn)
        return tuple(map(repr, drawn))

    def _drawn(self, state: RandomState) -> Sequence[float]:
        if self.name == "choice" and not self.may_repeat:
            return _without_replacement(state, int(self.arguments[0]), self.samples)
        if self.name in ("randint", "random_integers", "choice"):
            *low, high = self.arguments  # the lower bound is 0 if there is none
            bound = int(high) + (self.name == "random_integers")
            # int64 by name: the default is 32 bits wide on some systems.
            return list(state.randint(int(low[0]) if low else 0, bound, size=self.samples, dtype="int64").tolist())
        if self.name == "loguniform":
            low_end, high_end = map(_spacings.logarithm, self.arguments)
            logarithms = state.uniform(low_end, high_end, self.samples).tolist()
            return [_spacings.rounded(_spacings.exponential(each)) for each in logarithms]
        method = getattr(state, "random_sample" if self.name in ("ranf", "sample") else self.name)
        return list(method(*self.arguments, self.samples).tolist())


def _without_replacement(state: RandomState, total: int, samples: int) -> list[int]:
    """Shuffle the first cards of a deck that is never laid out: NumPy would lay out all of it."""
    moved: dict[int, int] = {}
    drawn = []
    for top in range(samples):
        place = int(state.randint(top, total, dtype="int64"))
        drawn.append(moved.get(place, place))
        moved[place] = moved.get(top, top)
    return drawn


def signature(name: str) -> str:
    """Return how the distribution is written, its parameters by name."""
    return f"{name}({', '.join((*DISTRIBUTIONS[name].parameters, 'samples'))})"


def example(name: str) -> str:
    """Return a valid call, for messages."""
    if name == "choice":
        return "choice([32, 64, 128], 2)"
    return f"{name}({', '.join(map(repr, (*DISTRIBUTIONS[name].example, 10)))})"


def check(name: str, arguments: Sequence[object]) -> None:
    """Refuse arguments, without the number of samples, for which the distribution is not defined.

    Raises
    ------
    WrongForm
        Names the parameter and what it may be.
    """
    for (parameter, domain), value in zip(DISTRIBUTIONS[name].parameters.items(), arguments, strict=True):
        if value not in domain:
            shown = repr(value)
            shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:30]} …"
            raise WrongForm(f"in {signature(name)}, {parameter} must be {domain.text}, not {shown}", example(name))
    wrong = _relation(name, *(value for value in arguments if isinstance(value, (int, float))))
    if wrong:
        raise WrongForm(f"in {signature(name)}, {wrong}", example(name))


def _relation(name: str, *values: float) -> str:
    """Return the relation between the arguments that is violated, or an empty text if none is."""
    if name == "randint" and not values[0] < values[1]:
        return "low must be below high, which itself is never drawn"
    if name == "random_integers" and not values[0] <= values[1]:
        return "low must not be above high"
    # The legacy generator accepts the bounds in either order, but not a distance that exceeds a float.
    if name == "uniform" and abs(float(values[1]) - float(values[0])) > sys.float_info.max:
        return "high - low must be a finite number"
    if name == "triangular" and not (values[0] <= values[1] <= values[2] and values[0] < values[2]):
        return "left must not be above mode, mode must not be above right, and left must be below right"
    if name == "hypergeometric" and not values[2] <= values[0] + values[1]:
        return "nsample must not be above ngood + nbad"
    return ""
