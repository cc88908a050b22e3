"""Saying what is waited for: nobody should look at a prompt that does nothing and not know why."""

from __future__ import annotations

import os
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
def told(what: str | Callable[[], str], *, after: float | None = None) -> Iterator[None]:
    """Say on stderr what is waited for, if the `with` block takes more than a few seconds.

    Where several wait for the same, it is said once for all of them.

    Parameters
    ----------
    what
        Ends the sentence "still waiting for"; or returns what does, as things are then.
    after
        Seconds after which it is said; None for a few.
    """
    wait = object()

    def tell() -> None:
        text = what if isinstance(what, str) else what()
        if _waits.are_news(wait, text):
            _say(f"grid: still waiting for {text}\n")

    _waits.begin(wait, what if isinstance(what, str) else None)
    timer = threading.Timer(_SECONDS if after is None else after, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _waits.end(wait)


def _say(text: str) -> None:
    if sys.stderr is None:  # a program without a terminal may have none
        return
    lines = tuple(unfinished)
    for line in lines:
        line.leave()
    with suppress(OSError):  # its terminal was closed
        sys.stderr.write("\n" + text if lines else text)
        sys.stderr.flush()


class _Waits:
    """Who waits for what, and who of them need not say so, because it was said since they began."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._texts: dict[object, str | None] = {}
        self._told: dict[str, set[object]] = {}

    def begin(self, wait: object, text: str | None) -> None:
        """Note that somebody waits, and what for if that is known."""
        with self._lock:
            self._texts[wait] = text

    def are_news(self, wait: object, text: str) -> bool:
        """Note that a wait has lasted for a while; return whether nobody has said so of the same."""
        with self._lock:
            if wait not in self._texts:  # it has just ended
                return False
            self._texts[wait] = text
            if text in self._told:
                self._told[text].add(wait)
                return False
            # All who wait by now share what is said. When none of them waits any more, the next wait is news again.
            self._told[text] = {each for each, what in self._texts.items() if what == text}
            return True

    def end(self, wait: object) -> None:
        """Note that a wait has ended."""
        with self._lock:
            text = self._texts.pop(wait, None)
            told = self._told.get(text or "", set())
            told.discard(wait)
            if text and not told:
                self._told.pop(text, None)


_waits = _Waits()


def _after_fork() -> None:
    """Forget the parent's waits: their threads do not exist here, and one of them may have held the lock."""
    global _waits  # noqa: PLW0603 - one for each process
    _waits = _Waits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
