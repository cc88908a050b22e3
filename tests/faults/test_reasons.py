"""Every end has its true reason: what ended the script, as far as the kernel and the supervisor have seen it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid import Run
from grid.errors import GridError
from grid.service.executors import evidence
from grid.service.executors.protocol import Ending
from grid.service.executors.supervisor.signature import signature
from grid.session import session as sessions
from grid.shared.wire import Reason
from tests.support.disks import small_disk
from tests.support.executions import Execution, execution, until
from tests.support.experiments import events_of, facts_of, only, output_of, record_of, starter
from tests.support.processes import is_alive
from tests.support.services import ServiceProcess, service_process
from tests.support.spawner import KEY, attempt_of, ending_of, job_for, spawner
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

DEAF = "trap '' TERM; echo ready; sleep 1000 & while :; do wait; done\n"
POLITE = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that the tests of this module share."""
    with service_process(tmp_path_factory.mktemp("service"), "--grace", "0.5", "--cpus", "2") as running:
        yield running


@pytest.fixture
def start(session: object, tmp_path: Path) -> Start:
    """Start a run of a script whose text is given."""
    return starter(tmp_path)


async def _one(folder: Path, script: str, **more: object) -> Ending:
    async with execution(folder, grace_seconds=0.3) as running:
        job = running.job(script, **more)
        await running.executor.start(job)
        return await running.ending(job)


async def _is_ready(running: Execution, job: object) -> None:
    output = running.folder(job).output
    await until(lambda: output.exists() and "ready" in output.read_text(), "the script")


# Time-outs


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("exec sleep 1000", None, signal.SIGTERM), (POLITE, 0, None), (DEAF, None, signal.SIGKILL)],
    ids=["plain", "polite", "deaf"],
)
def test_timeout(tmp_path: Path, script: str, code: int | None, number: int | None) -> None:
    """A script whose time is up meets SIGTERM, then SIGKILL, and has timed out whatever its exit code says."""
    ending = asyncio.run(_one(tmp_path, script, timeout_seconds=1.0))
    assert (ending.reason, ending.exit_code, ending.signal) == (Reason.TIMEOUT, code, number)
    assert ending.started_at is not None
    assert ending.finished_at is not None
    assert ending.finished_at - ending.started_at >= 1_000_000


@pytest.mark.parametrize("seconds", [60.0, 1e9, 1e300])
def test_timeout_that_does_not_come(tmp_path: Path, seconds: float) -> None:
    """A script that ends in time ends as if it had no time-out, however long it was allowed."""
    ending = asyncio.run(_one(tmp_path, "sleep 0.1; exit 3", timeout_seconds=seconds))
    assert (ending.reason, ending.exit_code) == (Reason.EXIT_CODE, 3)


def test_timeout_while_the_end_is_near(tmp_path: Path) -> None:
    """What a script leaves behind is ended, but the script has not timed out: it ended by itself before."""
    ending = asyncio.run(_one(tmp_path, "(trap '' TERM; sleep 1000) & exit 3", timeout_seconds=0.2))
    assert (ending.reason, ending.exit_code) == (Reason.EXIT_CODE, 3)


def test_timeout_without_a_service(tmp_path: Path) -> None:
    """The supervisor enforces the time-out: it comes even if no service runs, and the next one records it."""
    with service_process(tmp_path, "--grace", "0.5", "--cpus", "1") as running:
        sessions.use(running.session())
        run = starter(tmp_path)("import time\nprint('ready')\ntime.sleep(1000)", timeout=2)
        wait_until(lambda: "ready" in output_of(running, only(run)), "the script")
        running.kill()
        wait_until((record_of(running, only(run)) / "exit").is_symlink, "the time-out")
        running.start()
        sessions.use(running.session())
        run = Run(run.name)
        assert list(wait_for_run(run)) == ["FAILED"]
        failure = only(run).failure
        assert (failure.reason, failure.signal) == (Reason.TIMEOUT, signal.SIGTERM)


def test_cancel_wins_over_a_timeout(service: ServiceProcess, start: Start) -> None:
    """An experiment cancelled before its time-out was recorded is cancelled; the time-out changes nothing."""
    run = start(DEAF, script="run.sh", timeout=1)
    wait_until(lambda: "ready" in output_of(service, only(run)), "the script")
    run.cancel()
    assert facts_of(service, only(run))["reason"] == "CANCELLED_BY_USER"
    assert events_of(service, only(run)) == ["PENDING", "RUNNING", "CANCELLED"]


@pytest.mark.parametrize("first", ["cancel", "stop", "timeout"])
def test_first_to_end_it_counts(tmp_path: Path, first: str) -> None:
    """What ends a script while it is being ended for another reason changes neither that nor the grace period."""
    ending = asyncio.run(_first_to_end_it(tmp_path, first))
    expected = {"cancel": Reason.CANCELLED_BY_USER, "stop": Reason.SERVICE_STOPPED, "timeout": Reason.TIMEOUT}
    assert (ending.reason, ending.signal) == (expected[first], signal.SIGKILL)


async def _first_to_end_it(folder: Path, first: str) -> Ending:
    script = "trap 'touch told' TERM; echo ready; while :; do sleep 0.01; done"
    timeout = 1.0 if first == "timeout" else 1.5
    async with execution(folder, grace_seconds=2) as running:
        job = running.job(script, timeout_seconds=timeout)
        await running.executor.start(job)
        await _is_ready(running, job)
        if first != "timeout":
            await getattr(running.executor, first)(job.attempt)
        await until((running.folder(job).work / "told").exists, "SIGTERM")
        for _ in range(3):
            await running.executor.stop(job.attempt)
            await running.executor.cancel(job.attempt)
        return await running.ending(job)


# The end of a service, and of a machine


def test_stopped(tmp_path: Path) -> None:
    """The end of a script that a shutdown ended says so; one that had ended by itself keeps its own end."""
    stopped, ended = asyncio.run(_stopped(tmp_path))
    assert (stopped.reason, stopped.signal) == (Reason.SERVICE_STOPPED, signal.SIGTERM)
    assert (ended.reason, ended.exit_code) == (Reason.EXIT_CODE, 3)


async def _stopped(folder: Path) -> tuple[Ending, Ending]:
    async with execution(folder) as running:
        waits = running.job("echo ready; exec sleep 1000", number=1)
        # The script is over, and what it has left behind keeps the attempt from its end.
        over = running.job("(trap '' TERM; echo ready; sleep 1000) & sleep 0.1; exit 3", number=2)
        for job in (waits, over):
            await running.executor.start(job)
            await _is_ready(running, job)
            await running.executor.stop(job.attempt) if job is waits else None
        started = running.folder(over).started
        await until(started.is_symlink, "its record")
        script = int(os.readlink(started).split(" ")[0])
        await until(lambda: not is_alive(script), "the script")
        await running.executor.stop(over.attempt)
        return await running.ending(waits), await running.ending(over)


@pytest.mark.parametrize("everybody", [False, True])
def test_machine_that_shuts_down(tmp_path: Path, everybody: bool) -> None:
    """A SIGTERM that Grid did not send is the machine's: the experiment is lost, whichever process gets it first."""
    ending = asyncio.run(_shut_down(tmp_path, everybody))
    assert (ending.reason, ending.signal) == (Reason.LOST, signal.SIGTERM)
    assert "from outside" in (ending.error or "")


async def _shut_down(folder: Path, everybody: bool) -> Ending:
    async with execution(folder) as running:
        job = running.job("echo ready; exec sleep 1000")
        await running.executor.start(job)
        await _is_ready(running, job)
        supervising = int(os.readlink(running.folder(job).claim).split(" ")[0])
        await until(running.folder(job).started.is_symlink, "its record")
        script = int(os.readlink(running.folder(job).started).split(" ")[0])
        if everybody:
            # Both are there before the supervisor can look at either.
            os.kill(supervising, signal.SIGSTOP)
            os.kill(script, signal.SIGTERM)
            await until(lambda: not is_alive(script), "the script")
        os.kill(supervising, signal.SIGTERM)
        os.kill(supervising, signal.SIGCONT)
        return await running.ending(job)


# The script itself, and what runs it


MEMORY = Path("/sys/fs/cgroup/memory")
HUNGRY = """import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
print("ready")
eaten = [bytearray(1 << 20) for _ in range(1000)]
"""


@pytest.fixture
def little_memory(tmp_path: Path) -> Iterator[Path]:
    """A control group of version 1 with little memory."""
    group = MEMORY / f"test-{tmp_path.name}-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
        (group / "memory.swappiness").write_text("0")
    except OSError:
        pytest.skip("there is no group of processes whose memory could be limited")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the end of everybody in it")
    group.rmdir()


@pytest.mark.parametrize("cgroups", [True, False])
def test_out_of_memory(tmp_path: Path, little_memory: Path, monkeypatch: pytest.MonkeyPatch, cgroups: bool) -> None:
    """A script that the kernel kills for lack of memory has that reason, and not just a signal."""
    if not cgroups:
        monkeypatch.setenv("GRID_NO_CGROUPS", "1")
    ending = asyncio.run(_one(tmp_path, HUNGRY, command=(sys.executable, "run", str(little_memory))))
    assert (ending.reason, ending.signal, ending.exit_code) == (Reason.OUT_OF_MEMORY, signal.SIGKILL, None)
    assert ending.last_lines == "ready"


def test_killed_by_itself(service: ServiceProcess, start: Start) -> None:
    """A SIGKILL that is not the kernel's is a signal; one that Grid sent counts as whatever made Grid send it."""
    run = start("import os; os.kill(os.getpid(), 9)")
    assert list(wait_for_run(run)) == ["FAILED"]
    assert only(run).failure.reason == Reason.SIGNAL


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.write_text("#!/bin/sh\n"), "Permission denied"),
        (lambda path: (path.write_text("nothing"), path.chmod(0o755)), "Exec format error"),
        (lambda path: (path.write_text("#!/no/such/shell\n"), path.chmod(0o755)), "No such file or directory"),
        (lambda path: path.mkdir(), "Permission denied"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["missing", "mode", "format", "first line", "folder", "loop"],
)
def test_interpreter_that_cannot_run(
    service: ServiceProcess, session: sessions.Session, start: Start, tmp_path: Path, make: Callable, said: str
) -> None:
    """An interpreter that cannot run the script is named, and the message says why; the script never ran."""
    path = tmp_path / "interpreter"
    make(path)
    session.interpreter = str(path)
    run = start("print(1)")
    assert list(wait_for_run(run)) == ["FAILED"]
    failure = only(run).failure
    assert (failure.reason, failure.exit_code, failure.signal) == (Reason.ENVIRONMENT, None, None)
    assert failure.error == f"cannot run the script with {path}: {said}"
    assert only(run).started_running_at is None


def test_interpreter_by_name(tmp_path: Path) -> None:
    """An interpreter that is not on the PATH is not looked for among the user's files."""
    script = "echo 'exit 3' > bash; chmod +x bash"
    ending = asyncio.run(_one(tmp_path, script, command=("bash", "run")))
    assert (ending.reason, ending.started_at) == (Reason.ENVIRONMENT, None)
    assert ending.error == "cannot run the script with bash: No such file or directory"


@pytest.mark.parametrize(("command", "said"), [(("/bin/sh", "x\0y"), "null"), (("/bin/sh", "x" * 200_000), "too long")])
def test_process_that_cannot_be_started(tmp_path: Path, command: tuple[str, ...], said: str) -> None:
    """If the process cannot be started for another reason than its interpreter, the message says that reason."""
    ending = asyncio.run(_one(tmp_path, "", command=command))
    assert ending.reason is Reason.START_FAILED
    assert said in (ending.error or "")


def test_working_copy_that_cannot_be_made(service: ServiceProcess, start: Start) -> None:
    """If the source code is gone the experiment cannot be started; the message reveals no folder of the service."""
    run = start("import time; time.sleep(1000)", cpus=2)
    wait_until(lambda: only(run).status() == "RUNNING", "the script")
    waiting = start("print(2)")
    for script in list((service.home / "snapshots").glob("*/run.py")):
        if script.read_text() == "print(2)":
            script.parent.rename(script.parent.with_name("aside"))
    run.cancel()
    assert list(wait_for_run(waiting)) == ["FAILED"]
    failure = only(waiting).failure
    assert failure.reason == Reason.START_FAILED
    assert failure.error == "No such file or directory: the run's source code"


def test_last_lines_and_traceback(service: ServiceProcess, start: Start) -> None:
    """A failure has the whole traceback and the line that names its exception; a success has neither."""
    run = start("import sys\nprint('before')\nif sys.argv[2] == '1': raise ValueError('no')", "--n '[1, 2]'")
    wait_for_run(run)
    first, second = run
    failure = first.failure
    assert failure.final_line == "ValueError: no"
    assert failure.last_lines.startswith("Traceback (most recent call last):")
    assert failure.last_lines.endswith("ValueError: no")
    assert second.failure is None


# A disk that does not take the record


def test_full_disk(tmp_path: Path) -> None:
    """A script that has filled the disk ends as it ends: there is still room for the record of its end."""
    with small_disk(tmp_path / "disk", 4) as disk:
        folder = disk / "experiment"
        folder.mkdir()
        job = job_for(
            folder, "cat /dev/zero > rest 2>/dev/null; while echo x > $$.$((n+=1)) 2>/dev/null; do :; done; exit 3"
        )
        with spawner() as running:
            running.send(job)
            assert running.hear_of_the_end() == ["started"]
        ending = ending_of(attempt_of(folder))
        assert (ending.reason, ending.exit_code) == (Reason.EXIT_CODE, 3)


def test_disk_that_recovers(tmp_path: Path) -> None:
    """A supervisor that cannot write to its folder waits until it can, and then records how its script ended."""
    attempt = attempt_of(tmp_path)
    script = f"echo ready; until test -e {tmp_path / 'release'}; do sleep 0.01; done; exit 3"
    with spawner() as running:
        running.send(job_for(tmp_path, script))
        assert running.hear() == ("started", 1)
        with immutable(attempt.record):
            (tmp_path / "release").touch()
            supervising = int(os.readlink(attempt.claim).split(" ")[0])
            script_pid = int(os.readlink(attempt.started).split(" ")[0])
            wait_until(lambda: not is_alive(script_pid), "the script")
            assert is_alive(supervising)
            assert evidence.ending_of(attempt, KEY) is None
        ending = ending_of(attempt)
        assert (ending.reason, ending.exit_code) == (Reason.EXIT_CODE, 3)
        running.hear_of_the_end()


class immutable:  # noqa: N801 - reads as what it does
    """A folder in which nothing can be made, not even by the superuser."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        if os.geteuid() != 0:
            self._folder.chmod(0o500)
        elif subprocess.run(["chattr", "+i", self._folder], capture_output=True, check=False).returncode != 0:
            pytest.skip("the file system has no attributes")

    def __exit__(self, *_: object) -> None:
        if os.geteuid() != 0:
            self._folder.chmod(0o700)
        else:
            subprocess.run(["chattr", "-i", self._folder], check=True)


def test_text_that_is_not_a_record(tmp_path: Path) -> None:
    """What a supervisor did not write is not an end, whatever it looks like."""
    attempt = attempt_of(tmp_path)
    attempt.record.mkdir(parents=True)
    for words in ("", "0", "0 - 1", "0 - 1 SUCCESS", "x - 1 EXIT_CODE", "0 - EXIT_CODE", "0  1 EXIT_CODE"):
        signed = f"{signature(KEY, words.encode()).decode()} {words}"
        for text in (words, signed):
            attempt.exit.write_text(text)
            assert evidence.ending_of(attempt, KEY) is None
            attempt.exit.unlink()
            if text:
                attempt.exit.symlink_to(text)
                assert evidence.ending_of(attempt, KEY) is None
                attempt.exit.unlink()


def test_timeout_must_be_a_time(session: object) -> None:
    """A time-out that is not a time is refused before anything starts."""
    for value in (0, -1, float("nan"), "soon"):
        with pytest.raises((GridError, TypeError, ValueError)):
            Run(entrypoint=__file__, timeout=value, localdir=True)
