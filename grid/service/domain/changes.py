"""Tells whoever waits that a run has changed. Says nothing of what: they read that from the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Changes:
    """Listeners by run, all on the service's event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Event]] = {}

    def announce(self, run_seqs: Iterable[int]) -> None:
        """Wake everybody who waits for one of these runs."""
        for run_seq in set(run_seqs):
            for event in self._waiting.get(run_seq, ()):
                event.set()

    def announce_all(self) -> None:
        """Wake everybody: something may have changed, and it is not known what."""
        self.announce(list(self._waiting))

    @contextmanager
    def listen(self, run_seq: int) -> Iterator[asyncio.Event]:
        """Give an event that is set with every change of the run; clear it before reading, so that none is missed."""
        event = asyncio.Event()
        self._waiting.setdefault(run_seq, set()).add(event)
        try:
            yield event
        finally:
            listeners = self._waiting[run_seq]
            listeners.discard(event)
            if not listeners:
                del self._waiting[run_seq]
