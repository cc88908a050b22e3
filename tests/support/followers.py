"""Somebody who follows a log while the test does something else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Follower(Generic[_T]):
    """Goes through an iterator in a thread of its own.

    Attributes
    ----------
    seen
        What has come so far.
    """

    def __init__(self, source: Iterator[_T]) -> None:
        self.seen: list[_T] = []
        self._source = source
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def _go(self) -> None:
        try:
            for each in self._source:
                self.seen.append(each)
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            self._error = error

    def all(self, seconds: float = 120) -> list[_T]:
        """Return everything, once it is over; raise what it has raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"it goes on after {len(self.seen)}, the last: {self.seen[-1:]}"
        if self._error is not None:
            raise self._error
        return self.seen
