"""Parts of a command line: an argument, or several that vary together, with the values that it takes in turn.

A value of a part is a number, its *digit*, until it is looked at: what is held is a list of texts or a range, never the
words of all experiments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from grid.service.domain.sweeps._command import Argument
from grid.service.domain.sweeps._distributions import Draws
from grid.service.domain.sweeps._errors import SweepError, WrongForm, clip, quoted
from grid.service.domain.sweeps._random import numbers

_LONGEST_FLOAT = 24
_MOST_BYTES = 128 * 1024 - 1
"""Of one argument on Linux, which counts a null character at its end."""


class Part(Protocol):
    """What stands at one place of the command line."""

    @property
    def flag(self) -> str:
        """How an error names it; empty for several arguments."""

    @property
    def label(self) -> str:
        """How a message quotes it, with its values."""

    @property
    def names(self) -> frozenset[str]:
        """The parameters that it may have."""

    @property
    def length(self) -> int:
        """How many values it has; more than a machine word can count, if they are a range."""

    @property
    def held(self) -> int:
        """How many of these are held in memory at once."""

    @property
    def width(self) -> int:
        """The most characters that it adds to the command line."""

    def longest(self) -> tuple[str, int]:
        """Return how the longest word begins, and how many bytes it has."""

    def drawn(self, seed: int, seen: dict[str, int]) -> Drawn:
        """Return the part with its draws drawn; `seen` counts how often a flag has appeared before."""


class Drawn(Protocol):
    """A part whose values are known."""

    @property
    def length(self) -> int:
        """How many values it has."""

    def add(self, digit: int, words: list[str], parameters: dict[str, str]) -> None:
        """Append the words of a value, and set its parameters."""

    def is_even(self) -> bool:
        """Return whether each value has as many words."""

    def differs(self) -> bool:
        """Return whether each value has other words than every other."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a part: the words that the script gets, and the parameters that it sets."""

    words: tuple[str, ...]
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class Choices:
    """A part whose values were put into words already."""

    flag: str
    label: str
    choices: tuple[Choice, ...]

    @property
    def names(self) -> frozenset[str]:
        """See `Part`."""
        return frozenset(name for choice in self.choices for name in choice.parameters)

    @property
    def length(self) -> int:
        """See `Part`."""
        return len(self.choices)

    @property
    def held(self) -> int:
        """See `Part`."""
        return len(self.choices)

    @property
    def width(self) -> int:
        """See `Part`."""
        return max(sum(len(word) + 1 for word in choice.words) for choice in self.choices)

    def longest(self) -> tuple[str, int]:
        """See `Part`."""
        return _longest(word for choice in self.choices for word in choice.words)

    def drawn(self, _seed: int, seen: dict[str, int]) -> Choices:
        """See `Part`."""
        seen[self.flag] = seen.get(self.flag, -1) + 1
        return self

    def add(self, digit: int, words: list[str], parameters: dict[str, str]) -> None:
        """See `Drawn`."""
        choice = self.choices[digit]
        words += choice.words
        parameters.update(choice.parameters)

    def is_even(self) -> bool:
        """See `Drawn`."""
        return len({len(choice.words) for choice in self.choices}) == 1

    def differs(self) -> bool:
        """See `Drawn`."""
        return len({choice.words for choice in self.choices}) == len(self.choices)


@dataclass(frozen=True, slots=True)
class Values:
    """A part that is one word of many values: texts, the numbers of a range, or draws."""

    argument: Argument
    """As it was typed, with what stands there for the values."""
    name: str
    """The parameter."""
    form: tuple[str, ...] | range | Draws

    @property
    def flag(self) -> str:
        """See `Part`."""
        return self.argument.flag

    @property
    def label(self) -> str:
        """See `Part`."""
        return self.argument.typed(self.argument.value or "")

    @property
    def names(self) -> frozenset[str]:
        """See `Part`."""
        return frozenset((self.name,))

    @property
    def length(self) -> int:
        """See `Part`."""
        if isinstance(self.form, Draws):
            return self.form.samples
        if isinstance(self.form, range):
            # len() of a range fails if the result does not fit into a machine word.
            return -((self.form.start - self.form.stop) // self.form.step)
        return len(self.form)

    @property
    def held(self) -> int:
        """See `Part`."""
        return 1 if isinstance(self.form, range) else self.length

    @property
    def width(self) -> int:
        """See `Part`."""
        if isinstance(self.form, range):
            longest = max(len(repr(self.form[0])), len(repr(self.form[-1])))
        else:
            longest = max(map(len, self._texts()), default=_LONGEST_FLOAT)
        return sum(len(word) + 1 for word in self.argument.words("")) + longest

    def longest(self) -> tuple[str, int]:
        """See `Part`."""
        *before, prefix = self.argument.words("")
        return _longest((*before, *(prefix + text for text in self._texts())))

    def _texts(self) -> Sequence[str]:
        if isinstance(self.form, range):
            return ()
        return self.form.choices if isinstance(self.form, Draws) else self.form

    def drawn(self, seed: int, seen: dict[str, int]) -> Texts:
        """See `Part`."""
        occurrence = seen[self.flag] = seen.get(self.flag, -1) + 1
        *before, prefix = self.argument.words("")
        if not isinstance(self.form, Draws):
            return Texts(self.name, tuple(before), prefix, self.form)
        try:
            values = self.form.draw(numbers(f"{seed}:draws:{occurrence}:{self.flag}"))
        except WrongForm as wrong:
            raise wrong.of(self.flag, self.argument.value or "", self.argument.typed) from wrong
        return Texts(self.name, tuple(before), prefix, values)


@dataclass(frozen=True, slots=True)
class Texts:
    """`Values` that are known."""

    name: str
    before: tuple[str, ...]
    """The words before the one that differs."""
    prefix: str
    """How that word begins: ``--name=``."""
    values: tuple[str, ...] | range

    @property
    def length(self) -> int:
        """See `Drawn`."""
        values = self.values
        return -((values.start - values.stop) // values.step) if isinstance(values, range) else len(values)

    def add(self, digit: int, words: list[str], parameters: dict[str, str]) -> None:
        """See `Drawn`."""
        value = self.values[digit]
        text = value if isinstance(value, str) else repr(value)
        words += self.before
        words.append(self.prefix + text)
        parameters[self.name] = text

    def is_even(self) -> bool:
        """See `Drawn`."""
        return True

    def differs(self) -> bool:
        """See `Drawn`."""
        return isinstance(self.values, range) or len(set(self.values)) == len(self.values)


@dataclass(frozen=True, slots=True)
class Combinations:
    """Several arguments that vary together: each value is one set of arguments, of which each has one value."""

    label: str
    rows: tuple[tuple[Part, ...], ...]
    flag: str = ""

    @property
    def names(self) -> frozenset[str]:
        """See `Part`."""
        return frozenset().union(*(part.names for row in self.rows for part in row))

    @property
    def length(self) -> int:
        """See `Part`."""
        return len(self.rows)

    @property
    def held(self) -> int:
        """See `Part`."""
        return len(self.rows)

    @property
    def width(self) -> int:
        """See `Part`."""
        return max(sum(part.width for part in row) for row in self.rows)

    def longest(self) -> tuple[str, int]:
        """See `Part`."""
        return max((part.longest() for row in self.rows for part in row), key=_bytes, default=("", 0))

    def drawn(self, seed: int, seen: dict[str, int]) -> Choices:
        """See `Part`."""
        choices = []
        for row in self.rows:
            words: list[str] = []
            parameters: dict[str, str] = {}
            for part in row:
                part.drawn(seed, seen).add(0, words, parameters)
            choices.append(Choice(tuple(words), parameters))
        return Choices(self.flag, self.label, tuple(choices))


def check_bytes(parts: Sequence[Part]) -> None:
    """Refuse a word that is longer than one argument of a process may be.

    Raises
    ------
    SweepError
        Names the flag, the size, and what may be done.
    """
    for part in parts:
        if isinstance(part, Combinations):
            for row in part.rows:
                check_bytes(row)
            continue
        begins, size = part.longest()
        if size > _MOST_BYTES:
            where = f"{clip(part.flag)}: " if part.flag else ""
            raise SweepError(
                f"{where}an argument that begins with {quoted(begins)} has {size:,} bytes, but a process can be given "
                f"at most {_MOST_BYTES:,} in one argument (128 KiB): write the value to a file in your project, and "
                "pass the file's name",
                part.flag,
            )


def _longest(words: Iterable[str]) -> tuple[str, int]:
    return max(((word[:200], len(word.encode())) for word in words), key=_bytes, default=("", 0))


def _bytes(longest: tuple[str, int]) -> int:
    return longest[1]
