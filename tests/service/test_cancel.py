"""Tests of cancelling: what is recorded, which processes get which signal, and what the status says meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from grid import Run, cancel_experiment, cancel_run, experiment, pause_cluster, resume_cluster
from grid.errors import CancelTimeout, ExperimentNotFound, RunNotFound
from tests.support.experiments import events_of, facts_of, folder_of, only, output_of, pids_in, work_of
from tests.support.processes import is_alive
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

WAIT = "import time\nprint('ready')\nwhile True: time.sleep(1)\n"

STUBBORN = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready')\nwhile True: time.sleep(1)\n"

# Starts processes that might escape: each prints its name and pid, ignores SIGTERM, and outlasts any test.
FAMILY = """
import json, os, subprocess, sys, time

STAY = '''
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.write(1, (json.dumps({sys.argv[1]: os.getpid()}) + chr(10)).encode())
for _ in range(120): time.sleep(1)
'''
FORK_TWICE = '''
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], sys.argv[1]])
    os._exit(0)
'''

def stay(name, *before, **options):
    subprocess.Popen([*before, sys.executable, "-c", STAY, name], **options)

stay("child")
stay("session", start_new_session=True)
stay("group", preexec_fn=os.setpgrp)
stay("nohup", "nohup")
stay("setsid", "setsid", "--fork")
stay("bare", "env", "-i")
stay("bare-session", "env", "-i", "setsid", "--fork")
subprocess.run([sys.executable, "-c", FORK_TWICE, "daemon", STAY])
subprocess.run(["env", "-i", sys.executable, "-c", FORK_TWICE, "bare-daemon", STAY])
os.execv(sys.executable, [sys.executable, "-c", STAY, "script"])
"""
FAMILY_NAMES = {
    "child", "session", "group", "nohup", "setsid", "bare", "bare-session", "daemon", "bare-daemon", "script",
}  # fmt: skip

CANCEL = """
mutation($name: String!, $wait: Float!) { cancelExperiment(name: $name, waitSeconds: $wait) { ended pending } }
"""


def ready(service: ServiceProcess, run: Run) -> None:
    """Wait until every script of a run has said that it is ready."""
    for each in run:
        wait_until(lambda each=each: "ready" in output_of(service, each), f"the script of {each.name}")


@contextmanager
def kept_stopped(process: psutil.Process) -> Iterator[None]:
    """Keep a process from doing anything, whoever continues it."""
    over = threading.Event()

    def stop() -> None:
        while not over.wait(0.001):
            process.suspend()

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, f"process {process.pid} to stop")
        yield
    finally:
        over.set()
        stopping.join()
        process.resume()


def test_queued_experiment_never_starts(service: ServiceProcess, start: Start) -> None:
    """A queued experiment is cancelled at once, and is not started when its turn would have come."""
    pause_cluster("local")
    try:
        run, later = start("print(1)"), start("print(2)")
        assert run.cancel() == [f"{run.name}-exp0"]
        assert run.status() == {"CANCELLED": [f"{run.name}-exp0"]}
    finally:
        resume_cluster("local")
    assert list(wait_for_run(later)) == ["SUCCEEDED"]
    assert events_of(service, only(run)) == ["CANCELLED"]
    assert not folder_of(service, only(run)).exists()
    assert only(run).started_running_at is None
    assert only(run).finished_at is not None


def test_cancel_wins_over_the_exit_code(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A script may tidy up at SIGTERM and end with 0: it was cancelled all the same, and what it tidied is there."""
    run = start(
        "import signal, sys, time\n"
        "def tidy(*_):\n    open('tidy', 'w').write('yes')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, tidy)\n"
        "print('ready')\n"
        "while True: time.sleep(1)\n"
    )
    ready(service, run)
    assert only(run).cancel() == f"{run.name}-exp0"
    assert only(run).status() == "CANCELLED"
    facts = facts_of(service, only(run))
    assert (facts["reason"], facts["exitCode"], facts["signal"]) == ("CANCELLED_BY_USER", 0, None)
    assert (work_of(service, only(run)) / "tidy").read_text() == "yes"


def test_sigkill_after_the_grace_period(service: ServiceProcess, start: Start) -> None:
    """A script that ignores SIGTERM meets SIGKILL."""
    run = start(STUBBORN)
    ready(service, run)
    run.cancel()
    assert list(run.status()) == ["CANCELLED"]
    assert facts_of(service, only(run))["signal"] == signal.SIGKILL


def test_stopped_script_meets_sigterm(service: ServiceProcess, start: Start) -> None:
    """A script that was stopped is woken to receive its SIGTERM, rather than left until the grace period ends."""
    run = start(f"import os\nprint(os.getpid())\n{WAIT}")
    ready(service, run)
    os.kill(int(output_of(service, only(run)).split()[0]), signal.SIGSTOP)
    run.cancel()
    assert facts_of(service, only(run))["signal"] == signal.SIGTERM


def test_no_process_gets_away(service: ServiceProcess, start: Start) -> None:
    """Children, daemons, new sessions and emptied environments: all are gone before the status says CANCELLED."""
    run = start(FAMILY)
    pids = wait_until(
        lambda: len(told := pids_in(output_of(service, only(run)))) == len(FAMILY_NAMES) and told, "the whole family"
    )
    assert pids.keys() == FAMILY_NAMES
    assert all(map(is_alive, pids.values()))
    answer = ask(service.endpoint, CANCEL, name=only(run).name, wait=0)["data"]["cancelExperiment"]
    assert answer == {"ended": [], "pending": [only(run).name]}

    def is_over() -> bool:
        status = only(run).status()
        left = {name for name, pid in pids.items() if is_alive(pid)}
        assert not (status == "CANCELLED" and left)
        return status == "CANCELLED"

    wait_until(is_over, "the end of the family")


def test_cancelling_twice_is_cancelling_once(service: ServiceProcess, start: Start) -> None:
    """Cancelling again and again changes nothing, and does not extend the grace period either."""
    run = start(STUBBORN)
    ready(service, run)

    def cancelled_again() -> bool:
        answer = ask(service.endpoint, CANCEL, name=only(run).name, wait=0)["data"]["cancelExperiment"]
        return answer["ended"] == [only(run).name]

    wait_until(cancelled_again, "the end of a script that is cancelled all the time")
    assert run.cancel() == run.cancel() == [only(run).name]
    assert events_of(service, only(run)) == ["PENDING", "RUNNING", "CANCELLED"]


@pytest.mark.parametrize(("text", "end"), [("print(1)", "SUCCEEDED"), ("1 / 0", "FAILED")])
def test_cancel_after_the_end_changes_nothing(service: ServiceProcess, start: Start, text: str, end: str) -> None:
    """What has ended stays as it ended, and cancelling it is not an error."""
    run = start(text)
    wait_for_run(run)
    before = facts_of(service, only(run)), events_of(service, only(run))
    assert cancel_experiment(only(run).name) == only(run).name
    assert cancel_run(run.name) == [only(run).name]
    assert (facts_of(service, only(run)), events_of(service, only(run))) == before
    assert list(run.status()) == [end]


def test_cancel_while_pending(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """An experiment whose turn has come, but whose process is not there yet, is cancelled without having run."""
    (spawner,) = psutil.Process(service.process.pid).children()
    with kept_stopped(spawner):
        run = start(f"open({str(tmp_path / 'ran')!r}, 'w')")
        wait_until(lambda: only(run).status() == "PENDING", "its turn")
        answer = ask(service.endpoint, CANCEL, name=only(run).name, wait=0)["data"]["cancelExperiment"]
        assert answer["pending"] == [only(run).name]
    assert run.cancel() == [only(run).name]
    assert events_of(service, only(run)) == ["PENDING", "CANCELLED"]
    assert not (tmp_path / "ran").exists()
    assert only(run).started_running_at is None


def test_cancel_of_a_run_leaves_the_others_alone(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """Cancelling a run covers all its experiments, ends those that have not ended, and touches no other run."""
    other = start(f"import os, time\nprint('ready')\nwhile not os.path.exists({str(tmp_path / 'release')!r}): pass\n")
    ready(service, other)
    run = start(f"import sys\nif sys.argv[2] == '1': sys.exit()\n{WAIT}", "--n '[1, 2, 3]'")
    wait_until(lambda: run.status().keys() == {"SUCCEEDED", "RUNNING", "QUEUED"}, "one of each")
    assert run.cancel() == list(run.experiments)
    assert {status: len(names) for status, names in run.status().items()} == {"SUCCEEDED": 1, "CANCELLED": 2}
    assert only(other).status() == "RUNNING"
    (tmp_path / "release").touch()
    assert list(wait_for_run(other)) == ["SUCCEEDED"]


def test_cancel_that_takes_too_long(service: ServiceProcess, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """If processes do not end, `cancel()` says so instead of waiting for ever; the cancel stands."""
    monkeypatch.setattr(experiment, "_CANCEL_MARGIN", -1.0)
    monkeypatch.setattr(experiment, "_CANCEL_WAIT", 0.01)
    run = start(f"import os\nprint(os.getppid())\n{STUBBORN}")
    ready(service, run)
    supervisor = psutil.Process(int(output_of(service, only(run)).split()[0]))
    with kept_stopped(supervisor):
        with pytest.raises(CancelTimeout, match=f"{only(run).name}.*The cancellation stands"):
            run.cancel()
        assert list(run.status()) == ["RUNNING"]
    assert list(wait_for_run(run)) == ["CANCELLED"]


def test_cancel_comes_back_when_the_end_is_there(service: ServiceProcess, start: Start) -> None:
    """The answer waits for the end if the client allows it, so that it need not ask again and again."""
    run = start(WAIT)
    ready(service, run)
    answer = ask(service.endpoint, CANCEL, name=only(run).name, wait=20)["data"]["cancelExperiment"]
    assert answer == {"ended": [only(run).name], "pending": []}


@pytest.mark.parametrize("seconds", [-0.1, 20.1, 1e300])
def test_wait_is_bounded(service: ServiceProcess, start: Start, seconds: float) -> None:
    """A request does not wait longer than the limit, and one that asks to wait longer cancels nothing."""
    run = start("print(1)")
    assert code_of(ask(service.endpoint, CANCEL, name=only(run).name, wait=seconds)) == "INVALID_ARGUMENT"
    assert list(wait_for_run(run)) == ["SUCCEEDED"]


@pytest.mark.parametrize("name", ["no-such", "", "-exp0", "no-such-exp0", "x-exp٣", "x-exp99999999999999999999"])
def test_cancel_of_nothing(session: object, name: str) -> None:
    """An unknown name is an error that says so."""
    with pytest.raises(RunNotFound):
        cancel_run(name)
    with pytest.raises(ExperimentNotFound):
        cancel_experiment(name)
