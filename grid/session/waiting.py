"""Saying what is waited for: nobody should look at a prompt that does nothing and not know why."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol
from weakref import WeakSet

_SECONDS = 3.0


class Unfinished(Protocol):
    """A line on the terminal that is drawn again and again, and was not ended."""

    def leave(self) -> None:
        """Note that what is written next begins below this line, and draw it anew after that."""


unfinished: WeakSet[Unfinished] = WeakSet()
"""The lines that are drawn now."""


@contextmanager
def told(what: str | Callable[[], str]) -> Iterator[None]:
    """Say on stderr what is waited for, if the `with` block takes more than a few seconds.

    Parameters
    ----------
    what
        Ends the sentence "still waiting for"; or returns what does, as things are then.
    """

    def tell() -> None:
        if sys.stderr is None:  # a program without a terminal may have none
            return
        lines = tuple(unfinished)
        for line in lines:
            line.leave()
        text = f"grid: still waiting for {what if isinstance(what, str) else what()}\n"
        with suppress(OSError):  # its terminal was closed
            sys.stderr.write("\n" + text if lines else text)
            sys.stderr.flush()

    timer = threading.Timer(_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
