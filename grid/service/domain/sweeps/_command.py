"""Gives each flag its value, and finds the other words that hold one. What a value means is not decided here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from grid.service.domain.sweeps._errors import SweepError
from grid.service.domain.sweeps._forms import is_form
from grid.shared import words

_NEGATIVE_NUMBER = re.compile(
    r"-(?:(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:e[+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE
)
_FLAG = re.compile(r"(?:--+[^\s=-]|-(?:[^\W\d]|\?))[^\s=]*")
_KEY = re.compile(r"([+~]*[A-Za-z_][\w./@-]*)=")


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
        if not flag:
            arguments.append(_keyed(word) or Argument("", word))
        elif len(flag) < len(word):
            arguments.append(Argument(flag, word[len(flag) + 1 :], joined=True))
        elif position < len(split.words) and _can_be_value(split.words[position]):
            arguments.append(Argument(flag, split.words[position]))
            position += 1
        else:
            arguments.append(Argument(flag, None))
    return Command(tuple(arguments), split.warnings)


def flag_in(word: str) -> str:
    """Return the flag that `word` is or begins with (``--name=value``), or an empty text if it is a value."""
    if not word.startswith("-") or _NEGATIVE_NUMBER.fullmatch(word):
        return ""
    match = _FLAG.match(word)
    if match is None or (match.end() < len(word) and word[match.end()] != "="):
        return ""
    return match[0]


def _keyed(word: str) -> Argument | None:
    match = _KEY.match(word)
    return None if match is None else Argument(match[1], word[match.end() :], joined=True)


def _can_be_value(word: str) -> bool:
    if word == "--" or flag_in(word):
        return False
    keyed = _keyed(word)
    return keyed is None or not is_form(keyed.value or "")
