"""Gives each flag its value, and finds the other words that hold one. What a value means is not decided here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from grid.service.domain.sweeps._errors import SweepError, clip, shell
from grid.service.domain.sweeps._flags import flag_in, key_in
from grid.service.domain.sweeps._forms import closes, is_form
from grid.shared import words

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_WORDS_MEANT = 20
_LONGEST_MEANT = 1_000


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of the script: a flag with or without a value, ``key=value``, or a positional word."""

    flag: str
    """As it is typed: ``--lr``; ``+model.lr`` of ``+model.lr=0.1``; empty for a positional word."""

    value: str | None
    """``None`` for a flag without one."""

    joined: bool = False
    """Whether flag and value are one word, ``--name=value`` or ``name=value``."""

    is_fixed: bool = False
    """Whether the value is passed on without being looked at, as all words after ``--`` are."""

    meant: str = ""
    """The value and the words after it, up to the one that closes the bracket that the value opens."""

    @property
    def is_flag(self) -> bool:
        """Whether it has a flag with dashes."""
        return self.flag.startswith("-")

    @property
    def name(self) -> str:
        """What it is called among the parameters: the flag without its dashes, the key without ``+`` and ``~``."""
        return self.flag.lstrip("-" if self.is_flag else "+~")

    def words(self, value: str) -> tuple[str, ...]:
        """Return the words that the script gets with `value` in place of the one that was typed."""
        if not self.flag:
            return (value,)
        if self.value is None:
            return (self.flag,)
        return (f"{self.flag}={value}",) if self.joined else (self.flag, value)

    def typed(self, value: str) -> str:
        """Return how one types the argument with this value, shortened if it is long."""
        if not self.flag:
            return shell(value)
        if not self.joined:
            return f"{clip(self.flag)} {shell(value)}"
        return f"{clip(self.flag)}={shell(value)}" if self.is_flag else shell(f"{self.flag}={value}")


class Command(NamedTuple):
    """The arguments of a script in their order, and what is to be said about their words."""

    arguments: tuple[Argument, ...]
    warnings: tuple[str, ...] = ()


def parse(script_args: str) -> Command:
    """Split as a POSIX shell splits words, and give each flag its value.

    A word is a flag when it starts with one dash and a letter, or with more dashes and anything, and has no white space
    in its name; a negative number (``-1e-3``, ``-inf``) is a value. After ``--``, which is a positional word itself,
    every word is one, and is not looked at. ``name=value`` whose value is wholly a form, right or wrong, is never the
    value of the flag before it.

    Raises
    ------
    SweepError
        If a shell would do more with the text than to split it, or if such arguments cannot be passed to a process.
    """
    try:
        split = words.split(script_args)
    except words.WordsError as error:
        raise SweepError(str(error)) from None
    arguments: list[Argument] = []
    position = 0
    while position < len(split.words):
        word = split.words[position]
        position += 1
        if word == "--":
            rest = (Argument("", each, is_fixed=True) for each in split.words[position - 1 :])
            return Command((*arguments, *rest), split.warnings)
        flag = flag_in(word)
        if flag and flag == word:
            if position < len(split.words) and _can_be_value(split.words[position]):
                value = split.words[position]
                position += 1
                arguments.append(Argument(flag, value, meant=_meant(value, split.words, position)))
            else:
                arguments.append(Argument(flag, None))
        else:
            key = flag or key_in(word)
            value = word[len(key) + 1 :] if key else word
            arguments.append(Argument(key, value, joined=bool(key), meant=_meant(value, split.words, position)))
    return Command(tuple(arguments), split.warnings)


def _can_be_value(word: str) -> bool:
    if word == "--" or flag_in(word):
        return False
    key = key_in(word)
    return not key or not is_form(word[len(key) + 1 :])


def _meant(value: str, split: Sequence[str], position: int) -> str:
    """Return the value with the words from `position` on that close what it opens; empty if it opens nothing."""
    opened = value.find("[") if value.startswith("[") else value.find("(")
    if opened < 0 or value.endswith(("]", ")")) or closes(value[opened:]):
        return ""
    for end in range(position, min(position + _MOST_WORDS_MEANT, len(split))):
        if split[end].startswith("-") and (flag_in(split[end]) or split[end] == "--"):
            break
        if split[end].endswith(("]", ")")):
            text = " ".join((value, *split[position : end + 1]))
            if len(text) > _LONGEST_MEANT:
                break
            if closes(text[opened:]):
                return text
    return ""
