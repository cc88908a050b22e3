"""The errors of a wrong sweep, and how messages quote what was typed. What is wrong is decided elsewhere."""

from __future__ import annotations

from grid.service.domain.errors import DomainError
from grid.shared.words import clip

__all__ = ["SweepError", "WrongForm", "clip", "quoted", "written"]

_LONGEST_HINT = 40


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
    """A value looks like one of the grammar's forms but is not valid. The expansion turns this into a `SweepError`.

    Parameters
    ----------
    reason
        What is wrong, and what is expected.
    example
        A value that would be valid.
    text
        The value, if it may have been meant as plain text: the message then shows how to write that.
    """

    def __init__(self, reason: str, example: str, text: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.example = example
        self.text = text

    def of_flag(self, flag: str, value: str) -> SweepError:
        """Return the error that quotes the flag."""
        name = clip(flag)
        message = f"{name} {quoted(value)}: {self.reason}. For example: {name} {quoted(self.example)}"
        if 0 < len(self.text) <= _LONGEST_HINT and not set(self.text) & set("'\"\\"):
            message += f" (or, to pass the text as it is, {name} \"['{clip(self.text)}']\")"
        return SweepError(message, flag)


def quoted(value: str) -> str:
    """Return `value` between quotes, as one would type it in a shell."""
    return f"'{clip(value)}'" if '"' in value else f'"{clip(value)}"'


def written(number: int) -> str:
    """Return `number` for people: with separators, or as a power of 10 if its digits would fill the screen."""
    if number < 10**30:
        return f"{number:,}"
    # One less than the number of decimal digits; printing such a number in full may exceed the interpreter's limit.
    return f"more than 10^{int((number.bit_length() - 1) * 0.30102999566)}"
