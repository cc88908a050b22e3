"""Several threads, forks and Ctrl-C against a real service; and many experiments, each run once."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

import grid
from grid.session import session as sessions
from tests.support.projects import make_project
from tests.support.scripts import script
from tests.support.services import ServiceProcess, login_environment, service_process
from tests.support.waiting import wait_for_run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from grid.session.session import Session

_DEADLINE = 60.0

# Ends neither by itself nor by SIGTERM, and says so once that holds.
STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("deaf").touch()
while True:
    time.sleep(0.1)
"""


# Threads


def test_eight_threads_share_a_session(session: Session, tmp_path: Path) -> None:
    """Eight threads that start, read and cancel at the same time see their own runs correctly, over one session."""
    entrypoint = str(make_project(tmp_path / "project", ""))
    together = threading.Barrier(8)

    def work(number: int) -> tuple[str, list[str]]:
        together.wait(_DEADLINE)
        run = grid.create_run(entrypoint, script_args=f"--number {number} --trial '[1, 2, 3]'", cpus=1)
        together.wait(_DEADLINE)
        held = grid.Run(run.name)
        assert {experiment.parameters["number"] for experiment in held} == {str(number)}
        assert sorted(name for names in held.status().values() for name in names) == list(run.experiments)
        assert run.name in grid.list_runs()
        return run.name, run.cancel()

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, range(8)))

    assert len({name for name, _ in done}) == 8
    assert all(ended == [f"{name}-exp{index}" for index in range(3)] for name, ended in done)
    assert sessions.current() is session
    loops = [thread for thread in threading.enumerate() if thread.name == "grid-loop"]
    assert len(loops) == 1


# Fork

FORK = """
import os, sys
before = list_runs()
runs_of_child, runs_of_parent = os.pipe()
for turn in range(3):
    child = os.fork()
    if child == 0:
        r = Run(entrypoint="project/run.py", cpus=1, name=f"child-{turn}")
        r.start()
        r.cancel()
        print("child", turn, list_runs()[0], *r.status(), flush=True)
        sys.exit(0)
    print("parent", len(list_runs()) >= len(before), flush=True)
    print("ended with", os.waitpid(child, 0)[1], flush=True)
print("last", list_runs()[0], Run("child-0").status()["CANCELLED"], flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_asks_for_itself(service: ServiceProcess, tmp_path: Path) -> None:
    """A child starts and cancels runs of its own and ends well; its parent's session goes on meanwhile and after."""
    make_project(tmp_path / "project", "import time; time.sleep(600)")

    with script(FORK, tmp_path, **login_environment(service)) as forking:
        lines = forking.finish()

    assert Counter(lines) == Counter(
        [
            *(f"child {turn} child-{turn} CANCELLED" for turn in range(3)),
            *["parent True", "ended with 0"] * 3,
            "last child-2 ['child-0-exp0']",
        ]
    )


# Ctrl-C


@pytest.fixture(scope="module")
def deliberate_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that gives processes a long time to end by themselves, so that a cancel takes long."""
    home = tmp_path_factory.mktemp("deliberate")
    with service_process(home, "--grace", "600", "--cpus", "2") as running:
        yield running


CANCEL = """
r = Run(entrypoint="project/run.py", cpus=1)
r.start()
print(r.experiments[r.name + "-exp0"].id, flush=True)
input()
try:
    r.cancel()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(r.name in list_runs(), r.status() == {"RUNNING": [r.name + "-exp0"]}, Run(r.name).name == r.name, flush=True)
"""


def test_ctrl_c_ends_the_wait_for_a_cancel(deliberate_service: ServiceProcess, tmp_path: Path) -> None:
    """Ctrl-C while `cancel()` waits for a process that does not end is answered at once; the session goes on."""
    make_project(tmp_path / "project", STUBBORN)

    with script(CANCEL, tmp_path, **login_environment(deliberate_service)) as cancelling:
        experiment = cancelling.read()
        attempt = deliberate_service.home / "experiments" / experiment / "attempt-1"
        record = deliberate_service.home / "records" / f"{experiment}-1"
        wait_until((attempt / "room" / "work" / "deaf").exists, "the script that does not listen")
        cancelling.go_on()
        wait_until((record / "cancel").exists, "the cancel")
        cancelling.interrupt()

        assert cancelling.read() == "interrupted"
        assert cancelling.finish() == ["True True True"]


class Holding:
    """A line to a service that lets everything pass, but holds back the answer to one operation."""

    def __init__(self, url: str, operation: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._service = (host, int(port))
        self._operation = operation.encode()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.holds = threading.Event()
        self.may_go_on = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections, and let go of what is held."""
        self.may_go_on.set()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                service = socket.create_connection(self._service)
                asked = threading.Event()
                for end in ((client, service, asked, True), (service, client, asked, False)):
                    threading.Thread(target=self._carry, args=end, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, asked: threading.Event, is_request: bool) -> None:
        with source, target, suppress(OSError):
            while content := source.recv(1 << 16):
                if is_request and self._operation in content:
                    asked.set()
                elif not is_request and asked.is_set() and not self.may_go_on.is_set():
                    self.holds.set()
                    self.may_go_on.wait(_DEADLINE)
                target.sendall(content)


START = """
before = set(list_runs())
r = Run(entrypoint="project/run.py", cpus=1)
try:
    r.start()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(len(set(list_runs()) - before), "made", r.name, r.status(), flush=True)
input()
r.start()
print(set(list_runs()) - before == {r.name}, len(r), flush=True)
r.cancel()
"""


def test_start_that_was_interrupted_and_repeated_starts_one_run(service: ServiceProcess, tmp_path: Path) -> None:
    """Ctrl-C while a start waits for its answer is heard at once; the next `start()` gets the run that was made."""
    make_project(tmp_path / "project", "")
    line = Holding(service.endpoint.url, "mutation StartRun")
    environment = {**login_environment(service), "GRID_URL": line.url}

    with script(START, tmp_path, **environment) as starting:
        assert line.holds.wait(_DEADLINE)
        starting.interrupt()

        # Not because of the answer: that is still held.
        assert starting.read() == "interrupted"
        assert starting.read() == "1 made  defaultdict(<class 'list'>, {})"
        line.may_go_on.set()
        starting.go_on()
        assert starting.finish() == ["True 1"]
    line.close()


# Many experiments

LEDGER = """
import os, sys
ledger = os.open({ledger!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(ledger, (sys.argv[-1] + "\\n").encode())
"""


def test_two_hundred_experiments_run_once_each(service: ServiceProcess, session: Session, tmp_path: Path) -> None:
    """All of 200 trivial experiments on two CPUs succeed, each is executed once, and no process is left."""
    ledger = tmp_path / "ledger"
    entrypoint = make_project(tmp_path / "project", LEDGER.format(ledger=str(ledger)))

    run = grid.create_run(str(entrypoint), script_args="--trial 'range(200)'", cpus=1)
    wait_until(lambda: processes_of(run.name), "the first process")
    ended = wait_for_run(run, 120)

    assert ended == {"SUCCEEDED": [f"{run.name}-exp{index}" for index in range(200)]}
    assert Counter(ledger.read_text().split()) == Counter(map(str, range(200)))
    assert not processes_of(run.name)
    spawner_alone = 1
    children = psutil.Process(service.process.pid).children
    wait_until(lambda: len(children(recursive=True)) == spawner_alone, "the end of the last supervisor")


def processes_of(run: str) -> list[psutil.Process]:
    """Return the processes that belong to a run: those that carry its name in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("GRID_RUN_NAME") == run:
                found.append(process)
    return found
