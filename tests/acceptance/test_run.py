"""A run as its user holds it: what its failures have in common, running them again, deleting it, its repr."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import grid
from grid import Run
from grid.chain.endpoint import RetryPolicy
from grid.errors import ExperimentNotFound, NotEnded, RunNotFound, RunNotStarted
from grid.models import FailureGroup
from grid.session import session as sessions
from tests.support.embedded import record, stop
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

pytestmark = pytest.mark.usefixtures("session")


def test_failures_in_groups(start: Start) -> None:
    """Failures are grouped by reason and final line, the largest group first, and equally large ones by index."""
    run = start("quiet", "rate 1", "fine", "chained", "rate 2", "killed", "rate 3", "killed")
    wait_for_run(run)
    names = list(run.experiments)
    with requests(sessions.current()) as sent:
        groups = run.failures()

    assert sent == [1]
    assert [(group.reason.value, group.final_line, group.names) for group in groups] == [
        ("EXIT_CODE", "RateTooHigh: rate must be below 1", (names[1], names[4], names[6])),
        ("SIGNAL", None, (names[5], names[7])),
        ("EXIT_CODE", None, (names[0],)),
        ("EXIT_CODE", "RuntimeError: no such key", (names[3],)),
    ]
    assert all(isinstance(group, FailureGroup) for group in groups)
    assert FailureGroup.from_dict(groups[0].to_dict()).names == groups[0].names
    for group in groups:
        assert group.example == run.experiments[group.names[0]].failure
    assert str(groups[0]) == (
        "3 x EXIT_CODE: RateTooHigh: rate must be below 1 "
        f"({names[1]} with kind=rate 1, {names[4]} with kind=rate 2, {names[6]} with kind=rate 3)"
    )
    killed = ", ".join(f"{name} with kind=killed" for name in (names[5], names[7]))
    assert str(groups[1]) == f"2 x SIGNAL, the first: signal 9 ({killed})"
    assert str(groups[2]) == f"1 x EXIT_CODE: exit code 3 ({names[0]} with kind=quiet)"


def test_failures_of_experiments_that_were_not_read(start: Start) -> None:
    """They say what varies as well, for which a page of experiments is read once."""
    run = start("quiet", "fine", "rate 1")
    wait_for_run(run)
    name = run.name
    (listed,) = [each for each in grid.runs.values() if each.name == name]
    with requests(sessions.current()) as sent:
        said = [str(group) for group in listed.failures()]
    assert sent == [2]
    with requests(sessions.current()) as sent:
        assert [str(group) for group in listed.failures()] == said == [str(group) for group in run.failures()]
    assert sent == [2]
    assert said[0] == f"1 x EXIT_CODE: exit code 3 ({name}-exp0 with kind=quiet)"


def test_failures_where_nothing_varies(start: Start) -> None:
    """Then there are the names alone."""
    run = start("quiet")
    wait_for_run(run)
    (group,) = run.failures()
    assert str(group) == f"1 x EXIT_CODE: exit code 3 ({run.name}-exp0)"


def test_failures_of_the_present_attempt(start: Start, tmp_path: Path) -> None:
    """What was run again counts as it ended the last time, and does not count while it waits."""
    text = f"import os, sys\nif os.path.exists({str(tmp_path / 'other')!r}): sys.exit(4)\n1 / 0"
    run = start("a", "b", text=text)
    wait_for_run(run)
    (group,) = run.failures()
    assert (group.final_line, len(group.names)) == ("ZeroDivisionError: division by zero", 2)
    (tmp_path / "other").touch()
    grid.pause_cluster("local")
    try:
        run.retry()
        assert run.failures() == []
    finally:
        grid.resume_cluster("local")
    wait_for_run(run)
    (group,) = run.failures()
    assert (group.final_line, group.example.exit_code, len(group.names)) == (None, 4, 2)


def test_failures_of_runs_without_any(start: Start, paused: None) -> None:
    """A run that waits, or has succeeded, has no failures; one that was not started cannot be asked."""
    run = start("fine")
    assert run.failures() == []
    grid.resume_cluster("local")
    wait_for_run(run)
    assert run.failures() == []
    with pytest.raises(RunNotStarted):
        Run(entrypoint=__file__).failures()


def test_from_failure_to_success(start: Start, tmp_path: Path) -> None:
    """A user reads what failed, mends it, runs it again, and clears up: every step with what it returns."""
    text = f"import os, sys\nif sys.argv[-1] == 'b' and not os.path.exists({str(tmp_path / 'mended')!r}): 1 / 0"
    run = start("a", "b", "c", text=text)
    assert wait_for_run(run).keys() == {"SUCCEEDED", "FAILED"}
    (group,) = run.failures()
    (name,) = group.names
    (tmp_path / "mended").touch()
    assert run.retry() == [name]
    assert wait_for_run(run) == {"SUCCEEDED": list(run.experiments)}
    experiment = run.experiments[name]
    assert (experiment.attempt, experiment.failure, run.failures()) == (2, None, [])
    experiment.delete()
    assert name not in run.experiments
    assert len(run) == 2
    with pytest.raises(ExperimentNotFound):
        grid.get_experiment_by_name(name)
    run.delete()
    assert run.name not in grid.runs
    with pytest.raises(RunNotFound):
        run.status()


def test_what_runs_cannot_be_deleted(start: Start) -> None:
    """Deleting what waits or runs is refused with a message that says what to do, which then works."""
    run = start("slow")
    wait_until(lambda: run.status().get("RUNNING"), "the script")
    for delete in (run.delete, next(iter(run)).delete):
        with pytest.raises(NotEnded, match="cancel it first"):
            delete()
    run.cancel()
    run.delete()
    assert run.name not in grid.list_runs()


def test_repr_of_a_run_whose_service_has_gone(grid_home: Path, tmp_path: Path) -> None:
    """A repr shows the last known state, starts no service, and never raises."""
    grid.login()
    run = grid.create_run(str(make_project(tmp_path / "project", "raise SystemExit(1)")))
    assert wait_for_run(run).keys() == {"FAILED"}
    shown = repr(run), repr(run.experiments), repr(run.experiments[f"{run.name}-exp0"])
    stop(grid_home)
    # The first try says as much as the sixth, and a repr may take two seconds.
    sessions.current().policy = RetryPolicy(tries=1)

    assert (repr(run), repr(run.experiments), repr(run.experiments[f"{run.name}-exp0"])) == shown
    assert "could not be fetched" in repr(grid.runs)
    assert record(grid_home) == {}
