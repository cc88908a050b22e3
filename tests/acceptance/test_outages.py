"""A service elsewhere that is away while something is fetched from it, or followed: it is waited for, audibly."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import grid
from grid.chain.endpoint import RetryPolicy
from grid.errors import ConnectionFailed
from grid.experiment import Experiment
from grid.session import outages, waiting
from grid.session import session as sessions
from grid.session.session import Session
from tests.faults.proxy import BUNDLE, DOWNLOAD, SUBSCRIPTION, Exchange, Fault, Proxy
from tests.support.experiments import only, starter
from tests.support.followers import Follower
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run, wait_until

LINES = 25_000
LARGE, SMALL = bytes(3_000_000), b"small"
SCRIPT = f"""
from pathlib import Path
for number in range(5):
    Path(f"large-{{number}}.bin").write_bytes(bytes({len(LARGE)}))
    Path(f"small-{{number}}.txt").write_bytes({SMALL!r})
for number in range({LINES}):
    print(number)
"""
GATED = """
import os, sys, time
print("begun", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
"""
QUICK = RetryPolicy(first_wait=0.001, max_wait=0.01)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pause last for long."""
    monkeypatch.setattr(outages, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(outages, "_LONGEST_PAUSE", 0.05)


@pytest.fixture(scope="module")
def ended(service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> grid.Run:
    """A run whose script has left files and many lines behind."""
    sessions.use(service.session())
    run = starter(tmp_path_factory.mktemp("ended"))(SCRIPT)
    wait_for_run(run)
    return run


class Line:
    """A line to the service that can be down."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.is_down = threading.Event()
        self._is_broken = False
        self._where = ("", 0)
        proxy.plan = self._plan

    def break_at(self, operation: str, number: int) -> None:
        """Be down from the request of that operation and number on, which is cut in the middle of its answer."""
        self._where = (operation, number)

    def take_down(self) -> None:
        """Be down."""
        self.is_down.set()
        self.proxy.cut()

    def mend(self) -> None:
        """Be there again."""
        self.is_down.clear()

    def refused(self, operation: str = "") -> int:
        """How many requests were refused."""
        asked = [each for each, fault in self.proxy.exchanges if fault is Fault.REFUSED]
        return sum(each.operation == operation for each in asked) if operation else len(asked)

    def _plan(self, exchange: Exchange) -> Fault | None:
        if self.is_down.is_set():
            return Fault.REFUSED
        if (exchange.operation, exchange.number) == self._where:
            self.is_down.set()
            return Fault.IN_ANSWER_BODY
        return None


@pytest.fixture
def line(service: ServiceProcess) -> Iterator[Line]:
    """What the client speaks through."""
    with Proxy(service.endpoint.url) as proxy:
        sessions.use(Session(replace(service.endpoint, url=proxy.url), is_embedded=False, policy=QUICK))
        yield Line(proxy)


def _opened(experiment: Experiment) -> bytes:
    with experiment.artifacts["large-0.bin"].open() as file:
        return file.read(10) + file.read()


FETCHES: dict[str, tuple[str, int, Callable[[Experiment, Path], object], object]] = {
    "large files": (DOWNLOAD, 0, lambda each, folder: len(each.download_artifacts(folder, r"\.bin$")), 5),
    "small files": (BUNDLE, 0, lambda each, folder: len(each.download_artifacts(folder, r"\.txt$")), 5),
    "a run's files": (DOWNLOAD, 2, lambda each, folder: len(_run_of(each).download_artifacts(folder)), 10),
    "one file": (DOWNLOAD, 0, lambda each, folder: _large(each).download(folder).read_bytes(), LARGE),
    "content": (DOWNLOAD, 0, lambda each, _: _large(each).read_bytes(), LARGE),
    "open file": (DOWNLOAD, 0, lambda each, _: _opened(each), LARGE),
    "log": ("GetLog", 1, lambda each, _: len(list(each.logs(None))), LINES),
    "log of a run": ("GetRunLogs", 1, lambda each, _: len(list(_run_of(each).logs(None))), LINES),
}


def _large(experiment: Experiment) -> grid.artifact.Artifact:
    return experiment.artifacts["large-0.bin"]


def _run_of(experiment: Experiment) -> grid.Run:
    return grid.Run(experiment.name.rpartition("-")[0])


@pytest.mark.parametrize("what", FETCHES)
def test_service_that_is_away_in_the_middle(
    ended: grid.Run, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """What has begun waits for the service, says so once, goes on where it was, and brings all."""
    operation, number, fetch, expected = FETCHES[what]
    experiment = only(grid.Run(ended.name))
    line.break_at(operation, number)
    with ThreadPoolExecutor() as pool:
        fetching = pool.submit(fetch, experiment, tmp_path)
        try:
            assert line.is_down.wait(60)
            wait_until(lambda: line.refused() > 20 * QUICK.tries or fetching.done(), "many tries in vain")
        finally:
            line.mend()
        assert fetching.result(60) == expected
    told = f"grid: still waiting for the service at {line.proxy.url}, which does not answer\n"
    assert capsys.readouterr().err.count(told) == 1


@pytest.mark.parametrize(
    "fetch",
    [
        lambda each, folder: each.download_artifacts(folder),
        lambda each, _: each.artifacts,
        lambda each, _: list(each.logs(None)),
        lambda each, _: list(_run_of(each).logs(None)),
    ],
)
def test_service_that_was_never_there(
    ended: grid.Run, line: Line, tmp_path: Path, fetch: Callable[[Experiment, Path], object]
) -> None:
    """What has not begun is not waited for."""
    experiment = only(grid.Run(ended.name))
    line.take_down()
    with pytest.raises(ConnectionFailed, match="6 tries"):
        list(fetch(experiment, tmp_path))  # type: ignore[call-overload]


def test_service_that_stays_away(ended: grid.Run, line: Line, tmp_path: Path) -> None:
    """After the patience that is configured the error is that of the download."""
    sessions.current().policy = replace(QUICK, outage=0.2)
    experiment = only(grid.Run(ended.name))
    line.break_at(DOWNLOAD, 0)
    with pytest.raises(ConnectionFailed, match="the download of 'large-"):
        experiment.download_artifacts(tmp_path)
    line.mend()
    assert len(experiment.download_artifacts(tmp_path)) == 10


@pytest.mark.parametrize("what", ["large files", "small files", "content", "log"])
def test_interrupt_while_the_service_is_away(ended: grid.Run, line: Line, tmp_path: Path, what: str) -> None:
    """Ctrl-C ends the wait at once."""
    operation, number, fetch, _ = FETCHES[what]
    experiment = only(grid.Run(ended.name))
    line.break_at(operation, number)

    def interrupt() -> None:
        wait_until(lambda: line.refused() > 3 * QUICK.tries, "tries in vain")
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor() as pool:
        interrupting = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(experiment, tmp_path)
        interrupting.result()


def test_outage_is_told_once(
    service: ServiceProcess,
    line: Line,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However many follow something at a service, its outage is said once, and the next one again."""
    gate = tmp_path / "gate"
    run = starter(tmp_path)(GATED, f"--gate {gate}")
    wait_until(lambda: list(run.logs()), "the first line")
    followers = [Follower(iter(run.logs(follow=True))) for _ in range(4)]
    told = f"grid: still waiting for the service at {line.proxy.url}, which does not answer\n"
    wait_until(lambda: all(each.seen for each in followers), "the first lines")
    seen = ""
    for count in (1, 2):
        enough = line.refused() + 16 * QUICK.tries
        monkeypatch.setattr(waiting, "_SECONDS", 0.01)
        line.take_down()
        wait_until(partial(has_refused, line, enough), "tries in vain")
        monkeypatch.setattr(waiting, "_SECONDS", 600)  # an answer may take its time
        line.mend()
        wait_until(partial(has_sockets, line, 4 * count + 4), "the end of the outage")
        seen += capsys.readouterr().err
        assert seen.count(told) == count
    gate.touch()
    assert [len(each.all()) for each in followers] == [1] * 4


def has_refused(line: Line, count: int) -> bool:
    """Whether so many requests were refused."""
    return line.refused() >= count


def has_sockets(line: Line, count: int) -> bool:
    """Whether so many subscriptions were carried."""
    carried = [each for each, fault in line.proxy.exchanges if each.operation == SUBSCRIPTION and fault is None]
    return len(carried) >= count
