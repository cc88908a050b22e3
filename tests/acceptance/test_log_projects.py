"""Scripts as people have them, and what their logs say: while they run, afterwards, and whatever happens meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import grid
from grid import LogLine, Run
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.experiment import Experiment
from grid.session import session as sessions
from grid.session.session import Session
from tests.faults.proxy import SILENT, SUBSCRIPTION, Exchange, Fault, Proxy, at_random
from tests.faults.sizes import seed, size
from tests.support.experiments import only, starter
from tests.support.followers import Follower
from tests.support.log_projects import NO_TEXT, PROGRESS, PROJECTS, Project, messages, million_lines, one_line
from tests.support.services import ServiceProcess, free_port, service_process
from tests.support.waiting import wait_for_run, wait_until

WHOLE = [PROGRESS, NO_TEXT, million_lines(1_000_000), one_line(100)]
"""Large ones are as large here as anywhere."""
SMALL = [PROGRESS, NO_TEXT, million_lines(size(30_000, 1_000_000)), one_line(size(5, 100))]


def named(project: Project) -> str:
    """The name of a project, for a test of it."""
    return project.script.removesuffix(".py")


class Played:
    """A project that runs, and waits in its middle."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.release = folder / "release"
        self.run = starter(folder)(project.text, f"{project.arguments} --release {self.release}")

    @property
    def experiment(self) -> Experiment:
        """Its only experiment."""
        return only(self.run)


def check(lines: list[LogLine], project: Project) -> None:
    """Require every line of a project, once, in order, numbered from 1, and no later time before an earlier one."""
    assert [line.message for line in lines] == project.all()
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(one.time <= next_one.time for one, next_one in itertools.pairwise(lines))


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("project", WHOLE, ids=named)
def test_while_it_runs_and_afterwards(project: Project, tmp_path: Path) -> None:
    """Its log says what is printed so far, without a line that is not finished; and in the end all of it."""
    played = Played(project, tmp_path)
    experiment = played.experiment
    follower = Follower(experiment.log_lines(None, follow=True))
    try:
        wait_until(lambda: len(follower.seen) >= len(project.early()), "its first half")
        assert messages(experiment.logs(None)) == project.early()
        assert messages(experiment.logs(2)) == project.early()[-2:]
    finally:
        played.release.touch()
    check(follower.all(), project)
    lines = list(experiment.log_lines(None))
    check(lines, project)
    assert not any(line.is_approximate for line in lines)
    assert lines == follower.seen
    assert messages(experiment.logs(since=len(project.early()) + 1)) == project.late()


@pytest.mark.parametrize("project", SMALL, ids=named)
def test_service_is_killed_in_the_middle(project: Project, tmp_path: Path) -> None:
    """Whoever follows it gets each line once, also what was printed while no service ran; such times are marked."""
    with service_process(tmp_path, "--cpus", "1", "--grace", "1", "--port", str(free_port())) as service:
        sessions.use(service.session(RetryPolicy(first_wait=0.05, max_wait=0.5, tries=200, deadline=120)))
        played = Played(project, tmp_path)
        experiment = played.experiment
        follower = Follower(experiment.log_lines(None, follow=True))
        of_run = Follower(played.run.logs(None, follow=True))
        try:
            wait_until(lambda: len(follower.seen) >= len(project.early()), "its first half")
            service.kill()
        finally:
            played.release.touch()
        finished = service.home / "records" / f"{experiment.id}-1" / "exit"
        wait_until(finished.is_symlink, "the end of the script")
        service.start()
        check(follower.all(), project)
        assert messages(line.partition(" | ")[2] for line in of_run.all()) == project.all()
        lines = list(experiment.log_lines(None))
        assert lines == follower.seen
        early = len(project.early())
        assert [line.is_approximate for line in lines] == [False] * early + [True] * (len(lines) - early)


@pytest.mark.parametrize("project", SMALL, ids=named)
def test_index_is_lost(project: Project, tmp_path: Path) -> None:
    """Without what the service has made of it, a log says the same, with times that are marked."""
    with service_process(tmp_path, "--cpus", "1", "--grace", "1") as service:
        sessions.use(service.session())
        played = Played(project, tmp_path)
        played.release.touch()
        wait_for_run(played.run)
        check(list(played.experiment.log_lines(None)), project)
        service.stop()
        for file in (service.home / "results").rglob("log"):
            file.unlink()
        service.start()
        sessions.use(service.session())
        lines = list(only(Run(played.run.name)).log_lines(None))
        check(lines, project)
        assert all(line.is_approximate for line in lines)


AT_RANDOM = tuple(fault for fault in Fault if fault not in SILENT)


def spoiled_sometimes(exchange: Exchange) -> Fault | None:
    """Spoil every third request, and every subscription but a few."""
    rate = 0.7 if exchange.operation == SUBSCRIPTION else 0.3
    return at_random(seed(), rate, AT_RANDOM)(exchange)


@pytest.fixture(scope="module")
def busy_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service for what is read over a bad line."""
    with service_process(tmp_path_factory.mktemp("busy"), "--cpus", "2", "--grace", "1") as running:
        yield running


@pytest.mark.parametrize("project", SMALL, ids=named)
def test_over_a_bad_line(busy_service: ServiceProcess, project: Project, tmp_path: Path) -> None:
    """Over a line on which every third request is spoiled, each line comes once and in order."""
    sessions.use(busy_service.session())
    played = Played(project, tmp_path)
    name = played.run.name
    with Proxy(busy_service.endpoint.url) as proxy:
        endpoint = Endpoint(proxy.url, busy_service.endpoint.user_id, busy_service.endpoint.api_key)
        policy = RetryPolicy(first_wait=0.001, max_wait=0.01, tries=20)
        sessions.use(Session(endpoint, is_embedded=False, policy=policy))
        run = Run(name)
        proxy.plan = spoiled_sometimes
        follower = Follower(only(run).log_lines(None, follow=True))
        of_run = Follower(run.logs(None, follow=True))
        try:
            wait_until(lambda: len(follower.seen) >= len(project.early()), "its first half")
            assert messages(only(run).logs(None)) == project.early()
        finally:
            played.release.touch()
        check(follower.all(), project)
        assert messages(line.partition(" | ")[2] for line in of_run.all()) == project.all()
        check(list(only(run).log_lines(None)), project)
        assert len(proxy.faults()) > 0


def test_without_a_websocket(busy_service: ServiceProcess, tmp_path: Path) -> None:
    """Where no WebSocket can be had the same is told on request, from the queue on and with the next attempt."""
    sessions.use(busy_service.session())
    grid.pause_cluster("local")
    text = (PROJECTS / "resumes.py").read_text()
    started = starter(tmp_path)(text, "--how machine --name \"['ada', 'grace']\"", auto_resume=True)
    with Proxy(busy_service.endpoint.url, refused) as proxy:
        endpoint = Endpoint(proxy.url, busy_service.endpoint.user_id, busy_service.endpoint.api_key)
        sessions.use(Session(endpoint, is_embedded=False))
        run = Run(started.name)
        of_run = Follower(run.logs(n_lines=0, follow=True))
        of_each = [Follower(each.log_lines(None, follow=True)) for each in run]
        wait_until(lambda: has_asked(proxy, "GetRunLogs", 2), "the first answer")
        grid.resume_cluster("local")
        first = ["starting after epoch 0", *(f"epoch {number}" for number in range(1, 6))]
        second = ["starting after epoch 5", *(f"epoch {number}" for number in range(6, 11)), "done"]
        for follower in of_each:
            assert [line.message for line in follower.all()] == [*first, *second]
        labelled = [line.partition(" | ") for line in of_run.all()]
        for name in ("name=ada  ", "name=grace"):
            assert messages(line for label, _, line in labelled if label == name) == [*first, *second]


def has_asked(proxy: Proxy, operation: str, times: int) -> bool:
    """Whether an operation was answered so many times: the next request of its client has come, too."""
    return sum(exchange.operation == operation for exchange, _ in proxy.exchanges) >= times


def refused(exchange: Exchange) -> Fault | None:
    """Let no WebSocket through."""
    return Fault.REFUSED if exchange.operation == SUBSCRIPTION else None
