"""Tells listeners that a run has changed, but not what: they read that from the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Changes:
    """The listeners of each run, all on the service's event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Event]] = {}

    def announce(self, run_seqs: Iterable[int]) -> None:
        """Wake every listener of one of these runs."""
        for run_seq in set(run_seqs):
            for event in self._waiting.get(run_seq, ()):
                event.set()

    def announce_all(self) -> None:
        """Wake every listener: something may have changed, and it is not known what."""
        self.announce(list(self._waiting))

    @contextmanager
    def listen(self, run_seq: int, event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """Yield an event that every change of the run sets; clear it before reading, so that no change is missed."""
        event = event or asyncio.Event()
        self._waiting.setdefault(run_seq, set()).add(event)
        try:
            yield event
        finally:
            listeners = self._waiting[run_seq]
            listeners.discard(event)
            if not listeners:
                del self._waiting[run_seq]
