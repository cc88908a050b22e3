"""Lines of logs: where a user wants them to begin, how a page is taken apart, and how a line is shown.

Nothing is asked of a service here: `pages.py` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from grid.chain.decoding import read_time, write_time
from grid.definition.checks import shown
from grid.errors import InvalidArgument, InvalidResponse

if TYPE_CHECKING:
    from grid.models import LogPage

ALL_LINES = _MAX_NUMBER = 2**31 - 1
"""The largest whole number in GraphQL: no log has more lines."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of what an experiment has printed.

    Attributes
    ----------
    number
        Its number in the output of its attempt, from 1.
    time
        When it was printed, in UTC: when the output was last written to when the service found it.
    message
        The line, without its end and without colours; what was rewritten with a carriage return is left out.
    is_approximate
        Whether no service looked on when it was printed, so that it may be older than `time`.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> print(LogLine(1, datetime(2021, 8, 10, 16, 59, 58, 44624, UTC), "epoch 1", is_approximate=False))
    [2021-08-10 16:59:58.044] epoch 1
    """

    number: int
    time: datetime
    message: str
    is_approximate: bool

    def __str__(self) -> str:
        return _stamp(self.time, is_approximate=self.is_approximate) + self.message


@dataclass(frozen=True, slots=True)
class LogStart:
    """Where logs begin, from the arguments that all functions for logs have in common.

    Attributes
    ----------
    last
        How many of the last lines; None for all of them, or if one of the others is given.
    number
        The number of the first line.
    since
        The time of the first line.
    seconds_ago
        The same, as seconds before now by the service's clock.
    """

    last: int | None = None
    number: int | None = None
    since: datetime | None = None
    seconds_ago: float | None = None

    @classmethod
    def of(cls, n_lines: int | None, since: datetime | timedelta | int | None) -> LogStart:
        """Return where logs begin for these arguments: `since` wins, and everything from there is wanted.

        Raises
        ------
        InvalidArgument
            The message says what was given and what is allowed.
        """
        check_n_lines(n_lines)
        if since is None:
            return cls(last=n_lines)
        if isinstance(since, datetime):
            if since.utcoffset() is None:
                message = (
                    "since must have a time zone, or it would be another moment on another machine, and "
                    f"{shown(since)} has none: since.replace(tzinfo=timezone.utc) takes it as UTC, since.astimezone() "
                    "as this machine's time"
                )
                raise InvalidArgument(message)
            try:
                return cls(since=read_time(since))
            except OverflowError as error:
                message = f"since must be a time that UTC has, too, which {shown(since)} is not"
                raise InvalidArgument(message) from error
        if isinstance(since, timedelta):
            if since <= timedelta():
                message = f"since must be a time that has passed, as in timedelta(minutes=5), not {shown(since)}"
                raise InvalidArgument(message)
            return cls(seconds_ago=since.total_seconds())
        if isinstance(since, bool) or not isinstance(since, int):
            message = (
                "since must be a datetime with a time zone, a timedelta for how long ago, or the number of a line, not "
                f"{shown(since)}"
            )
            raise InvalidArgument(message)
        if not 1 <= since <= _MAX_NUMBER:
            message = f"since must be the number of a line, from 1 to {_MAX_NUMBER}, not {shown(since)}"
            raise InvalidArgument(message)
        return cls(number=since)

    def variables(self) -> dict[str, Any]:
        """Return the variables of a query that this stands for, without those that say nothing."""
        values = {
            "last": self.last,
            "number": self.number,
            "since": write_time(self.since),
            "secondsAgo": self.seconds_ago,
        }
        return {name: value for name, value in values.items() if value is not None}


def check_n_lines(n_lines: object) -> None:
    """Refuse what is neither None nor a number of lines.

    Raises
    ------
    InvalidArgument
        The message says what was given and what is allowed.
    """
    if n_lines is None:
        return
    if isinstance(n_lines, bool) or not isinstance(n_lines, int) or not 0 <= n_lines <= _MAX_NUMBER:
        message = f"n_lines must be a whole number from 0 to {_MAX_NUMBER}, or None for all lines, not {shown(n_lines)}"
        raise InvalidArgument(message)


def check_follow(follow: object) -> None:
    """Refuse what is neither True nor False.

    Raises
    ------
    InvalidArgument
        The message says what was given and what is allowed.
    """
    if not isinstance(follow, bool):
        message = f"follow must be True or False, not {shown(follow)}"
        raise InvalidArgument(message)


def texts(page: LogPage, prefix: str = "") -> list[str]:
    """Return the lines of a page as users see them, each with its time, and with a prefix before it."""
    return [
        stamped + message
        for time, is_approximate, _, messages in _pieces(page)
        for stamped in (prefix + _stamp(time, is_approximate=is_approximate),)
        for message in messages
    ]


def records(page: LogPage) -> list[LogLine]:
    """Return the lines of a page as objects."""
    return [
        LogLine(number, time, message, is_approximate)
        for time, is_approximate, first, messages in _pieces(page)
        for number, message in enumerate(messages, first)
    ]


def messages(page: LogPage) -> list[str]:
    """Return the lines of a page as they were printed."""
    # Not `splitlines()`: a line of a log may hold characters that Python takes for the end of one.
    return page.text.split("\n")[:-1]


def _pieces(page: LogPage) -> Iterator[tuple[datetime, bool, int, list[str]]]:
    """Yield the lines of a page by their time: the time, whether it is approximate, the first number, the lines."""
    lines = messages(page)
    if len(lines) != page.count or (lines and not page.times):
        message = (
            f"the service says that these are {page.count} lines of {page.name} with {len(page.times)} times, but sent "
            f"{len(lines)} lines"
        )
        raise InvalidResponse(message)
    if not lines:
        return
    starts = [0, *(max(each.number - page.number, 0) for each in page.times[1:])]
    for time, start, end in zip(page.times, starts, [*starts[1:], len(lines)], strict=True):
        if start < end:
            yield time.at, time.is_approximate, page.number + start, lines[start:end]


def _stamp(time: datetime, *, is_approximate: bool) -> str:
    text = time.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")
    return f"~[{text}] " if is_approximate else f"[{text}] "
