"""The errors of a wrong sweep, and how messages quote what was typed. What is wrong is decided elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable

from grid.service.domain.errors import DomainError
from grid.shared.words import clip

__all__ = ["SweepError", "WrongForm", "as_it_is", "clip", "quoted", "shell", "written"]

_LONGEST_HINT = 40
_SPECIAL_IN_QUOTES = re.compile(r'[$`"]|\\(?=[$`"\\]|\Z)')


class SweepError(DomainError):
    """The script arguments cannot be turned into experiments.

    Parameters
    ----------
    message
        What was given, what is expected, and an example.
    flag
        The flag that is wrong, as it was typed; empty if the fault does not lie with one flag.
    """

    def __init__(self, message: str, flag: str = "") -> None:
        super().__init__(message)
        self.flag = flag


class WrongForm(Exception):
    """A value looks like one of the grammar's forms but is not valid. `SweepError` says where it stands.

    Parameters
    ----------
    reason
        What is wrong, and what is expected.
    example
        A value that would be valid.
    text
        The value, if it may have been meant as plain text: the message then shows how to write that.
    is_open
        Whether what it lacks is its end, which may stand in another word.
    """

    def __init__(self, reason: str, example: str, text: str = "", *, is_open: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.example = example
        self.text = text
        self.is_open = is_open

    def of_flag(self, flag: str, value: str) -> SweepError:
        """Return the error that quotes the flag and its value."""
        return self.of(flag, value, lambda text: f"{clip(flag)} {shell(text)}")

    def of(self, flag: str, value: str, typed: Callable[[str], str]) -> SweepError:
        """Return the error that quotes what stands there; `typed` returns how one types it with another value."""
        message = f"{typed(value)}: {self.reason}. For example: {typed(self.example)}"
        as_text = as_it_is(self.text)
        if as_text:
            message += f" (or, to pass the text as it is, {typed(as_text)})"
        return SweepError(message, flag)


def as_it_is(text: str) -> str:
    """Return the list that stands for one text, or an empty text if it would be hard to read."""
    return f"['{text}']" if 0 < len(text) <= _LONGEST_HINT and not set(text) & set("'\"\\") else ""


def quoted(value: str) -> str:
    """Return `value` between quotes."""
    return f"'{clip(value)}'" if '"' in value else f'"{clip(value)}"'


def shell(value: str) -> str:
    """Return `value` between quotes, as one types it in a shell."""
    shown = clip(value)
    if "'" not in shown:
        return f"'{shown}'"
    return f'"{_SPECIAL_IN_QUOTES.sub(_escaped, shown)}"'


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def written(number: int) -> str:
    """Return `number` for people: with separators, or as a power of 10 if its digits would fill the screen."""
    if number < 10**30:
        return f"{number:,}"
    # One less than the number of decimal digits; printing such a number in full may exceed the interpreter's limit.
    return f"more than 10^{int((number.bit_length() - 1) * 0.30102999566)}"
