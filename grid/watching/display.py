"""Where progress is shown: one line on a terminal, one display in a notebook, nothing in a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

from grid.errors import InvalidArgument
from grid.session import waiting
from grid.watching.line import PLAIN, RICH, Letters, cut, progress_line

if TYPE_CHECKING:
    from grid.models import StatusProgress

__all__ = ["Drawing", "ProgressShown", "check_progress", "drawing_on", "say", "saying_what_goes_on", "showing"]

_T = TypeVar("_T")

_TICK = 1.0  # seconds after which a line is drawn again, because time passes
_WIDTH = 80  # columns of what does not say how many it has


class Drawing(Protocol):
    """Something that a line is drawn on, again and again."""

    interval: float
    """Seconds from one drawing to the next, at least."""

    letters: Letters

    def draw(self, line: str) -> None:
        """Draw the line in place of the one before."""

    def end(self) -> None:
        """Leave the last line as it is."""


class _Terminal:
    """One line of a terminal, which is rewritten."""

    interval = 0.1

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = 0
        self._is_gone = False
        self.letters = _letters_of(stream)

    def draw(self, line: str) -> None:
        # One column stays free: many terminals begin another line after the last.
        line = cut(line, _width_of(self._stream) - 1, self.letters)
        self._write("\r" + line + " " * (self._drawn - len(line)))
        self._drawn = len(line)
        if not self._is_gone:
            waiting.unfinished.add(self)

    def leave(self) -> None:
        self._drawn = 0
        waiting.unfinished.discard(self)

    def end(self) -> None:
        if self._drawn:
            self._write("\n")
        self.leave()

    def _write(self, text: str) -> None:
        self._is_gone = self._is_gone or not _written(self._stream, text)


class _Notebook:
    """One display of a notebook, which is updated."""

    interval = 0.2
    letters = RICH

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None

    def draw(self, line: str) -> None:
        shown = {"text/plain": line}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def end(self) -> None:
        """Nothing needs to be done."""


class _Lines:
    """Lines one after the other, for a pipe whose user wants progress all the same."""

    interval = 10.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_gone = False
        self.letters = _letters_of(stream)

    def draw(self, line: str) -> None:
        self._is_gone = self._is_gone or not _written(self._stream, line + "\n")

    def end(self) -> None:
        """Nothing needs to be done."""


class ProgressShown:
    """How far a run has come, shown in a place.

    Parameters
    ----------
    name
        The run's name.
    place
        Where; None for nowhere.
    clock
        The time, in seconds.
    """

    def __init__(self, name: str, place: Drawing | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._place = place
        self._clock = clock
        self._status: StatusProgress | None = None
        self._since = 0.0
        self._drawn_at = float("-inf")
        self._is_drawn = True

    @property
    def tick(self) -> float:
        """Seconds after which to call `show` again with what it has shown before."""
        return float("inf") if self._place is None else _TICK

    def show(self, status: StatusProgress) -> None:
        """Show how far the run has come now, unless that was done too short a while ago."""
        now = self._clock()
        if status is not self._status:
            self._status, self._since, self._is_drawn = status, now, False
        if self._place is not None and now - self._drawn_at >= self._place.interval:
            self._draw(now)

    def end(self) -> None:
        """Show what was shown last as it is in the end."""
        if self._place is not None:
            if not self._is_drawn:
                self._draw(self._clock())
            self._place.end()

    def _draw(self, now: float) -> None:
        if self._place is not None and self._status is not None:
            self._place.draw(progress_line(self._name, self._status, now - self._since, self._place.letters))
            self._drawn_at, self._is_drawn = now, True


@contextmanager
def showing(name: str, *, progress: bool | None, stopping: str) -> Iterator[ProgressShown]:
    """Show the progress of a run for as long as the `with` block lasts; Ctrl-C says that it goes on.

    Parameters
    ----------
    name
        The run's name.
    progress
        Whether to show it; None for where somebody looks on.
    stopping
        What stops it, as a user would write that.
    """
    shown = ProgressShown(name, drawing_on(progress=progress))
    try:
        try:
            yield shown
        finally:
            shown.end()
    except KeyboardInterrupt:
        say(f"still running; {stopping} stops it")
        raise


def saying_what_goes_on(items: Iterator[_T], stopping: str, has_ended: Callable[[], bool]) -> Iterator[_T]:
    """Yield what comes; Ctrl-C while the next is waited for says that the run, or the experiment, goes on.

    Parameters
    ----------
    items
        What comes.
    stopping
        What stops it, as a user would write that.
    has_ended
        Whether it has ended meanwhile, as far as can be told at once.
    """
    try:
        yield from items
    except KeyboardInterrupt:
        if not has_ended():
            say(f"still running; {stopping} stops it")
        raise


def check_progress(progress: object) -> None:
    """Refuse what `progress` cannot be.

    Raises
    ------
    InvalidArgument
        If it is neither None, True nor False.
    """
    if isinstance(progress, str):
        message = (
            f"progress={progress!r} would show the best value of a metric, and metrics are not there yet: give None, "
            "True or False"
        )
        raise InvalidArgument(message)
    if progress is not None and not isinstance(progress, bool):
        message = f"progress must be None, True or False, not {progress!r}"
        raise InvalidArgument(message)


def say(text: str) -> None:
    """Write a line to stderr, if there is one."""
    if sys.stderr is not None:
        _written(sys.stderr, text + "\n")


def _written(stream: TextIO, text: str) -> bool:
    """Write to a stream; return False where nobody reads any more, which is no reason to end what is shown there."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        return False
    return True


def drawing_on(*, progress: bool | None) -> Drawing | None:
    """Return what lines are drawn on; None for nothing, as where nobody looks on."""
    if progress is False:
        return None
    if (display := _display_of_notebook()) is not None:
        return _Notebook(display)
    stream = sys.stderr
    if stream is None:  # a program without a terminal may have none
        return None
    if stream.isatty():
        return _Terminal(stream)
    return _Lines(stream) if progress else None


def _display_of_notebook() -> Callable[..., Any] | None:
    """Return what displays something in the notebook that this is; None if it is none."""
    ipython = sys.modules.get("IPython")  # where it is not loaded, this is no notebook
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # noqa: PLC0415 - it is there, see above

    return display


def _letters_of(stream: TextIO) -> Letters:
    try:
        for letters in (RICH.full, RICH.empty, RICH.between, RICH.to, RICH.rest):
            letters.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return RICH


def _width_of(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH
