"""Waiting for a condition with a deadline, and for a run to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}


def wait_until(condition: Callable[[], _T], what: str, seconds: float = 60.0) -> _T:
    """Return the value of the condition once it is true; fail when the deadline has passed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)


def wait_for_run(run, seconds: float = 120.0) -> dict[str, list[str]]:
    """Wait until every experiment of a run has ended; return its status."""

    def ended():
        status = run.status()
        return status if status.keys() <= TERMINAL else None

    return wait_until(ended, f"the end of {run.name}", seconds)
