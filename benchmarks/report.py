"""How figures are measured and printed."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pairs:
    """Measurements of two things in turns: ours, theirs, ours, theirs."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def our_median(self) -> float:
        """The median of ours."""
        return statistics.median(self.ours)

    @property
    def their_median(self) -> float:
        """The median of theirs."""
        return statistics.median(self.theirs)

    @property
    def difference(self) -> float:
        """The median of the differences, ours minus theirs."""
        return statistics.median(ours - theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def __str__(self) -> str:
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"


def beside(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> Pairs:
    """Measure two things in turns, and return all measurements.

    A machine that is busy for a while is then busy for both, so that their ratio holds even if neither figure does.
    """
    measured = [(ours(), theirs()) for _ in range(pairs)]
    return Pairs(*zip(*measured, strict=True))


def timed(action: Callable[[], object]) -> Callable[[], float]:
    """Return a function that performs the action and returns how many seconds it took."""

    def measure() -> float:
        begun = time.perf_counter()
        action()
        return time.perf_counter() - begun

    return measure


def line(what: str, value: str, baseline: str, pairs: Pairs | None, target: str) -> None:
    """Print one figure beside its baseline, with the median and the range of the ratios."""
    ratio = "" if pairs is None else str(pairs)
    sys.stdout.write(f"{what:<50} {value:>20}   {baseline:<36} {ratio:<24} target {target}\n")
    sys.stdout.flush()


def milliseconds(value: float) -> str:
    """Return seconds, formatted as milliseconds."""
    return f"{value * 1e3:.1f} ms"
