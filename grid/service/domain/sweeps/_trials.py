"""The experiments of a sweep, each made when it is looked at, and which of them are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from grid.service.domain.sweeps._parts import Choice, Choices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from grid.service.domain.sweeps._parts import Drawn

REPEAT = "repeat"
"""The parameter that says which of the repeats an experiment is."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination of the sweep's values."""

    arguments: tuple[str, ...]
    """The words that the script gets, in the order in which they were typed."""

    parameters: dict[str, str]
    """Each argument without its dashes; ``True`` for a flag without a value; ``arg0``, ``arg1``, … for positionals."""


class Trials(Sequence[Trial]):
    """Combinations by their numbers, each `repeats` times in a row.

    Parameters
    ----------
    parts
        The command line, in its order.
    picked
        The numbers of the combinations.
    together
        Whether the number of a combination is that of each part's value; else the last part varies fastest.
    repeats
        How often each combination is there.
    counted
        Whether the parameters say which repeat it is.
    """

    def __init__(
        self, parts: Sequence[Drawn], picked: Sequence[int], *, together: bool, repeats: int, counted: bool
    ) -> None:
        self._parts = _merged(parts)
        self._together = together
        # With each part, how far two combinations are apart that have neighbouring values of it.
        self._steps: list[tuple[Callable[[int, list[str], dict[str, str]], None], int, int]] = []
        stride = 1
        for part in reversed(self._parts):
            self._steps.append((part.add, stride, part.length))
            stride *= 1 if together else part.length
        self._steps.reverse()
        self._picked = picked
        self._repeats = repeats
        self._counted = counted

    def __len__(self) -> int:
        return len(self._picked) * self._repeats

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Trial, ...]: ...

    def __getitem__(self, index: int | slice) -> Trial | tuple[Trial, ...]:
        found = range(len(self))[index]
        return self._trial(found) if isinstance(found, int) else tuple(map(self._trial, found))

    def __iter__(self) -> Iterator[Trial]:
        return map(self._trial, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it is equal to other sequences, which have none

    def __repr__(self) -> str:
        return f"<{len(self):,} trials>"

    def same(self) -> tuple[int, tuple[int, int]] | None:
        """Return how many combinations have the words of an earlier one, and the first two such experiments.

        Nothing is compared where every part has other words for each of its values, and as many: then all combinations
        differ. Otherwise each is made once, and only a digest of it is kept.
        """
        if self._all_differ():
            return None
        seen: dict[bytes, int] = {}
        copies = 0
        first = None
        for number, combination in enumerate(self._picked):
            words = "\0".join(self._made(combination)[0])
            digest = hashlib.blake2b(words.encode(), digest_size=16).digest()
            before = seen.setdefault(digest, number)
            if before != number:
                copies += 1
                first = first or (before * self._repeats, number * self._repeats)
        return (copies, first) if first else None

    def _all_differ(self) -> bool:
        swept = [part for part in self._parts if part.length > 1]
        if len(self) == self._repeats:
            return True
        # Where words stand at the same place in every experiment, what differs in one part differs as a whole.
        if not all(part.is_even() for part in swept):
            return False
        return (any if self._together else all)(part.differs() for part in swept)

    def _trial(self, index: int) -> Trial:
        number, repeat = divmod(index, self._repeats)
        words, parameters = self._made(self._picked[number])
        if self._counted:
            parameters[REPEAT] = repr(repeat)
        return Trial(tuple(words), parameters)

    def _made(self, combination: int) -> tuple[list[str], dict[str, str]]:
        words: list[str] = []
        parameters: dict[str, str] = {}
        for add, stride, length in self._steps:
            add(combination // stride % length, words, parameters)
        return words, parameters


def _merged(parts: Sequence[Drawn]) -> list[Drawn]:
    """Make one part of neighbours that never change."""
    merged: list[Drawn] = []
    words: list[str] = []
    parameters: dict[str, str] = {}
    for part in parts:
        if part.length == 1:
            part.add(0, words, parameters)
            continue
        if words or parameters:
            merged.append(Choices("", "", (Choice(tuple(words), parameters),)))
            words, parameters = [], {}
        merged.append(part)
    if words or parameters:
        merged.append(Choices("", "", (Choice(tuple(words), parameters),)))
    return merged
