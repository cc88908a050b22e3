"""Tests of watching a run's status over a WebSocket: what comes, in which order, and when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from grid import Run, models, pause_cluster, resume_cluster
from grid.errors import RunNotFound
from grid.models import RunStatusChanged
from grid.session.session import Session
from grid.shared.wire import ExperimentStatus
from tests.support.experiments import output_of
from tests.support.services import ServiceProcess
from tests.support.waiting import TERMINAL, wait_for_run, wait_until

Start = Callable[..., Run]

HOLD = "import os, sys, time\nprint('ready')\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"


def groups(answer: RunStatusChanged) -> dict[str, list[str]]:
    """What an answer says, in the form of `Run.status()`."""
    return {group.status.value: list(group.names) for group in answer.run_status_changed.groups}


def test_every_change_until_the_end(session: Session, start: Start) -> None:
    """A watcher hears the status of a run now and after each change, in order, and nothing after the last end."""
    pause_cluster("local")
    try:
        run = start("import sys; sys.exit(int(sys.argv[2]))", "--n '[0, 1, 0]'")
        watching = session.subscribe(models.RunStatusChanged, name=run.name)
        first = next(watching)
        assert groups(first) == {"QUEUED": list(run.experiments)}
    finally:
        resume_cluster("local")
    answers = [first, *watching]
    revisions = [answer.run_status_changed.revision for answer in answers]
    assert revisions == sorted(revisions)
    order = [status.value for status in ExperimentStatus]
    for name in run.experiments:
        seen = [order.index(status) for answer in answers for status, names in groups(answer).items() if name in names]
        assert len(seen) == len(answers)
        assert seen == sorted(seen)
    names = list(run.experiments)
    assert groups(answers[-1]) == {"SUCCEEDED": [names[0], names[2]], "FAILED": [names[1]]} == run.status()
    assert all(groups(answer).keys() - TERMINAL for answer in answers[:-1])


def test_run_that_has_ended(session: Session, start: Start) -> None:
    """A watcher of a run that is over hears its status once."""
    run = start("")
    wait_for_run(run)
    answers = list(session.subscribe(models.RunStatusChanged, name=run.name))
    assert [groups(answer) for answer in answers] == [{"SUCCEEDED": list(run.experiments)}]


def test_cancel_ends_a_watch(service: ServiceProcess, session: Session, start: Start, tmp_path: Path) -> None:
    """Several may watch one run: each hears of its cancel."""
    run = start(HOLD, str(tmp_path / "never"))
    (experiment,) = run
    wait_until(lambda: output_of(service, experiment) == "ready\n", "the script")
    heard: list[list[dict[str, list[str]]]] = []

    def watch() -> None:
        heard.append([groups(answer) for answer in session.subscribe(models.RunStatusChanged, name=run.name)])

    watchers = [threading.Thread(target=watch) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    run.cancel()
    for watcher in watchers:
        watcher.join(60)
    assert [answers[-1] for answers in heard] == [{"CANCELLED": [experiment.name]}] * 3


def test_watching_what_is_not_there(session: Session) -> None:
    """Watching a run that does not exist is an error that says so."""
    with pytest.raises(RunNotFound, match="no-such-run"):
        next(session.subscribe(models.RunStatusChanged, name="no-such-run"))


def test_watcher_that_stops_listening(session: Session, start: Start, tmp_path: Path) -> None:
    """A watcher that stops listening does not disturb the run or its other watchers."""
    run = start(HOLD, str(tmp_path / "release"))
    leaving, staying = (session.subscribe(models.RunStatusChanged, name=run.name) for _ in range(2))
    next(leaving)
    next(staying)
    leaving.close()
    (tmp_path / "release").touch()
    assert groups(list(staying)[-1]) == {"SUCCEEDED": list(run.experiments)}
