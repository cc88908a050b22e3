"""Tests of counting what happens again and again, and of the two logs that it bounds."""

from __future__ import annotations

import logging

import pytest

from grid.service.api import errors
from grid.service.http.logs import limit_logs
from grid.service.system.repeats import Repeats


class Clock:
    """A clock that moves only when it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_so_many_of_each_kind_pass() -> None:
    """Of each kind so many pass within the time; the next that passes says how many have not."""
    clock = Clock()
    repeats = Repeats(2, 60, clock)
    assert [repeats.note("a") for _ in range(5)] == [0, 0, None, None, None]
    assert repeats.note("b") == 0
    clock.now = 59.9
    assert repeats.note("a") is None
    clock.now = 60
    assert [repeats.note("a") for _ in range(3)] == [4, 0, None]
    assert repeats.note("b") == 0


def test_kinds_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many kinds there are, only the latest are kept."""
    monkeypatch.setattr("grid.service.system.repeats._MAX_KINDS", 10)
    repeats = Repeats(1, 60, Clock())
    for number in range(100):
        assert repeats.note(number) == 0
    assert repeats.note(99) is None
    assert repeats.note(0) == 0


def test_server_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the server reports there is one line of each kind in a minute, and a number of what was left out."""
    clock = Clock()
    limit_logs()
    (bound,) = logging.getLogger("uvicorn.error").filters
    monkeypatch.setattr(bound, "_repeats", Repeats(1, 60, clock))
    try:
        for number in range(1_500):
            logging.getLogger("uvicorn.error").warning("Invalid request %d", number)
            logging.getLogger("asyncio").error("no descriptors\nsocket: %d", number)
        clock.now = 60
        logging.getLogger("uvicorn.error").warning("Invalid request %d", 7)
    finally:
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).removeFilter(bound)
    more = "Invalid request 7 (and 1,499 more since the last line of this kind)"
    assert [record.getMessage() for record in caplog.records] == [
        "Invalid request 0",
        "no descriptors\nsocket: 0",
        more,
    ]


def test_log_of_faults(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault that recurs is logged ten times a minute; every answer has a reference that is in the log."""
    monkeypatch.setattr("grid.service.api.errors._repeats", Repeats(10, 60, Clock()))

    def answer(fault: Exception) -> str:
        try:
            raise fault
        except Exception as raised:  # noqa: BLE001 - whatever it was given
            reference: str = errors.internal(raised)["extensions"]["reference"]
            return reference

    references = [answer(RuntimeError(f"the disk {number} is broken")) for number in range(100)]
    other = answer(ValueError("another fault"))
    assert len(caplog.records) == 11
    assert len(set(references)) == 10
    assert all(f"reference {reference}" in caplog.text for reference in (*references, other))
