"""Printing what a command has done, so that what cannot be printed is not done."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

from grid.service.system.settings import OptionError, TryLater
from grid.shared import homes

if TYPE_CHECKING:
    from grid.service.domain.errors import AccountError


class OutputFile:
    """A file that output goes to, and how long it was before."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    @classmethod
    def of(cls, stream: TextIO) -> OutputFile | None:
        """Return the file that a stream writes to; None if it is a terminal, a pipe or something else."""
        try:
            descriptor = stream.fileno()
        except OSError:  # it is none of the system's
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        stream.flush()
        return cls(descriptor, os.fstat(descriptor).st_size)

    def undo(self) -> None:
        """Take back what was printed since."""
        if os.fstat(self._descriptor).st_size > self._size:
            os.ftruncate(self._descriptor, self._size)


def print_text(text: str, otherwise: str) -> None:
    """Print, or refuse with what is true then.

    Raises
    ------
    TryLater
        If the disk that it goes to is full.
    AccountError
        If anything else is wrong with it.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Not tried again when the interpreter ends, which would say it once more, in other words.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until then
        raise refusal(f"cannot print the answer: {error.strerror}; {otherwise}", error) from error


def refusal(message: str, error: OSError) -> OptionError | AccountError:
    """Return an error of this message: one that may pass if the system's error says that a disk is full."""
    from grid.service.domain.errors import AccountError  # noqa: PLC0415

    return TryLater(message) if homes.is_no_space(error) else AccountError(message)
