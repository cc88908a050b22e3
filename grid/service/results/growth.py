"""Tells those who follow a run whose output has grown, but not by what: they read that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from grid.service.executors.protocol import AttemptName


class Follower:
    """Somebody who follows a run.

    Parameters
    ----------
    event
        Is set whenever there is news.
    """

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._grown: set[AttemptName] = set()

    def tell(self, attempt: AttemptName) -> None:
        """Note that an attempt has printed something."""
        self._grown.add(attempt)
        self._event.set()

    def grown(self) -> set[AttemptName]:
        """Return whose output has grown since the last call."""
        grown, self._grown = self._grown, set()
        return grown


class Growth:
    """The followers of each run, all on the service's event loop."""

    def __init__(self) -> None:
        self._followers: dict[int, set[Follower]] = {}

    def announce(self, grown: Iterable[tuple[int, AttemptName]]) -> None:
        """Tell the followers of these runs about these attempts."""
        for run_seq, attempt in grown:
            for follower in self._followers.get(run_seq, ()):
                follower.tell(attempt)

    def is_followed(self, run_seq: int) -> bool:
        """Return whether somebody follows a run; any thread may ask."""
        return run_seq in self._followers

    @contextmanager
    def follow(self, run_seq: int, event: asyncio.Event) -> Iterator[Follower]:
        """Follow a run until the end of the block."""
        follower = Follower(event)
        self._followers.setdefault(run_seq, set()).add(follower)
        try:
            yield follower
        finally:
            followers = self._followers[run_seq]
            followers.discard(follower)
            if not followers:
                del self._followers[run_seq]
