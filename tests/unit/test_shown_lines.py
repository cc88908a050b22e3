"""Lines of logs as users see them, and what says where they begin."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.definition.checks import check_attempt
from grid.errors import InvalidArgument, InvalidResponse
from grid.logs.lines import LogLine, LogStart, check_follow, messages, records, texts
from grid.models import LogPage, LogTime

NOON = datetime(2021, 8, 10, 12, tzinfo=UTC)


def page_of(*lines: str, number: int = 1, times: list[tuple[int, datetime, bool]] | None = None) -> LogPage:
    """A page of these lines; all of one time unless times are given: first line, time, whether it is approximate."""
    return LogPage(
        experiment_id="e",
        name="calm-otter-7-exp0",
        attempt=1,
        number=number,
        count=len(lines),
        text="".join(f"{line}\n" for line in lines),
        times=tuple(LogTime(number=n, at=at, is_approximate=guess) for n, at, guess in times or [(1, NOON, False)]),
        is_end=False,
    )


def test_line() -> None:
    """A line is its time in UTC, to the millisecond, and the message; `~` before it where the time is not certain."""
    at = datetime(2021, 8, 10, 16, 59, 58, 44999, UTC)
    page = page_of("epoch 1", "", times=[(1, at, False)])
    assert texts(page) == ["[2021-08-10 16:59:58.044] epoch 1", "[2021-08-10 16:59:58.044] "]
    assert texts(page, "lr=1 | ") == [
        "lr=1 | [2021-08-10 16:59:58.044] epoch 1",
        "lr=1 | [2021-08-10 16:59:58.044] ",
    ]
    page = page_of("epoch 1", times=[(1, at, True)])
    assert texts(page) == ["~[2021-08-10 16:59:58.044] epoch 1"]
    assert records(page) == [LogLine(1, at, "epoch 1", is_approximate=True)]
    assert str(records(page)[0]) == texts(page)[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        records(page)[0].number = 2  # type: ignore[misc]


def test_whole_seconds_have_milliseconds() -> None:
    """Every time is equally long, so that messages stand below each other."""
    assert texts(page_of("a")) == ["[2021-08-10 12:00:00.000] a"]


@pytest.mark.parametrize(
    "odd", ["a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "a\u2028b", "a\u2029b", "\ufffd", "\tx ", "~["]
)
def test_characters_that_end_no_line(odd: str) -> None:
    """What only Python takes for the end of a line ends none."""
    assert messages(page_of("first", odd, "last")) == ["first", odd, "last"]
    assert [each.message for each in records(page_of(odd))] == [odd]


def test_nothing() -> None:
    """A page without lines has none, though it may have times."""
    assert (texts(page_of()), records(page_of()), messages(page_of())) == ([], [], [])
    assert texts(page_of(times=[(7, NOON, True)])) == []
    assert texts(dataclasses.replace(page_of(), times=())) == []


@pytest.mark.parametrize("wrong", [{"count": 3}, {"text": "a\nb"}, {"times": ()}])
def test_page_that_contradicts_itself(wrong: dict[str, Any]) -> None:
    """A page that has not the lines that it says, or no time for them, is an error and not a gap."""
    page = dataclasses.replace(page_of("a", "b"), **wrong)
    for read in (texts, records):
        with pytest.raises(InvalidResponse, match="calm-otter-7-exp0"):
            read(page)


@settings(max_examples=200, deadline=None, database=None)
@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n"), max_size=3), max_size=12),
    number=st.integers(1, 30),
    gaps=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    before=st.integers(0, 5),
)
def test_each_line_has_its_time(lines: list[str], number: int, gaps: list[int], before: int) -> None:
    """Each time holds from its line until the next one, the first from the first line on."""
    firsts = [number - before + sum(gaps[:index]) for index in range(len(gaps))]
    times = [(first, NOON + timedelta(seconds=index), index % 2 == 1) for index, first in enumerate(firsts)]

    found = records(page_of(*lines, number=number, times=times))

    assert [(each.number, each.message) for each in found] == list(enumerate(lines, number))
    for each in found:
        _, at, guess = max([times[0], *(time for time in times if time[0] <= each.number)])
        assert (each.time, each.is_approximate) == (at, guess)
    assert texts(page_of(*lines, number=number, times=times)) == [str(each) for each in found]


ELSEWHERE = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ((200, None), {"last": 200}),
        ((0, None), {"last": 0}),
        ((None, None), {}),
        ((200, 1), {"number": 1}),
        ((None, 2**31 - 1), {"number": 2**31 - 1}),
        ((5, timedelta(minutes=1.5)), {"secondsAgo": 90.0}),
        ((5, NOON), {"since": "2021-08-10T12:00:00.000000+00:00"}),
        ((5, NOON.astimezone(ELSEWHERE)), {"since": "2021-08-10T12:00:00.000000+00:00"}),
    ],
)
def test_where_logs_begin(arguments: tuple[Any, Any], variables: dict[str, Any]) -> None:
    """At most one of the ways to say where logs begin is sent; `since` wins."""
    assert LogStart.of(*arguments).variables() == variables


@pytest.mark.parametrize("n_lines", [-1, True, "10", 1.0, 2**31, [1]])
def test_wrong_n_lines(n_lines: Any) -> None:
    """What is no number of lines is refused, with what is allowed; also where `since` would win."""
    for since in (None, 1):
        with pytest.raises(
            InvalidArgument, match="n_lines must be a whole number from 0 to .*, or None for all"
        ) as told:
            LogStart.of(n_lines, since)
        assert repr(n_lines) in str(told.value)


@pytest.mark.parametrize(
    ("since", "message"),
    [
        (0, "since must be the number of a line, from 1"),
        (-3, "since must be the number of a line, from 1"),
        (2**31, "since must be the number of a line, from 1"),
        (True, "since must be a datetime with a time zone, a timedelta for how long ago, or the number of a line"),
        ("5m", "since must be a datetime with a time zone"),
        (1.5, "since must be a datetime with a time zone"),
        (NOON.date(), "since must be a datetime with a time zone"),
        (NOON.replace(tzinfo=None), r"since must have a time zone.*since.replace\(tzinfo=timezone.utc\)"),
        (datetime(1, 1, 1, tzinfo=ELSEWHERE), "since must be a time that UTC has, too"),
        (timedelta(), "since must be a time that has passed"),
        (timedelta(seconds=-1), "since must be a time that has passed"),
    ],
)
def test_wrong_since(since: Any, message: str) -> None:
    """What is no place in a log is refused, with what is allowed."""
    with pytest.raises(InvalidArgument, match=message):
        LogStart.of(200, since)


@pytest.mark.parametrize("attempt", [0, -1, True, "1", 1.0, 2**31])
def test_wrong_attempt(attempt: Any) -> None:
    """What no attempt can be numbered is refused, with what is allowed."""
    with pytest.raises(InvalidArgument, match="attempt must be the number of an attempt, from 1, or None"):
        check_attempt(attempt)


@pytest.mark.parametrize("follow", [1, None, "yes"])
def test_wrong_follow(follow: Any) -> None:
    """Only True and False say whether to follow: a number may have been meant as something else."""
    with pytest.raises(InvalidArgument, match="follow must be True or False"):
        check_follow(follow)
