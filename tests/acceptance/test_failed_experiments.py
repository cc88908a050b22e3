"""What users see of failures: why an experiment failed, what a run's have in common, and running them again."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import grid
from grid import Run
from grid.errors import ExperimentNotFound, InvalidArgument, NotEnded, RunNotFound, RunNotStarted, SourceError
from grid.experiment import Experiment
from grid.models import Failure, FailureGroup
from grid.session import session as sessions
from grid.shared.wire import Reason
from tests.support.experiments import starter
from tests.support.requests import requests
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

pytestmark = pytest.mark.usefixtures("session")

SCRIPT = """
import os, signal, sys, time

class RateTooHigh(ValueError): pass

def train(kind):
    print(f'training {kind}')
    if kind == 'quiet': sys.exit(3)
    if kind == 'killed': os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'slow': time.sleep(1000)
    if kind.startswith('rate'): raise RateTooHigh('rate must be below 1')
    if kind == 'chained':
        try: {}['missing']
        except KeyError as error: raise RuntimeError('no such key') from error

train(sys.argv[-1])
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a run of the script, which fails in the ways that it is told."""
    started: list[Run] = []
    start_one = starter(tmp_path)

    def start(*kinds: str, text: str = SCRIPT, **options: object) -> Run:
        started.append(start_one(text, f"--kind {shlex.quote(repr(list(kinds)))}", **options))
        return started[-1]

    yield start
    for run in started:
        with suppress(RunNotFound):  # deleted by the test
            run.cancel()


@pytest.fixture
def paused() -> Iterator[None]:
    """Nothing starts meanwhile."""
    grid.pause_cluster("local")
    yield
    grid.resume_cluster("local")


def failure_of(experiment: Experiment) -> Failure:
    """The failure of an experiment that has one."""
    failure = experiment.failure
    assert failure is not None
    return failure


# One experiment


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
    """Each way to fail has its reason, and goes with what there is to say of it."""
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
    """What waits or runs has no failure, nor has what has succeeded; what was cancelled tells that."""
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
    """A failure is read with one request, whatever else is not known yet; of what is over for good, once."""
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


# A run


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
    for group in groups:
        assert group.example == run.experiments[group.names[0]].failure
    assert str(groups[0]) == (f"3 x EXIT_CODE: RateTooHigh: rate must be below 1 ({names[1]}, {names[4]}, {names[6]})")
    assert str(groups[1]) == f"2 x SIGNAL, the first: signal 9 ({names[5]}, {names[7]})"
    assert str(groups[2]) == f"1 x EXIT_CODE: exit code 3 ({names[0]})"


def test_failures_of_the_present_attempt(start: Start, tmp_path: Path) -> None:
    """What was run again counts as it ended the last time, and while it waits not at all."""
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
    """A user looks at what failed, mends it, runs it again, and clears away: every step with what it returns."""
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
    """Deleting what waits or runs is refused in words that say what to do, which then works."""
    run = start("slow")
    wait_until(lambda: run.status().get("RUNNING"), "the script")
    for delete in (run.delete, next(iter(run)).delete):
        with pytest.raises(NotEnded, match="cancel it first"):
            delete()
    run.cancel()
    run.delete()
    assert run.name not in grid.list_runs()


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "60"},
        {"timeout": True},
        {"max_retries": -1},
        {"max_retries": 1.0},
        {"max_retries": False},
        {"auto_resume": "yes"},
    ],
)
def test_wrong_arguments(wrong: dict[str, object]) -> None:
    """What is not allowed is refused at once, by its name, however the run is defined."""
    (name,) = wrong
    for define in (lambda: Run(entrypoint=__file__, **wrong), lambda: grid.create_run(__file__, **wrong)):
        with pytest.raises(InvalidArgument, match=name):
            define()
    run = Run(entrypoint=__file__)
    with pytest.raises(InvalidArgument, match=name):
        setattr(run, name, wrong[name])


def test_arguments_come_back(start: Start) -> None:
    """What a run was started with is what it says when it is loaded, and cannot be changed any more."""
    run = start("fine", timeout=60, max_retries=2, auto_resume=True)
    loaded = Run(run.name)
    for each in (run, loaded):
        assert (each.timeout, each.max_retries, each.auto_resume) == (60, 2, True)
        assert "--timeout 60 --max_retries 2 --auto_resume" in each.script_command
        train = each.grid_config["compute"]["train"]
        assert (train["timeout"], train["max_retries"], train["auto_resume"]) == (60, 2, True)
        with pytest.raises(AttributeError, match="max_retries"):
            each.max_retries = 3
    plain = start("fine")
    assert not {"timeout", "max_retries"} & plain.grid_config["compute"]["train"].keys()


def test_arguments_are_given_by_name() -> None:
    """The new arguments have no place in the order of the old ones."""
    values = [
        "",
        __file__,
        "",
        None,
        "grid_search",
        0,
        "lightning",
        "",
        "t2.medium",
        False,
        0,
        0,
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    values += [False, "", "", ""]
    assert Run(*values).seed is None
    with pytest.raises(TypeError, match="positional"):
        Run(*values, None)
    with pytest.raises(SourceError):
        Run("", "no-such-script.py", timeout=1)
