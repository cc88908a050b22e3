"""Turns script arguments into experiments: the product of all values, or the part of it that a random search takes.

The limit bounds what is held in memory, and is checked before anything is made: lists and draws are held, a range is
not, so a random search may take its few trials from ranges of any length. A combination is only a number until it is
looked at.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from grid.service.domain.sweeps._command import Argument, parse
from grid.service.domain.sweeps._distributions import Draws
from grid.service.domain.sweeps._errors import SweepError, WrongForm, clip, quoted, written
from grid.service.domain.sweeps._forms import Form, read
from grid.shared.wire import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Iterator

_Values = tuple[str, ...] | range
"""The values of a form, with its draws drawn."""

_MOST_COMBINATIONS = 10**100
_MOST_FLAGS_SHOWN = 4
_MOST_CHARACTERS = 100_000_000
"""In the arguments of all experiments together: enough for 10,000 experiments, the limit, of 10,000 characters each."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination of the sweep's values."""

    arguments: tuple[str, ...]
    """The words that the script gets, in the order in which they were typed."""

    parameters: dict[str, str]
    """Each argument without its dashes; ``True`` for a flag without a value; ``arg0``, ``arg1``, … for positionals."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """The experiments of a sweep, and what the user should know about them."""

    trials: Sequence[Trial]
    """A trial is made each time it is looked at: keep it if you need it twice."""

    warnings: tuple[str, ...]


def count(script_args: str, *, strategy: str, num_trials: int, limit: int | None = None) -> int:
    """Count the experiments of a sweep, without drawing anything.

    Parameters
    ----------
    script_args
        The script's arguments, with the sweep written into them.
    strategy
        ``grid_search``, ``random_search`` or ``none``.
    num_trials
        How many combinations a random search takes; the other strategies ignore it.
    limit
        The most experiments that a sweep may have; ``None`` to count any number.

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
    return _plan(script_args, strategy, num_trials, limit).size


def expand(script_args: str, *, strategy: str, num_trials: int, seed: int, limit: int = 10_000) -> Expansion:
    """Make the experiments of a sweep.

    The draws of a flag depend on the seed, on the flag as it is typed and on how often it appeared before: they stay
    the same when other flags are added, removed or reordered. They come from NumPy's `RandomState`, whose streams are
    frozen. Which combinations a random search takes depends on the seed and on how many there are; the choice comes
    from the bits of `random.Random`, which are frozen as well. A smaller `num_trials` takes the beginning of what a
    larger one takes.

    Parameters
    ----------
    script_args, strategy, num_trials
        As `count` takes them.
    seed
        Any whole number.
    limit
        The most experiments that a sweep may have, and the most values that a list or a distribution may have.

    Returns
    -------
    Expansion
        For a grid search, trial `N` is the `N`-th combination, the last flag varying fastest.

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
    plan = _plan(script_args, strategy, num_trials, limit)
    seen: dict[str, int] = {}
    values: list[_Values] = []
    for argument, form in zip(plan.arguments, plan.forms, strict=True):
        occurrence = seen[argument.flag] = seen.get(argument.flag, -1) + 1
        if isinstance(form, Draws):
            values.append(_draw(argument, form, f"{seed}:draws:{occurrence}:{argument.flag}"))
        else:
            values.append(form)
    picked: Sequence[int] = range(plan.size)
    if strategy == "random_search":
        picked = _choose(plan.combinations, plan.size, f"{seed}:choice")
    return Expansion(_Trials(plan.arguments, values, picked), plan.warnings)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A sweep that was parsed and found to be within its limits."""

    arguments: tuple[Argument, ...]
    forms: tuple[Form, ...]
    """The values of each argument; a single empty one for a flag without a value."""
    combinations: int
    size: int
    warnings: tuple[str, ...] = ()


def _plan(script_args: str, strategy: str, num_trials: int, limit: int | None) -> _Plan:
    if strategy not in STRATEGIES:
        raise SweepError(f'strategy is "{clip(strategy)}", but must be one of {", ".join(STRATEGIES)}')
    if strategy == "random_search" and num_trials < 1:
        raise SweepError(f"random_search needs num_trials of 1 or more, not {num_trials}. For example: num_trials=10")
    arguments = parse(script_args)
    if strategy == "none":
        return _Plan(arguments, tuple((argument.value or "",) for argument in arguments), 1, 1)
    forms = tuple(map(_form, arguments))
    size = combinations = _combinations(forms)
    warnings: tuple[str, ...] = ()
    if strategy == "random_search":
        size = min(num_trials, combinations)
        if num_trials > combinations:
            fewer = f"{written(combinations)} combination{'s' if combinations > 1 else ''}"
            warnings = (f"random_search was asked for {written(num_trials)} trials out of only {fewer}: all are taken",)
    if limit is not None:
        _check_size(arguments, forms, size, limit)
    if combinations > _MOST_COMBINATIONS:
        raise SweepError(f"the sweep has {written(combinations)} combinations: take fewer or shorter ranges")
    return _Plan(arguments, forms, combinations, size, warnings)


def _check_size(arguments: Sequence[Argument], forms: Sequence[Form], size: int, limit: int) -> None:
    if size > limit:
        raise _too_many(arguments, forms, size, limit)
    for argument, form in zip(arguments, forms, strict=True):
        if not isinstance(form, range) and _length(form) > limit:
            raise SweepError(
                f"{clip(argument.flag)} {quoted(argument.value or '')} has {written(_length(form))} values; a list or "
                f"distribution may have at most {limit:,}, even in a random search. Take fewer, or use a range",
                argument.flag,
            )
    longest = sum(len(argument.flag) + 1 + _width(form) for argument, form in zip(arguments, forms, strict=True))
    if size > 1 and size * longest > _MOST_CHARACTERS:
        raise SweepError(
            f"the {size:,} experiments have arguments of up to {longest:,} characters each, but may have at most "
            f"{_MOST_CHARACTERS:,} together: write long values to a file in the project, and pass its name"
        )


def _combinations(forms: Sequence[Form]) -> int:
    """Multiply the numbers of values, and stop once the product is too large: it could have a million digits."""
    combinations = 1
    for form in forms:
        combinations *= _length(form)
        if combinations > _MOST_COMBINATIONS:
            break
    return combinations


def _form(argument: Argument) -> Form:
    if not argument.flag or argument.value is None:
        return (argument.value or "",)
    try:
        return read(argument.value)
    except WrongForm as wrong:
        raise wrong.of_flag(argument.flag, argument.value) from None


def _too_many(arguments: Sequence[Argument], forms: Sequence[Form], size: int, limit: int) -> SweepError:
    lengths = [(argument, _length(form)) for argument, form in zip(arguments, forms, strict=True)]
    swept = [(argument, length) for argument, length in lengths if length > 1]
    factors = [
        f"{clip(argument.flag)} {quoted(argument.value or '')} has {written(length)}"
        for argument, length in swept[:_MOST_FLAGS_SHOWN]
    ]
    more = ["and so on"] if len(swept) > _MOST_FLAGS_SHOWN else []
    return SweepError(
        f"the sweep has {written(size)} experiments, but may have at most {limit:,}: {', '.join(factors + more)}. "
        'Take fewer values, or only some of the combinations: strategy="random_search", num_trials=100',
        swept[0][0].flag if len(swept) == 1 else "",
    )


def _length(form: Form) -> int:
    if isinstance(form, Draws):
        return form.samples
    if isinstance(form, range):
        # len() of a range fails if the result does not fit into a machine word.
        return -((form.start - form.stop) // form.step)
    return len(form)


def _width(form: Form) -> int:
    """Return the length of the longest of the values."""
    if isinstance(form, range):
        return max(len(repr(form[0])), len(repr(form[-1])))
    texts = form.choices if isinstance(form, Draws) else form
    return max(map(len, texts), default=24)  # 24: the longest that a float can be


def _numbers(key: str) -> bytes:
    # Hashed, so that similar seeds and flags have unrelated streams, and any whole number can be a seed.
    return hashlib.sha256(key.encode()).digest()


def _draw(argument: Argument, draws: Draws, key: str) -> tuple[str, ...]:
    digest = _numbers(key)
    try:
        return draws.draw([int.from_bytes(digest[start : start + 4], "little") for start in range(0, len(digest), 4)])
    except WrongForm as wrong:
        raise wrong.of_flag(argument.flag, argument.value or "") from wrong


def _choose(combinations: int, size: int, key: str) -> list[int]:
    """Shuffle the first `size` cards of a deck that is never laid out: only the cards that moved are remembered."""
    bits = random.Random(int.from_bytes(_numbers(key), "little")).getrandbits  # noqa: S311 - a choice, not a secret
    moved: dict[int, int] = {}
    chosen: list[int] = []
    for top in range(size):
        remaining = combinations - top
        width = remaining.bit_length()
        offset = bits(width)
        while offset >= remaining:
            offset = bits(width)
        place = top + offset
        chosen.append(moved.get(place, place))
        moved[place] = moved.get(top, top)
    return chosen


class _Trials(Sequence[Trial]):
    """Combinations by their numbers, each made when it is looked at."""

    def __init__(self, arguments: Sequence[Argument], values: Sequence[_Values], picked: Sequence[int]) -> None:
        self._picked = picked
        self._words: list[str] = []
        self._parameters: dict[str, str] = {}
        last: dict[str, int] = {}
        swept: list[tuple[int, str, str, int, _Values, int]] = []
        positionals = 0
        for number, (argument, choices) in enumerate(zip(arguments, values, strict=True)):
            name = argument.name
            if not argument.flag:
                name = f"arg{positionals}"
                positionals += 1
            first = _text(choices[0])
            self._words.extend(argument.words(first))
            self._parameters[name] = "True" if argument.value is None else first
            last[name] = number
            length = _length(choices)
            if length > 1:
                prefix = f"{argument.flag}=" if argument.joined else ""
                swept.append((len(self._words) - 1, prefix, name, number, choices, length))
        # The place of a flag's word, what comes before the value in it, the parameter that the value belongs to (None
        # if the flag is repeated later), its values and their number; the flag that varies fastest comes first.
        self._swept = [
            (place, prefix, name if last[name] == number else None, choices, length)
            for place, prefix, name, number, choices, length in reversed(swept)
        ]

    def __len__(self) -> int:
        return len(self._picked)

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Trial, ...]: ...

    def __getitem__(self, index: int | slice) -> Trial | tuple[Trial, ...]:
        if isinstance(index, slice):
            return tuple(map(self._trial, self._picked[index]))
        return self._trial(self._picked[index])

    def __iter__(self) -> Iterator[Trial]:
        return map(self._trial, self._picked)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((tuple(self._words), len(self)))

    def __repr__(self) -> str:
        return f"<{len(self):,} trials>"

    def _trial(self, combination: int) -> Trial:
        words, parameters = self._words.copy(), self._parameters.copy()
        for place, prefix, name, choices, length in self._swept:
            combination, digit = divmod(combination, length)
            text = _text(choices[digit])
            words[place] = prefix + text
            if name is not None:
                parameters[name] = text
        return Trial(tuple(words), parameters)


def _text(value: str | int) -> str:
    return value if isinstance(value, str) else repr(value)
