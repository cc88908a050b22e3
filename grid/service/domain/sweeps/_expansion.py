"""Turns script arguments into experiments: the product of all values, or the part of it that the strategy takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.service.domain.sweeps._errors import written
from grid.service.domain.sweeps._plan import Request, plan
from grid.service.domain.sweeps._random import choose
from grid.service.domain.sweeps._trials import REPEAT, Trials

if TYPE_CHECKING:
    from grid.service.domain.sweeps._trials import Trial


@dataclass(frozen=True, slots=True)
class Expansion:
    """The experiments of a sweep, and what the user should know about them."""

    trials: Sequence[Trial]
    """A trial is made each time it is looked at: keep it if you need it twice."""

    warnings: tuple[str, ...]


def count(  # noqa: PLR0913 - what a sweep is made of
    script_args: str,
    *,
    strategy: str,
    num_trials: int,
    limit: int | None = None,
    params: str = "",
    params_style: str = "--k v",
    repeats: int = 1,
) -> int:
    """Count the experiments of a sweep, without drawing anything.

    Parameters
    ----------
    script_args
        The script's arguments, with the sweep written into them.
    strategy
        ``grid_search``, ``random_search``, ``zip`` or ``none``.
    num_trials
        How many combinations a random search takes; the other strategies ignore it.
    limit
        The most experiments that a sweep may have; ``None`` to count any number.
    params
        More arguments, as the JSON that the schema describes.
    params_style
        How these are written: ``--k v``, ``--k=v`` or ``k=v``.
    repeats
        How often each combination is run.

    Returns
    -------
    int
        The number of trials that `expand` would return.

    Raises
    ------
    SweepError
        If `expand` with the same limit would raise it.

    Examples
    --------
    >>> count('--max_epochs "[10, 20]" --lr "uniform(1e-5, 1e-1, 3)"', strategy="grid_search", num_trials=0)
    6
    """
    return plan(Request(script_args, strategy, num_trials, params, params_style, repeats), limit).size


def expand(  # noqa: PLR0913 - as above
    script_args: str,
    *,
    strategy: str,
    num_trials: int,
    seed: int,
    limit: int = 10_000,
    params: str = "",
    params_style: str = "--k v",
    repeats: int = 1,
) -> Expansion:
    """Make the experiments of a sweep.

    The draws of a flag depend on the seed, on the flag as it is typed and on how often it appeared before: they stay
    the same when other flags are added, removed or reordered. They come from NumPy's `RandomState`, whose streams are
    frozen. Which combinations a random search takes depends on the seed and on how many there are; the choice comes
    from the bits of `random.Random`, which are frozen as well. A smaller `num_trials` takes the beginning of what a
    larger one takes.

    Parameters
    ----------
    script_args, strategy, num_trials, params, params_style, repeats
        As `count` takes them.
    seed
        Any whole number.
    limit
        The most experiments that a sweep may have, and the most values that a list or a distribution may have.

    Returns
    -------
    Expansion
        For a grid search, trial `N` is the `N`-th combination, the last flag varying fastest; for ``zip`` it has the
        `N`-th values of all. With `repeats`, trial `N` is the repeat ``N % repeats`` of combination ``N // repeats``.

    Raises
    ------
    SweepError
        If a value has a known form but is not valid, if there are more experiments than `limit`, or if the arguments
        cannot be split into words.

    Examples
    --------
    >>> expansion = expand("--batch '[32, 64]' --verbose", strategy="grid_search", num_trials=0, seed=1)
    >>> [trial.arguments for trial in expansion.trials]
    [('--batch', '32', '--verbose'), ('--batch', '64', '--verbose')]
    >>> expansion.trials[1].parameters
    {'batch': '64', 'verbose': 'True'}
    """
    planned = plan(Request(script_args, strategy, num_trials, params, params_style, repeats), limit)
    seen: dict[str, int] = {}
    parts = [part.drawn(seed, seen) for part in planned.parts]
    picked: Sequence[int] = range(planned.taken)
    if strategy == "random_search":
        picked = choose(planned.combinations, planned.taken, f"{seed}:choice")
    has_own = any(REPEAT in part.names for part in planned.parts)
    trials = Trials(parts, picked, together=strategy == "zip", repeats=repeats, counted=repeats > 1 and not has_own)
    return Expansion(trials, planned.warnings + _same(trials, repeats))


def _same(trials: Trials, repeats: int) -> tuple[str, ...]:
    """Return the warning about experiments that are the same, but for their repeats."""
    found = trials.same()
    if found is None:
        return ()
    copies, (first, second) = found
    every = len(trials) // repeats
    what = "experiments" if repeats == 1 else "combinations"
    are = "is" if copies == 1 else "are"
    warning = (
        f"{written(copies)} of the {written(every)} {what} {are} the same as an earlier one: experiment {second} has "
        f"the arguments of experiment {first}; to run each combination several times on purpose, use repeats="
    )
    return (warning,)
