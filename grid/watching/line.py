"""The line that says how far a run has come: its text, and nothing about where it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.shared.wire import ACTIVE, ExperimentStatus

if TYPE_CHECKING:
    from grid.models import Forecast, StatusProgress

__all__ = ["PLAIN", "RICH", "Letters", "cut", "progress_line"]

_CELLS = 8
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_UNITS = ((2 * _DAY, _DAY, "days"), (1.5 * _HOUR, _HOUR, "h"), (1.5 * _MINUTE, _MINUTE, "min"), (0.0, 1.0, "s"))
"""From how many seconds on a unit is used, how many of them it has, and what it is called."""


@dataclass(frozen=True)
class Letters:
    """What a line is drawn with."""

    full: str
    empty: str
    between: str
    to: str
    rest: str


RICH = Letters("█", "░", " · ", "–", "…")  # noqa: RUF001 - a dash between numbers
PLAIN = Letters("#", ".", " | ", "-", "...")
"""For an output that cannot show the others."""


def progress_line(name: str, status: StatusProgress, seconds_since: float, letters: Letters) -> str:
    """Return the line about a run.

    Parameters
    ----------
    name
        The run's name.
    status
        How far it has come.
    seconds_since
        How long ago that was: so much less time is left.
    letters
        What it is drawn with.
    """
    counts = {group.status: group.count for group in status.groups}
    total = sum(counts.values())
    ended = sum(count for word, count in counts.items() if word.is_terminal)
    full = _CELLS * ended // total if total else _CELLS
    parts = [f"{name} {letters.full * full}{letters.empty * (_CELLS - full)} {ended}/{total}"]
    shown = {
        "running": sum(counts.get(word, 0) for word in ACTIVE),
        "failed": counts.get(ExperimentStatus.FAILED, 0),
        "cancelled": counts.get(ExperimentStatus.CANCELLED, 0),
    }
    parts += [f"{count} {word}" for word, count in shown.items() if count]
    if status.forecast is not None and ended < total:
        parts.append(f"{_time_left(status.forecast, seconds_since, letters.to)} left")
    return letters.between.join(parts)


def cut(text: str, width: int, letters: Letters) -> str:
    """Return a text that is at most so wide; what is left out is marked."""
    if len(text) <= width:
        return text
    return text[: max(width - len(letters.rest), 0)] + letters.rest[: max(width, 0)]


def _time_left(forecast: Forecast, seconds_since: float, to: str) -> str:
    low, high = (max(seconds - seconds_since, 0) for seconds in (forecast.low, forecast.high))
    size, unit = next((size, unit) for least, size, unit in _UNITS if high >= least)
    first, last = (_number(seconds / size) for seconds in (low, high))
    return f"{last} {unit}" if first == last else f"{first}{to}{last} {unit}"


def _number(amount: float) -> str:
    # Half an hour matters, half a minute does not.
    return f"{round(2 * amount) / 2:g}" if amount < 5 and amount % 1 else f"{amount:.0f}"  # noqa: PLR2004
