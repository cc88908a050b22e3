"""The shape of a sweep, told from its trials: what differs between them, and what is combined with what.

It is told from what would run and not from what was typed: however the values were written, it is what one sees.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grid.service.domain.sweeps._trials import Trial


@dataclass(frozen=True, slots=True)
class Swept:
    """A parameter that differs between the trials."""

    name: str
    count: int
    """How many different values it has; that a trial lacks it counts as one."""
    axis: int
    """Parameters of one axis go together; each combination of one axis is combined with each of every other one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What differs between trials, in the order of the command line, and how many parameters all have in common."""

    swept: tuple[Swept, ...]
    axes: tuple[int, ...]
    """How many different combinations there are on each axis."""
    constant_count: int


def shape(trials: Iterable[Trial]) -> Shape:
    """Return the shape of a sweep.

    Examples
    --------
    >>> from grid.service.domain.sweeps import expand
    >>> found = shape(expand("--lr '[0.1, 0.2]' --n 5", strategy="grid_search", num_trials=0, seed=1).trials)
    >>> found.swept, found.axes, found.constant_count
    ((Swept(name='lr', count=2, axis=0),), (2,), 1)
    """
    columns = _columns(trials)
    counts = {name: len(set(column)) for name, column in columns.items()}
    differing = {name: column for name, column in columns.items() if counts[name] > 1}
    axes = _axes(differing)
    numbers = {name: number for number, axis in enumerate(axes) for name in axis.names}
    return Shape(
        tuple(Swept(name, counts[name], numbers[name]) for name in differing),
        tuple(axis.length for axis in axes),
        constant_count=len(columns) - len(differing),
    )


def _columns(trials: Iterable[Trial]) -> dict[str, list[str | None]]:
    """Return the values of each parameter, one for each trial: None where it lacks the parameter."""
    columns: dict[str, list[str | None]] = {}
    total = 0
    for total, trial in enumerate(trials, 1):
        for name, value in trial.parameters.items():
            column = columns.setdefault(name, [])
            if len(column) < total - 1:
                column.extend([None] * (total - 1 - len(column)))
            column.append(value)
    for column in columns.values():
        column.extend([None] * (total - len(column)))
    return columns


@dataclass(frozen=True, slots=True)
class _Axis:
    names: tuple[str, ...]
    values: Sequence[Hashable]
    """What each trial has on it."""
    length: int
    """How many of these differ."""


def _axes(columns: dict[str, list[str | None]]) -> list[_Axis]:
    """Return as many axes as there can be, if their product is all that there is; in the order of the command line."""
    axes: list[_Axis] = []
    for name, column in columns.items():
        added = _Axis((name,), column, len(set(column)))
        for axis in axes.copy():
            both = _together(axis, added)
            if both.length < axis.length * added.length:
                axes.remove(axis)
                added = both
        axes.append(added)
        if _product(axes) > len(column):
            break  # any two are combined, but not all
    whole = functools.reduce(_together, axes) if axes else None
    if whole is None or (_product(axes) == whole.length and len(whole.names) == len(columns)):
        order = {name: place for place, name in enumerate(columns)}
        return sorted(axes, key=lambda axis: min(map(order.__getitem__, axis.names)))
    return [functools.reduce(_together, (_Axis((name,), column, 0) for name, column in columns.items()))]


def _product(axes: Sequence[_Axis]) -> int:
    return math.prod(axis.length for axis in axes)


def _together(axis: _Axis, added: _Axis) -> _Axis:
    # Numbers in the place of pairs of pairs of pairs, which would be as deep as there are parameters.
    numbers: dict[Hashable, int] = {}
    values = [numbers.setdefault(pair, len(numbers)) for pair in zip(axis.values, added.values, strict=True)]
    return _Axis((*axis.names, *added.names), values, len(numbers))
