"""Stopping a service and what it runs: no process of an experiment is left, and the records say what ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid import Run
from grid.session import session as sessions
from grid.shared.holder import Holder
from tests.faults.ledger import rows
from tests.support.environments import clean_environment
from tests.support.experiments import facts_of, output_of, pids_in, record_of, starter
from tests.support.processes import is_alive, processes_of
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

# A script whose processes do what they can to stay: a session of their own, no environment, no parent, deaf to SIGTERM.
FAMILY = """
import json, os, signal, subprocess, sys, time

TELL = "import json, os, sys, time; os.write(1, (json.dumps({sys.argv[1]: os.getpid()}) + chr(10)).encode()); "
stay = [sys.executable, "-c", TELL + "time.sleep(1000)"]
subprocess.Popen([*stay, "session"], start_new_session=True)
subprocess.Popen(["nohup", "env", "-i", *stay, "bare"], stderr=subprocess.DEVNULL)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.argv = ["", "forked twice"]
        exec(TELL)
        time.sleep(1000)
    os._exit(0)
os.execv(sys.executable, [*stay, "script"])
"""
NAMES = {"session", "bare", "forked twice", "script"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of the test's own: it will not live long."""
    with service_process(tmp_path, "--grace", "1", "--cpus", "2") as running:
        yield running


@pytest.fixture
def start(service: ServiceProcess, tmp_path: Path) -> Start:
    """Start a run of a script on that service."""
    sessions.use(service.session())
    return starter(tmp_path)


def families(service: ServiceProcess, *experiments: object) -> list[int]:
    """Wait until scripts have reported all their processes; return these."""

    def told(each: object) -> dict[str, int]:
        pids = pids_in(output_of(service, each))
        return pids if pids.keys() >= NAMES else {}

    return [pid for each in experiments for pid in wait_until(lambda each=each: told(each), "a family").values()]


def stop(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Stop the service of a home and what it runs, as its operator would."""
    command = [sys.executable, "-m", "grid.service", "stop", "--stop-experiments", "--grace", "1", *options]
    environment = clean_environment(home.parent)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)


def judge(service: ServiceProcess, run: Run, pids: list[int]) -> None:
    """Two ran and were ended, and nothing of them is left; the third is queued. Then the third one's turn comes."""
    assert [pid for pid in pids if is_alive(pid)] == []
    assert processes_of(service.home) == []
    query = "SELECT status, reason, attempt FROM experiments ORDER BY seq"
    ended = {"status": "FAILED", "reason": "SERVICE_STOPPED", "attempt": 1}
    assert rows(service.home, query) == [ended, ended, {"status": "QUEUED", "reason": None, "attempt": 1}]
    assert rows(service.home, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    service.start()
    sessions.use(service.session())
    again = Run(run.name)
    *first, third = again
    assert [facts_of(service, each)["reason"] for each in first] == ["SERVICE_STOPPED"] * 2
    families(service, third)
    again.cancel()
    assert [each.status() for each in again] == ["FAILED", "FAILED", "CANCELLED"]


def test_stop_with_experiments(service: ServiceProcess, start: Start) -> None:
    """`stop --stop-experiments` ends the service and all that it runs; what is queued waits for the next one."""
    run = start(FAMILY, "--n '[0, 1, 2]'")
    pids = families(service, *list(run)[:2])
    told = stop(service.home)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == f"stopped the service of {service.home} and its experiments\n"
    assert service.process.wait(60) == 0
    judge(service, run, pids)


@pytest.mark.parametrize(
    ("options", "number"),
    [(["--stop-experiments"], signal.SIGTERM), (["--stop-experiments"], signal.SIGINT), ([], signal.SIGUSR1)],
)
def test_service_that_is_to_stop_with_its_experiments(
    service: ServiceProcess, start: Start, options: list[str], number: signal.Signals
) -> None:
    """`serve --stop-experiments` does the same whenever it is told to stop; any service does on SIGUSR1."""
    service.stop()
    service.start(*options)
    sessions.use(service.session())
    run = start(FAMILY, "--n '[0, 1, 2]'")
    pids = families(service, *list(run)[:2])
    service.process.send_signal(number)
    assert service.process.wait(60) == 0
    judge(service, run, pids)


@pytest.mark.parametrize("end", [ServiceProcess.kill, ServiceProcess.stop])
def test_stop_where_no_service_runs(
    service: ServiceProcess, start: Start, end: Callable[[ServiceProcess], None]
) -> None:
    """Experiments that have outlived their service are ended, and recorded, by the command itself."""
    run = start(FAMILY, "--n '[0, 1, 2]'")
    pids = families(service, *list(run)[:2])
    end(service)
    assert all(map(is_alive, pids))
    told = stop(service.home)
    said = f"no service was running in {service.home}; no experiments run now\n"
    assert (told.returncode, told.stdout) == (0, said), told.stderr
    judge(service, run, pids)


def test_stop_without_experiments_leaves_them(service: ServiceProcess, start: Start) -> None:
    """Without the option what runs goes on, as the next service sees."""
    run = start(FAMILY, "--n '[0, 1]'")
    pids = families(service, *run)
    command = [sys.executable, "-m", "grid.service", "stop", "--home", str(service.home)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert service.process.wait(60) == 0
    assert all(map(is_alive, pids))
    service.start()
    sessions.use(service.session())
    assert Run(run.name).status().keys() == {"RUNNING"}
    assert stop(service.home).returncode == 0
    assert [pid for pid in pids if is_alive(pid)] == []


DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready")
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
"""


def test_second_signal_cuts_it_short(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """Told a second time, a service does not wait for its experiments: it says which are left, and how to end them."""
    service.stop()
    service.start("--stop-experiments", "--grace", "1000")
    sessions.use(service.session())
    run = start(DEAF, str(tmp_path / "release"))
    (experiment,) = run
    wait_until(lambda: "ready" in output_of(service, experiment), "the script")
    service.process.terminate()
    wait_until((record_of(service, experiment) / "stop").exists, "the word that it shall end")
    assert service.process.poll() is None
    service.process.terminate()
    assert service.process.wait(60) == 1
    said = service.log.read_text().splitlines()[-1]
    assert said.startswith("error: not every experiment has ended (cut short by a second signal): ")
    assert experiment.name in said
    assert f"stop --stop-experiments --home {service.home}" in said
    assert not (service.home / "service" / "service.json").exists()
    (tmp_path / "release").touch()
    told = stop(service.home)
    assert told.returncode == 0, told.stderr
    service.start()
    sessions.use(service.session())
    assert wait_for_run(Run(run.name)) == {"FAILED": [experiment.name]}
    assert facts_of(service, experiment)["reason"] == "SERVICE_STOPPED"


def test_stop_of_an_embedded_service(grid_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded service is stopped with its keeper and its experiments, and does not come back."""
    import grid

    monkeypatch.setenv("GRID_CANCEL_GRACE", "1")
    grid.login()
    keeper = Holder.read(grid_home / "service" / "keeper")
    run = starter(tmp_path)(FAMILY)
    (experiment,) = run
    output = grid_home / "experiments" / experiment.id / "attempt-1" / "output"
    pids = wait_until(lambda: output.exists() and len(read := pids_in(output.read_text())) == 4 and read, "the family")
    told = stop(grid_home)
    assert (told.returncode, told.stderr) == (0, "")
    assert keeper is not None
    assert not keeper.is_alive()
    assert [pid for pid in pids.values() if is_alive(pid)] == []
    assert processes_of(grid_home) == []
    assert rows(grid_home, "SELECT status, reason FROM experiments") == [
        {"status": "FAILED", "reason": "SERVICE_STOPPED"}
    ]
    assert run.status() == {"FAILED": [experiment.name]}


def test_stop_where_there_is_nothing(tmp_path: Path) -> None:
    """Stopping does not make a home that does not exist; one where nothing runs is left as it is.

    Without a database no experiments were seen, and nothing is claimed of them.
    """
    home = tmp_path / ".grid"
    told = stop(home)
    assert told.returncode == 0
    assert told.stdout == (
        f"no service was running in {home}; there is no database in it, so nothing is known of experiments: "
        "if it has another, give --database\n"
    )
    assert not home.exists()
    with service_process(tmp_path, "--cpus", "1") as running:
        running.stop()
        told = stop(home)
        assert (told.returncode, told.stdout) == (0, f"no service was running in {home}; no experiments run now\n")
        assert not os.path.lexists(home / "service" / "owner")
