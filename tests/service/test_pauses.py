"""Tests of who may pause the cluster and who may resume it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import grid
from grid import Run
from grid.chain.endpoint import Endpoint
from grid.errors import PermissionDenied
from grid.session import session as sessions
from tests.support.experiments import starter
from tests.support.people import add_user, session_of
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

WAIT = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"


class People:
    """A service, and its users, each with a run that goes on for as long as the test wants."""

    def __init__(self, service: ServiceProcess, folder: Path) -> None:
        self.operator = service.endpoint
        self.ada, self.bea, self.cleo = (add_user(service, name) for name in ("ada", "bea", "cleo"))
        self._start = starter(folder)
        self._folder = folder

    def start(self, who: Endpoint) -> Run:
        """Start a run of somebody's, and wait until it is running."""
        sessions.use(session_of(who))
        run = self._start(WAIT, str(self._folder / who.user_id))
        wait_until(lambda: list(run.status()) == ["RUNNING"], "the experiment")
        return run

    def end(self, who: Endpoint, run: Run) -> None:
        """Let a run end."""
        (self._folder / who.user_id).touch()
        sessions.use(session_of(who))
        wait_for_run(run)
        (self._folder / who.user_id).unlink()

    def asks(self, who: Endpoint, what: str) -> str | bool:
        """Ask to pause or to resume; return whether it is paused now, or the code of the refusal."""
        answer = ask(who, f'mutation {{ {what}Cluster(name: "local") {{ paused }} }}')
        return code_of(answer) if "errors" in answer else answer["data"][f"{what}Cluster"]["paused"]

    def pauses(self, who: Endpoint) -> str | bool:
        """Ask to pause."""
        return self.asks(who, "pause")

    def resumes(self, who: Endpoint) -> str | bool:
        """Ask to resume."""
        return self.asks(who, "resume")


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    """Those of a service of the test's own."""
    with service_process(tmp_path, "--cpus", "4", "--grace", "1") as service:
        yield People(service, tmp_path)


def test_who_has_nothing_running(people: People) -> None:
    """A key alone is no reason to stop everybody's queue; the refusal says who may."""
    assert people.pauses(people.ada) == "FORBIDDEN"
    sessions.use(session_of(people.ada))
    with pytest.raises(PermissionDenied, match="no experiment of yours is running. Its operator may"):
        grid.pause_cluster("local")
    assert people.resumes(people.ada) is False  # which it is not, so that there is nothing to do
    assert people.pauses(people.operator) is True
    assert people.resumes(people.operator) is False


def test_whose_experiment_runs(people: People) -> None:
    """While an experiment of theirs runs users may pause, and resume what another user has paused."""
    own, others = people.start(people.ada), people.start(people.bea)
    assert people.pauses(people.ada) is True
    assert people.pauses(people.cleo) == people.resumes(people.cleo) == "FORBIDDEN"
    assert people.resumes(people.bea) is False
    assert people.pauses(people.ada) is True
    assert people.pauses(people.bea) is True  # it remains hers who was first
    people.end(people.bea, others)
    assert people.resumes(people.bea) == "FORBIDDEN"
    # What they have paused they may resume whenever they like, and ask for twice if an answer was lost.
    people.end(people.ada, own)
    assert people.pauses(people.ada) is True
    assert people.resumes(people.ada) is people.resumes(people.ada) is False
    assert people.pauses(people.ada) == "FORBIDDEN"


def test_what_the_operator_has_paused(people: People) -> None:
    """What the operator has paused only the operator resumes, whoever had paused it before."""
    run = people.start(people.ada)
    assert people.pauses(people.ada) is True
    assert people.pauses(people.operator) is True
    assert people.resumes(people.ada) == "FORBIDDEN"
    assert people.pauses(people.ada) is True
    assert people.resumes(people.operator) is False
    people.end(people.ada, run)
