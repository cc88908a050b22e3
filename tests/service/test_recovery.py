"""Tests of what survives the death of a process of Grid's own: the service, its spawner, a supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from grid import Run
from grid.shared.processes import process_start
from tests.support.experiments import (
    database_of,
    events_of,
    facts_of,
    only,
    output_of,
    pids_in,
    record_of,
    restart,
    starter,
    wait_until_ready,
)
from tests.support.processes import is_alive
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

# Writes its name into a ledger once it has started, and ends when there is a file.
HOLD = """
import os, sys, time
ledger, release, _, name = sys.argv[1:]
descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(descriptor, f'{name}\\n'.encode())
print('ready')
while not os.path.exists(release): time.sleep(0.01)
"""
FAMILY = """
import json, os, subprocess, sys, time
stay = 'import json, os, sys, time; print(json.dumps({sys.argv[1]: os.getpid()}), flush=True); time.sleep(1000)'
subprocess.Popen([sys.executable, '-c', stay, 'child'])
subprocess.Popen([sys.executable, '-c', stay, 'session'], start_new_session=True)
subprocess.Popen(['env', '-i', sys.executable, '-c', stay, 'bare'])
print(json.dumps({'supervisor': os.getppid()}))
os.execv(sys.executable, [sys.executable, '-c', stay, 'script'])
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of the test's own: it will not live long."""
    with service_process(tmp_path, "--grace", "1", "--cpus", "2", "--gpus", "1") as running:
        yield running


@pytest.fixture
def start(session: object, tmp_path: Path) -> Start:
    """Start a run of a script whose text is given; what is left of it ends with the service."""
    return starter(tmp_path)


def spawner_of(service: ServiceProcess) -> psutil.Process:
    """The spawner of a service."""
    (spawner,) = psutil.Process(service.process.pid).children()
    return spawner


def test_service_killed_while_experiments_run(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """What ended without a service is recorded as it ended, what was queued goes on, and nothing runs twice."""
    ledger, release = tmp_path / "ledger", tmp_path / "release"
    run = start(HOLD + "sys.exit(int(name) % 3)", f"{ledger} {release} --name '[0, 1, 2, 3, 4, 5]'")
    first, second, *_ = run
    wait_until_ready(service, first, second)
    service.kill()
    release.touch()
    for each in (first, second):
        wait_until((record_of(service, each) / "exit").is_symlink, "the end of a script without its service")
    again = restart(service, run)
    wait_for_run(again)
    assert [facts_of(service, each)["exitCode"] for each in again] == [0, 1, 2, 0, 1, 2]
    assert sorted(ledger.read_text().split()) == list("012345")
    assert all(events_of(service, each)[:2] == ["PENDING", "RUNNING"] for each in again)
    assert len({event for each in again for event in events_of(service, each)}) == 4
    ended = [each.finished_at for each in again]
    assert max(ended[:2]) < min(each.started_running_at for each in list(again)[2:])


def test_service_killed_while_an_experiment_goes_on(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A script that outlives its service is watched by the next one, holds its resources, and can be cancelled."""
    ledger, release = tmp_path / "ledger", tmp_path / "release"
    run = start(HOLD, f"{ledger} {release} --name '[0, 1, 2]'")
    wait_until_ready(service, *list(run)[:2])
    service.kill()
    again = restart(service, run)
    first, second, third = again
    assert [each.status() for each in again] == ["RUNNING", "RUNNING", "QUEUED"]
    second.cancel()
    assert [first.status(), second.status()] == ["RUNNING", "CANCELLED"]
    wait_until_ready(service, third)
    release.touch()
    wait_for_run(again)
    assert [each.status() for each in again] == ["SUCCEEDED", "CANCELLED", "SUCCEEDED"]
    assert sorted(ledger.read_text().split()) == list("012")


def test_stopping_leaves_experiments_alone(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A service that is stopped properly ends at once, though an experiment runs, which goes on."""
    run = start(HOLD, f"{tmp_path / 'ledger'} {tmp_path / 'release'} --name 0")
    wait_until_ready(service, only(run))
    service.stop()
    assert service.process.returncode == 0
    again = restart(service, run)
    assert only(again).status() == "RUNNING"
    (tmp_path / "release").touch()
    assert list(wait_for_run(again)) == ["SUCCEEDED"]


def test_spawner_killed(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A service whose spawner dies starts another: what ran goes on and its end is seen, and others can start."""
    ledger, release = tmp_path / "ledger", tmp_path / "release"
    run = start(HOLD, f"{ledger} {release} --name 0")
    wait_until_ready(service, only(run))
    spawner_of(service).kill()
    other = start("print('other')")
    assert list(wait_for_run(other)) == ["SUCCEEDED"]
    assert only(run).status() == "RUNNING"
    release.touch()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert ledger.read_text().split() == ["0"]


def test_spawner_killed_before_it_forks(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """What a spawner had not begun when it died is begun by the next one, once."""
    (tmp_path / "release").touch()
    spawner = spawner_of(service)
    spawner.suspend()
    run = start(HOLD, f"{tmp_path / 'ledger'} {tmp_path / 'release'} --name '[0, 1, 2]'")
    wait_until(lambda: len(run.status().get("PENDING", ())) == 2, "two whose turn has come")
    spawner.kill()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert sorted((tmp_path / "ledger").read_text().split()) == list("012")


@pytest.mark.parametrize("cancelled", [False, True])
def test_supervisor_killed(service: ServiceProcess, start: Start, cancelled: bool) -> None:
    """Without its supervisor an experiment is lost; its processes are gone before its status says so."""
    run = start(FAMILY)
    pids = wait_until(lambda: len(told := pids_in(output_of(service, only(run)))) == 5 and told, "the family")
    supervising = psutil.Process(pids.pop("supervisor"))
    if cancelled:
        # It can no longer act on the cancel.
        supervising.suspend()
        with database_of(service) as connection:
            connection.execute("UPDATE experiments SET cancel_requested_at = 1")
    supervising.kill()

    def is_over() -> bool:
        status = only(run).status()
        left = {name for name, pid in pids.items() if is_alive(pid)}
        assert status == "RUNNING" or not left
        return status != "RUNNING"

    wait_until(is_over, "the end of the experiment")
    facts = facts_of(service, only(run))
    expected = ("CANCELLED", "CANCELLED_BY_USER") if cancelled else ("FAILED", "LOST")
    assert (facts["status"], facts["reason"]) == expected
    assert (facts["exitCode"], facts["signal"]) == (None, None)
    assert list(wait_for_run(start("print(1)", cpus=2))) == ["SUCCEEDED"]


def test_files_that_say_nothing(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """Files that a power failure has left empty do not keep a service from starting: only their experiment is lost."""
    ledger, release = tmp_path / "ledger", tmp_path / "release"
    run = start(HOLD, f"{ledger} {release} --name '[0, 1, 2, 3]'")
    first, second, *_ = run
    wait_until_ready(service, first, second)
    service.kill()
    release.touch()
    for each in (first, second):
        wait_until((record_of(service, each) / "exit").is_symlink, "the end of a script without its service")
    for each, text in ((first, ""), (second, "0 - 1")):
        (record_of(service, each) / "exit").unlink()
        (record_of(service, each) / "exit").write_text(text)
    for name in ("claim", "started"):
        (record_of(service, second) / name).unlink()
        (record_of(service, second) / name).symlink_to("nonsense")
    again = restart(service, run)
    wait_for_run(again)
    assert [each.status() for each in again] == ["FAILED", "FAILED", "SUCCEEDED", "SUCCEEDED"]
    assert facts_of(service, first)["reason"] == "LOST"
    assert sorted(ledger.read_text().split()) == list("0123")


@pytest.mark.parametrize("leader", ["sleep 1000", "sleep 1000 & echo $!"])
def test_machine_started_again(service: ServiceProcess, start: Start, tmp_path: Path, leader: str) -> None:
    """After a reboot an experiment is lost; a process that now has its supervisor's pid or session is left alone."""
    run = start(HOLD, f"{tmp_path / 'ledger'} {tmp_path / 'release'} --name 0")
    wait_until_ready(service, only(run))
    service.kill()
    claim = record_of(service, only(run)) / "claim"
    supervising = psutil.Process(int(claim.readlink().name.split()[0]))
    tree = [supervising, *supervising.children(recursive=True)]
    for process in tree:
        process.kill()
    psutil.wait_procs(tree, 30)
    with subprocess.Popen(["sh", "-c", f"exec {leader}"], start_new_session=True, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        bystander = int(shell.stdout.readline()) if "echo" in leader else shell.pid
        try:
            if bystander != shell.pid:
                shell.wait(60)  # and leaves its session to the other
            claim.unlink()
            claim.symlink_to(f"{shell.pid} {process_start(bystander)} an-earlier-boot")
            again = restart(service, run)
            assert list(wait_for_run(again)) == ["FAILED"]
            assert facts_of(service, only(again))["reason"] == "LOST"
            assert is_alive(bystander)
        finally:
            os.kill(bystander, signal.SIGKILL)
