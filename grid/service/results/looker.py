"""Looks whether active attempts have printed something: one thread, which sleeps as long as nothing runs.

What it is told only goes on a list, so that nobody waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from grid.service.executors.protocol import AttemptName, Files, Written
from grid.service.results import index
from grid.service.results.index import Entry
from grid.service.results.output import Output
from grid.service.system.repeats import Repeats
from grid.service.system.workspace import Workspace

_log = logging.getLogger(__name__)

SOON, LATER = 0.05, 1.0
"""How many seconds there are between two looks at an output: at one that is followed or has just grown; at others."""
_JUST = 5.0
"""How many seconds ago an output may have grown to be looked at soon."""


@dataclass(slots=True, eq=False)
class _Watched:
    """An output that is looked at."""

    run_seq: int
    output: Output
    due: float
    is_active: bool = False
    has_ended: bool = False
    grown_at: float = float("-inf")
    asked: list[Future[Entry]] = field(default_factory=list)
    """Who waits for it to be read up to its end."""

    def answer(self) -> None:
        """Tell them how far it goes."""
        for future in self.asked:
            if future.set_running_or_notify_cancel():  # some may have lost their patience
                future.set_result(self.output.reached)
        self.asked.clear()


class Looker:
    """Keeps the indexes of the outputs of active attempts, and of others on request.

    Parameters
    ----------
    files
        Where outputs lie.
    workspace
        Where their indexes are.
    is_followed
        Whether somebody follows a run, by its seq.
    announce
        Called by its thread with the runs' seqs and the attempts of followed runs whose output has grown.
    """

    def __init__(
        self,
        files: Files,
        workspace: Workspace,
        is_followed: Callable[[int], bool],
        announce: Callable[[list[tuple[int, AttemptName]]], None],
    ) -> None:
        self._files = files
        self._workspace = workspace
        self._is_followed = is_followed
        self._announce = announce
        self._repeats = Repeats(1)
        self._watched: dict[AttemptName, _Watched] = {}
        self._told: deque[Callable[[float], None]] = deque()
        self._wake = threading.Event()
        self._sleeps = False
        self._is_closing = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    # What it is told, by any thread

    def begins(self, written: Written, run_seq: int, *, is_new: bool) -> None:
        """Look at an attempt from now on; `is_new` says that it is being started by this service."""
        self._tell(lambda now: self._begin(written, run_seq, now, is_new=is_new))

    def ends(self, attempt: AttemptName) -> None:
        """Take a last look at an attempt whose end is recorded."""
        self._tell(lambda now: self._end(attempt, now))

    def hurry(self) -> None:
        """Note that somebody has begun to follow a run."""
        self._tell(self._hurry, is_urgent=True)

    def catch_up(self, written: Written, *, has_ended: bool, anew: bool = False) -> Future[Entry]:
        """Have an output read up to its end, `anew` if its index is broken; return a future of how far it goes."""
        future: Future[Entry] = Future()
        self._tell(lambda now: self._ask(written, future, now, has_ended=has_ended, anew=anew), is_urgent=True)
        return future

    def reached(self, attempt: AttemptName) -> Entry | None:
        """Return how far the output of an active attempt is known; None if it is not looked at."""
        watched = self._watched.get(attempt)
        return None if watched is None else watched.output.reached

    def close(self) -> None:
        """Take a last look at everything, and end."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _tell(self, what: Callable[[float], None], *, is_urgent: bool = False) -> None:
        self._told.append(what)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="grid-looker", daemon=True)
                    self._thread.start()
        elif self._sleeps or is_urgent:
            self._wake.set()

    # What its thread does

    def _run(self) -> None:
        while True:
            is_last = self._is_closing
            try:
                self._round(is_last=is_last)
            except Exception:  # noqa: BLE001 - nothing depends on this thread but times, and it goes on
                _log.exception("a fault has ended a round of looks at outputs")
            if is_last:
                return
            self._sleep()

    def _round(self, *, is_last: bool) -> None:
        now = time.monotonic()
        while self._told:
            self._told.popleft()(now)
        grown: list[tuple[int, AttemptName]] = []
        for attempt, watched in list(self._watched.items()):
            if watched.due <= now or is_last:
                has_grown = self._look(attempt, watched, now)
                if has_grown and self._is_followed(watched.run_seq):
                    grown.append((watched.run_seq, attempt))
                if is_last:
                    watched.output.flush(now)
                    watched.answer()
        if grown:
            self._announce(grown)

    def _sleep(self) -> None:
        due = min((each.due for each in self._watched.values()), default=None)
        if due is None:
            self._sleeps = True
            if self._told:  # since it was looked through
                self._sleeps = False
                return
        self._wake.wait(None if due is None else max(due - time.monotonic(), 0))
        self._sleeps = False
        self._wake.clear()

    def _look(self, attempt: AttemptName, watched: _Watched, now: float) -> bool:
        """Take a look; return whether the output has grown."""
        output = watched.output
        try:
            has_grown = output.look(now, has_ended=watched.has_ended)
        except Exception as error:  # noqa: BLE001 - whatever a script has left there: nothing depends on this
            # Each second again, and for all outputs at once where no descriptor is left: one of a kind is enough.
            if self._repeats.note((type(error), getattr(error, "errno", None))) is not None:
                _log.exception("the output of %s-%d cannot be looked at", *attempt)
            if watched.is_active and not watched.has_ended:
                watched.answer()
                watched.due = now + LATER
            else:
                self._drop(attempt, watched)
            return False
        if has_grown:
            watched.grown_at = now
        if output.is_through:
            watched.answer()
            if watched.has_ended or not watched.is_active:
                self._drop(attempt, watched)
        is_soon = now - watched.grown_at < _JUST or self._is_followed(watched.run_seq)
        watched.due = now + (SOON if is_soon else LATER) if output.is_through else now
        return has_grown

    def _drop(self, attempt: AttemptName, watched: _Watched) -> None:
        del self._watched[attempt]
        watched.answer()

    def _begin(self, written: Written, run_seq: int, now: float, *, is_new: bool) -> None:
        attempt = AttemptName(written.experiment_id, written.number)
        known = self._watched.get(attempt)
        if known is None:
            due = now + LATER if is_new and not self._is_followed(run_seq) else now
            known = self._watched[attempt] = _Watched(run_seq, self._output(written, is_new=is_new), due)
        elif is_new:  # somebody has asked for it already
            known.output.nothing_is_missed()
        known.run_seq, known.is_active = run_seq, True

    def _end(self, attempt: AttemptName, now: float) -> None:
        if (known := self._watched.get(attempt)) is not None:
            known.has_ended = True
            known.due = now

    def _hurry(self, now: float) -> None:
        for watched in self._watched.values():
            if self._is_followed(watched.run_seq):
                watched.due = now

    def _ask(self, written: Written, future: Future[Entry], now: float, *, has_ended: bool, anew: bool) -> None:
        attempt = AttemptName(written.experiment_id, written.number)
        known = self._watched.get(attempt)
        if known is None:
            known = self._watched[attempt] = _Watched(-1, self._output(written, is_new=False), now)
        elif anew:
            known.output = self._output(written, is_new=False)
        if anew:
            index.remove(self._workspace.log_index(*attempt))
        known.has_ended |= has_ended
        known.due = now
        known.asked.append(future)

    def _output(self, written: Written, *, is_new: bool) -> Output:
        path = self._workspace.log_index(written.experiment_id, written.number)
        return Output(self._files, written, path, is_new=is_new)
