"""How figures are taken and printed."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable


def seconds(action: Callable[[], object], repeats: int) -> float:
    """The median time of an action, in seconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def beside(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The times of two actions done in turns, in seconds, of the turn whose ratio is the median.

    A machine that is busy for a while is then busy for both.
    """
    turns = [(seconds(ours, 1), seconds(theirs, 1)) for _ in range(repeats)]
    return sorted(turns, key=lambda turn: turn[0] / turn[1])[len(turns) // 2]


def line(what: str, value: str, baseline: str, ratio: float | None, target: str) -> None:
    """Print one figure beside its baseline."""
    shown = "" if ratio is None else f"{ratio:5.2f} x"
    sys.stdout.write(f"{what:<46} {value:>16}   {baseline:<44} {shown:>8}   target {target}\n")
    sys.stdout.flush()


def milliseconds(value: float) -> str:
    """Seconds as milliseconds."""
    return f"{value * 1e3:.1f} ms"
