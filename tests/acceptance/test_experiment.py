"""One experiment as its user holds it: why it failed, and what reading that costs."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

import grid
from grid import Run
from grid.experiment import Experiment
from grid.models import Failure
from grid.session import session as sessions
from grid.shared.wire import Reason
from tests.support.requests import requests
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]


pytestmark = pytest.mark.usefixtures("session")


def failure_of(experiment: Experiment) -> Failure:
    """The failure of an experiment that has one."""
    failure = experiment.failure
    assert failure is not None
    return failure


def test_traceback(start: Start) -> None:
    """The failure of a script that raised shows its traceback whole, and the line that names the exception."""
    run = start("chained", "fine")
    wait_for_run(run)
    first, second = run
    failure = failure_of(first)

    assert failure.reason is Reason.EXIT_CODE
    assert failure.reason == "EXIT_CODE"
    assert (failure.exit_code, failure.signal, failure.error) == (1, None, None)
    assert failure.final_line == "RuntimeError: no such key"
    lines = failure.last_lines.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "KeyError: 'missing'" in lines
    assert "The above exception was the direct cause of the following exception:" in lines
    assert any("in train" in line for line in lines)
    assert lines[-1] == failure.final_line
    assert str(failure) == f"EXIT_CODE: exit code 1\n{failure.last_lines}"
    assert second.failure is None


def test_every_kind(start: Start) -> None:
    """Each way to fail has its reason, along with what there is to say about it."""
    run = start("quiet", "killed", "slow", timeout=0.5)
    wait_for_run(run)
    quiet, killed, slow = map(failure_of, run)

    assert (quiet.reason, quiet.exit_code, quiet.last_lines) == (Reason.EXIT_CODE, 3, "training quiet")
    assert (killed.reason, killed.exit_code, killed.signal) == (Reason.SIGNAL, None, signal.SIGKILL)
    assert slow.reason is Reason.TIMEOUT
    assert {each.final_line for each in (quiet, killed, slow)} == {None}
    assert [str(each).splitlines()[0] for each in (quiet, killed)] == ["EXIT_CODE: exit code 3", "SIGNAL: signal 9"]
    assert run.timeout == 0.5


def test_failure_of_what_has_not_ended(start: Start, paused: None) -> None:
    """What waits, runs or has succeeded has no failure; the failure of what was cancelled says so."""
    run = start("fine", "slow")
    first, second = run
    assert [each.failure for each in run] == [None, None]
    second.cancel()
    assert failure_of(second).reason is Reason.CANCELLED_BY_USER
    assert run.failures() == []
    grid.resume_cluster("local")
    wait_for_run(run)
    assert first.failure is None
    running = start("slow")
    wait_until(lambda: running.status().get("RUNNING"), "the script")
    assert [each.failure for each in running] == [None]
    running.cancel()
    assert [failure_of(each).reason for each in running] == [Reason.CANCELLED_BY_USER]


def test_failure_costs_one_request(start: Start) -> None:
    """A failure is read with one request, whatever else is not known yet; if it is final, only once."""
    run = start("fine", "rate 1", "slow")
    wait_until(lambda: len(run.status().get("RUNNING", ())) == 1, "the last")
    list(run)[2].cancel()
    wait_for_run(run)
    costs = []
    for each in Run(run.name):
        for _ in range(2):
            with requests(sessions.current()) as sent:
                _ = each.failure
            costs += sent
    assert costs == [0, 0, 1, 1, 1, 0]
    first, second, _ = Run(run.name)
    with requests(sessions.current()) as sent:
        assert (second.failure, second.attempt, first.attempt) != (None, 1, 1)
    assert sent == [2]
