"""Counts what happens again and again, for logs: few of a kind are worth a line each, and the others a number."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

__all__ = ["Repeats"]

_MAX_KINDS = 1_000


class Repeats:
    """Lets only so many of each kind pass within a time.

    Parameters
    ----------
    most
        How many of a kind pass.
    seconds
        Within how long.
    clock
        Returns seconds that never go backwards.
    """

    def __init__(self, most: int, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        # When the time of a kind began, how many have passed since, how many have not.
        self._kinds: OrderedDict[Hashable, tuple[float, int, int]] = OrderedDict()

    def note(self, kind: Hashable) -> int | None:
        """Count one of a kind.

        Parameters
        ----------
        kind
            What it counts as the same as.

        Returns
        -------
        int or None
            How many have not passed since the last one that has; None if this one does not pass either.
        """
        now = self._clock()
        with self._lock:
            begun, passed, held = self._kinds.pop(kind, (now, 0, 0))
            if now - begun >= self._seconds:
                begun, passed = now, 0
            passes = passed < self._most
            self._kinds[kind] = (begun, passed + 1, 0) if passes else (begun, passed, held + 1)
            while len(self._kinds) > _MAX_KINDS:
                self._kinds.popitem(last=False)
        return held if passes else None
