"""Tests of the scheduler: which experiments run at once, in which order, on which resources, and after a restart."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from grid import Run, list_clusters, pause_cluster, resume_cluster
from grid.errors import ClusterNotFound, GridWarning, Unsupported
from grid.service.domain.local_cluster import LocalCluster
from grid.service.http.app import opened
from grid.service.store.tables import experiments as rows
from grid.service.store.tables import runs
from grid.service.system.settings import Options
from grid.session import session as sessions
from grid.shared.wire import ExperimentStatus
from tests.support.experiments import (
    RECOUNT,
    database_of,
    facts_of,
    insert_run,
    only,
    output_of,
    restart,
    starter,
    wait_until_ready,
)
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

# Says that it has begun, waits until there is a file, and says that it has ended: in a common ledger.
HOLD = """
import os, sys, time
ledger, release, _, name = sys.argv[1:]
def note(what):
    descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f'{what} {name}\\n'.encode())
    os.close(descriptor)
note('begin')
while not os.path.exists(release): time.sleep(0.01)
note('end')
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service of three CPUs and two GPUs, whatever the machine has."""
    options = ("--grace", "1", "--cpus", "3", "--gpus", "2")
    with service_process(tmp_path_factory.mktemp("service"), *options) as running:
        yield running


class Ledger:
    """What the scripts of a test write, in order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self.path.touch()
        self.release = folder / "release"

    def arguments(self, name: str, *, held: bool = True) -> str:
        """The arguments of a script of that name, which ends when it is released, or at once."""
        return f"{self.path} {self.release if held else self.path} --name {name}"

    def lines(self) -> list[str]:
        """The lines written so far."""
        return self.path.read_text().splitlines()

    def most_at_once(self) -> int:
        """How many scripts ran at once at most."""
        most = now = 0
        for line in self.lines():
            now += 1 if line.startswith("begin") else -1
            most = max(most, now)
        return most


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of the test's own."""
    return Ledger(tmp_path)


def test_never_more_at_once_than_fit(start: Start, ledger: Ledger) -> None:
    """As many experiments run at once as there are CPUs, and never one more; each runs once, in order."""
    run = start(HOLD, ledger.arguments("'[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]'"))
    wait_until(lambda: len(ledger.lines()) == 3, "three that run")
    ledger.release.touch()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert ledger.most_at_once() == 3
    assert sorted(ledger.lines()) == sorted(f"{what} {n}" for n in range(10) for what in ("begin", "end"))


def test_order_is_kept(start: Start, ledger: Ledger) -> None:
    """If each experiment takes the whole machine, they run one after the other in the order of the queue."""
    first = start(HOLD, ledger.arguments("'[0, 1, 2]'", held=False), cpus=3)
    second = start(HOLD, ledger.arguments("'[3, 4]'", held=False), cpus=3)
    wait_for_run(first)
    wait_for_run(second)
    assert ledger.lines() == [f"{what} {n}" for n in range(5) for what in ("begin", "end")]


def test_nothing_overtakes(start: Start, ledger: Ledger) -> None:
    """While the head of the queue does not fit, what is behind it waits, even if it would fit."""
    pause_cluster("local")
    try:
        small = start(HOLD, ledger.arguments("small"))
        large = start(HOLD, ledger.arguments("large"), cpus=3)
        behind = start(HOLD, ledger.arguments("behind"))
    finally:
        resume_cluster("local")
    wait_until(lambda: ledger.lines() == ["begin small"], "the first")
    assert list(large.status()) == list(behind.status()) == ["QUEUED"]
    ledger.release.touch()
    wait_for_run(behind)
    assert ledger.lines() == [f"{what} {name}" for name in ("small", "large", "behind") for what in ("begin", "end")]
    assert list(small.status()) == ["SUCCEEDED"]


def test_further_attempt_has_its_old_place(start: Start, ledger: Ledger) -> None:
    """What is run again comes before what was started after it, and takes the same resources."""
    mended = ledger.path.with_name("mended")
    failing = f"import os, sys\nif not os.path.exists({str(mended)!r}): sys.exit(1)\n{HOLD}"
    again = start(failing, ledger.arguments("'[0, 1]'", held=False), cpus=3)
    wait_for_run(again)
    mended.touch()
    pause_cluster("local")
    try:
        later = start(HOLD, ledger.arguments("later", held=False), cpus=3)
        again.retry()
    finally:
        resume_cluster("local")
    wait_for_run(later)
    assert ledger.lines() == [f"{what} {name}" for name in ("0", "1", "later") for what in ("begin", "end")]
    assert list(again.status()) == ["SUCCEEDED"]


def test_each_has_its_own_gpus(service: ServiceProcess, start: Start, ledger: Ledger) -> None:
    """Experiments that run at once never share a GPU, one that did not ask for a GPU sees none, and the third waits."""
    text = f"import os\nprint(os.environ['CUDA_VISIBLE_DEVICES'])\n{HOLD}"
    run = start(text, ledger.arguments("'[1, 2, 3]'"), gpus=1)
    wait_until(lambda: len(ledger.lines()) == 2, "two that run")
    assert {status: len(names) for status, names in run.status().items()} == {"RUNNING": 2, "QUEUED": 1}
    seen = [output_of(service, each) for each in run]
    assert sorted(seen[:2]) == ["0\n", "1\n"]
    ledger.release.touch()
    wait_for_run(run)
    both, none = start(text, ledger.arguments("both"), gpus=2), start(text, ledger.arguments("none"))
    wait_for_run(both)
    wait_for_run(none)
    assert [output_of(service, only(each)) for each in (both, none)] == ["0,1\n", "\n"]


def test_pausing_and_resuming(start: Start, ledger: Ledger) -> None:
    """While a cluster is paused nothing new starts, and what runs goes on."""
    running = start(HOLD, ledger.arguments("running"))
    wait_until(lambda: ledger.lines() == ["begin running"], "the first")
    pause_cluster("local")
    try:
        assert [cluster.paused for cluster in list_clusters()] == [True]
        waiting = start(HOLD, ledger.arguments("waiting"))
        ledger.release.touch()
        # The queue is checked after every end: this one is over, and the other had its chance.
        assert list(wait_for_run(running)) == ["SUCCEEDED"]
        assert list(waiting.status()) == ["QUEUED"]
    finally:
        resume_cluster("local")
    assert [cluster.paused for cluster in list_clusters()] == [False]
    assert list(wait_for_run(waiting)) == ["SUCCEEDED"]


def test_cancelled_experiment_holds_its_resources(service: ServiceProcess, start: Start) -> None:
    """Nothing takes the place of a cancelled experiment before its processes are gone."""
    stubborn = start(
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(os.getpid())\ntime.sleep(1000)",
        cpus=3,
    )
    pid = wait_until(lambda: output_of(service, only(stubborn)).strip(), "the first")
    following = start("import os, sys\nos.kill(int(sys.argv[1]), 0)", pid, cpus=3)
    stubborn.cancel()
    # It fails because there is no process of that pid.
    assert list(wait_for_run(following)) == ["FAILED"]
    assert "ProcessLookupError" in output_of(service, only(following))


def test_more_cpus_than_there_are(session: object, tmp_path: Path) -> None:
    """A run that asks for more CPUs than the machine has gets all of them, with a warning."""
    script = tmp_path / "run.py"
    script.write_text("")
    run = Run(entrypoint=str(script), localdir=True, cpus=64)
    with (
        pytest.warns(GridWarning, match=r"asks for 64 CPUs; this machine has 3"),
        pytest.warns(GridWarning, match="GPUs"),
    ):
        run.start()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]


def test_more_gpus_than_there_are(start: Start) -> None:
    """A run that asks for more GPUs than the machine has is refused."""
    with pytest.raises(Unsupported, match="asks for 3 GPUs; this machine has 2"):
        start("", gpus=3)


def test_unknown_cluster(session: object) -> None:
    """Only a cluster that exists can be paused."""
    with pytest.raises(ClusterNotFound, match="'elsewhere'; the only cluster is 'local'"):
        pause_cluster("elsewhere")


# A service that is killed or stopped, and started again

# Writes its name into a ledger once it has started, and ends when there is a file.
ONCE = """
import os, sys, time
ledger, release, _, name = sys.argv[1:]
descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(descriptor, f'{name}\\n'.encode())
print('ready')
while not os.path.exists(release): time.sleep(0.01)
"""


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of the test's own, logged in to: it will not live long."""
    with service_process(tmp_path, "--grace", "1", "--cpus", "2", "--gpus", "1") as running:
        sessions.use(running.session())
        yield running


@pytest.fixture
def start_there(own_service: ServiceProcess, tmp_path: Path) -> Start:
    """Start a run of a script whose text is given on that service, with which it ends."""
    return starter(tmp_path)


def test_killed_between_pending_and_spawning(own_service: ServiceProcess, start_there: Start, tmp_path: Path) -> None:
    """An experiment whose turn was recorded, but not passed to the executor, is started by the next service, once."""
    (tmp_path / "release").touch()
    pause_cluster("local")
    run = start_there(ONCE, f"{tmp_path / 'ledger'} {tmp_path / 'release'} --name '[0, 1]'")
    own_service.kill()
    with database_of(own_service) as connection:
        connection.execute("UPDATE experiments SET status = 'PENDING' WHERE \"index\" = 0")
        connection.execute(RECOUNT)
    again = restart(own_service, run)
    first, second = again
    wait_until(lambda: first.status() == "SUCCEEDED", "the one whose turn had come")
    assert second.status() == "QUEUED"
    resume_cluster("local")
    wait_for_run(again)
    assert sorted((tmp_path / "ledger").read_text().split()) == ["0", "1"]


def test_turn_that_came_before_the_machine_was_started(
    own_service: ServiceProcess, start_there: Start, tmp_path: Path
) -> None:
    """An experiment whose turn came before the boot may have run, whatever its folder says: it is lost, not run."""
    pause_cluster("local")
    run = start_there(ONCE, f"{tmp_path / 'ledger'} {tmp_path / 'release'} --name 0")
    own_service.kill()
    with database_of(own_service) as connection:
        connection.execute("UPDATE experiments SET status = 'PENDING'")
        connection.execute(RECOUNT)
        connection.execute(
            'INSERT INTO events (run_seq, number, experiment_seq, "index", attempt, status, is_queued_again, at) '
            'SELECT run_seq, 1, seq, "index", attempt, status, 0, 1 FROM experiments'
        )
        connection.execute("UPDATE revisions SET number = 1")
    again = restart(own_service, run)
    assert list(wait_for_run(again)) == ["FAILED"]
    assert facts_of(own_service, only(again))["reason"] == "LOST"
    assert not (tmp_path / "ledger").exists()


def test_killed_between_recording_a_cancel_and_telling(
    own_service: ServiceProcess, start_there: Start, tmp_path: Path
) -> None:
    """A cancel that was recorded is carried out by the next service."""
    run = start_there(ONCE, f"{tmp_path / 'ledger'} {tmp_path / 'release'} --name 0")
    wait_until_ready(own_service, only(run))
    own_service.kill()
    with database_of(own_service) as connection:
        connection.execute("UPDATE experiments SET cancel_requested_at = 1")
    assert list(wait_for_run(restart(own_service, run))) == ["CANCELLED"]
    assert facts_of(own_service, only(run))["signal"] == signal.SIGTERM


def test_fewer_gpus_than_before(own_service: ServiceProcess, start_there: Start) -> None:
    """What waits for a GPU that is no longer there holds up nothing else, and has its turn when there is one again."""
    pause_cluster("local")
    with_gpu, without = start_there("print(1)", gpus=1), start_there("print(1)")
    own_service.stop()
    without = restart(own_service, without, "--gpus", "0")
    resume_cluster("local")
    assert list(wait_for_run(without)) == ["SUCCEEDED"]
    assert list(Run(with_gpu.name).status()) == ["QUEUED"]
    own_service.stop()
    assert list(wait_for_run(restart(own_service, with_gpu))) == ["SUCCEEDED"]


def test_attempt_that_could_not_be_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that a fault kept from its executor holds nothing, and is handed over after it."""
    faults = iter([OSError(errno.EMFILE, "too many open files")])
    command = LocalCluster.command

    def failing(cluster: LocalCluster, *arguments: Any) -> tuple[str, ...]:
        for fault in faults:
            raise fault
        return command(cluster, *arguments)

    monkeypatch.setattr(LocalCluster, "command", failing)

    def queue_one(connection: Connection) -> None:
        insert_run(connection, ExperimentStatus.QUEUED)
        settings = json.dumps({"environment": {}, "instanceType": "t2.medium"})
        connection.execute(sa.update(runs).values(settings=settings))

    async def play() -> str:
        async with opened(Options(home=tmp_path, cpus=1, gpus=0)) as application:
            await application.database.write(queue_one)
            application.service.scheduler.wake()
            while True:
                status = await application.database.read(lambda connection: connection.scalar(sa.select(rows.c.status)))
                if status not in ("QUEUED", "PENDING"):
                    return str(status)
                await asyncio.sleep(0.01)

    assert asyncio.run(asyncio.wait_for(play(), 60)) == "FAILED"  # for its source code was never there
