"""No script can bend its record: whatever it does to files and processes, it ends as it ended, and once."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid import Run
from grid.service.executors import enforcement, evidence
from grid.service.executors.protocol import AttemptName, EarlierAttempt, Ending
from grid.service.executors.supervisor.attempt import report
from grid.service.executors.supervisor.signature import signature
from grid.session import session as sessions
from grid.shared.processes import process_start
from grid.shared.wire import Reason
from tests.support.executions import SECRET, Execution, execution, until
from tests.support.experiments import (
    database_of,
    events_of,
    facts_of,
    folder_of,
    only,
    output_of,
    record_of,
    restart,
    starter,
    work_of,
)
from tests.support.processes import is_alive
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

# A supervisor writes into its record until then, which would be in the way of removing that.
WHOLE = 'until test -L "$RECORD/started"; do sleep 0.01; done\n'
RECORD = f'RECORD="$GRID_HOME/records/$GRID_EXPERIMENT_ID-1"\n{WHOLE}'
MINE = 'MINE="$GRID_HOME/experiments/$GRID_EXPERIMENT_ID"\n'
FORGED = "AAAAAAAAAAAAAAAA 0 - 1700000000000000 EXIT_CODE"
STOPS_ITS_SUPERVISOR = "kill -STOP $PPID\n"
KEEPS_STOPPING_IT = "trap '' TERM; (while :; do kill -STOP $PPID; done) & while :; do kill -STOP $PPID; done\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that the tests of this module share."""
    with service_process(tmp_path_factory.mktemp("service"), "--grace", "0.5", "--cpus", "2") as running:
        yield running


@pytest.fixture
def start(session: object, tmp_path: Path) -> Start:
    """Start a run of a script whose text is given."""
    return starter(tmp_path)


def outcome(service: ServiceProcess, run: Run) -> tuple[str, str, int | None, int | None]:
    """How the only experiment of a run ended, in its first attempt."""
    wait_for_run(run)
    facts = facts_of(service, only(run))
    assert events_of(service, only(run)).count("PENDING") == 1
    return facts["status"], facts["reason"], facts["exitCode"], facts["signal"]


# Signals to the own process group


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "KILL"])
def test_script_that_kills_its_group(service: ServiceProcess, start: Start, name: str) -> None:
    """A signal to the own process group reaches the script and what it has started, not its supervisor."""
    text = (
        f"import os, signal, subprocess\nsignal.signal(signal.SIG{name}, signal.SIG_DFL) if '{name}' != 'KILL' else 0\n"
        f"subprocess.Popen(['sleep', '1000'])\nos.killpg(os.getpgrp(), signal.SIG{name})\n"
    )
    run = start(text, max_retries=2)
    assert outcome(service, run) == ("FAILED", "SIGNAL", None, getattr(signal, f"SIG{name}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trap 'kill 0' EXIT; sleep 1000 & exit 0\n", ("FAILED", "SIGNAL", None, signal.SIGTERM)),
        ("sleep 1000 & trap '' TERM; kill 0; exit 0\n", ("SUCCEEDED", "EXIT_CODE", 0, None)),
        ("sleep 1000 & trap '' TERM; kill -- -$$; exit 7\n", ("FAILED", "EXIT_CODE", 7, None)),
    ],
)  # fmt: skip
def test_shell_that_kills_its_group(
    service: ServiceProcess, start: Start, text: str, expected: tuple[object, ...]
) -> None:
    """`kill 0` and `kill -- -$$` work as in a terminal."""
    assert outcome(service, start(text, script="run.sh", max_retries=2)) == expected


# Records that are removed or forged


@pytest.mark.parametrize(
    "deed",
    [
        'rm -r "$RECORD"',
        'rm -r "$GRID_HOME/records"',
        'rm "$RECORD/claim" "$RECORD/started"',
        f'ln -s "{FORGED}" "$RECORD/exit"',
        f'echo "{FORGED}" > "$RECORD/exit"',
        'mkdir -p "$RECORD/exit/exit"',
        f'rm -r "$RECORD"; echo "{FORGED}" > "$RECORD"; rm "$RECORD"',
        'rm -rf "$MINE"',
        'rm -rf "$MINE"; ln -s / "$MINE"',
        'rm -r ../../metrics; rm ../../output; rm -r "$TMPDIR"',
    ],
)
def test_script_that_changes_its_files(service: ServiceProcess, start: Start, deed: str) -> None:
    """Whatever a script removes or forges, it ends as it ended, and its files are cleared up."""
    run = start(f"set -e\n{RECORD}{MINE}{deed}\nexit 9\n", script="run.sh", max_retries=2)
    try:
        assert outcome(service, run) == ("FAILED", "EXIT_CODE", 9, None), output_of(service, only(run))
        wait_until(lambda: not os.path.lexists(record_of(service, only(run))), "the removal of the record")
    finally:
        (service.home / "records").mkdir(mode=0o700, exist_ok=True)
        if folder_of(service, only(run)).parent.is_symlink():
            folder_of(service, only(run)).parent.unlink()


REMOVED = [
    'rm -r "$RECORD"',
    'rm -r "$GRID_HOME/records"',
    'rm -r "$RECORD"; echo x > "$RECORD"',
    'rm -r "$RECORD"; ln -s "$RECORD" "$RECORD"',
    'chmod 0 "$RECORD"',
    'ln -sfn nonsense "$RECORD/claim"',
]


@pytest.mark.parametrize("order", ["cancel", "stop"])
@pytest.mark.parametrize("deed", REMOVED)
def test_order_without_a_record(tmp_path: Path, deed: str, order: str) -> None:
    """An order reaches a supervisor whose record was removed or replaced: it looks for that now and then."""

    async def play() -> Ending:
        async with execution(tmp_path, grace_seconds=0.3) as running:
            job = running.job("sleep 1000")
            record = running.folder(job).record
            deed_here = deed.replace("$GRID_HOME", str(running.workspace.home))
            job = running.job(f'RECORD="{record}"\n{WHOLE}{deed_here}\necho ready\nexec sleep 1000')
            await running.executor.start(job)
            output = running.folder(job).output
            await until(lambda: running.told.started and output.read_text() == "ready\n", "the script")
            await getattr(running.executor, order)(job.attempt)
            return await running.ending(job)

    ending = asyncio.run(play())
    assert (ending.reason, ending.signal) == (REASONS[order], signal.SIGTERM)


def test_record_that_stays_replaced(service: ServiceProcess, start: Start) -> None:
    """A file in the place of a record keeps neither the end from being recorded, nor the record from being removed."""
    run = start(f'{RECORD}rm -r "$RECORD"; echo x > "$RECORD"; exit 9\n', script="run.sh")
    assert outcome(service, run) == ("FAILED", "EXIT_CODE", 9, None)
    wait_until(lambda: not os.path.lexists(record_of(service, only(run))), "the removal of the record")


@pytest.mark.parametrize("words", ["1 99999999999999999999999 1", f"1 1 1{'0' * 310}", "-1 -1 -1 -1", "a b c"])
def test_planted_start(service: ServiceProcess, start: Start, words: str) -> None:
    """Numbers that cannot be true harm neither the attempt nor any other."""
    run = start(f'{RECORD}ln -sfn "{words}" "$RECORD/started"; exit 0\n', script="run.sh", timeout=600)
    assert outcome(service, run) == ("SUCCEEDED", "EXIT_CODE", 0, None)
    assert list(wait_for_run(start("print(1)"))) == ["SUCCEEDED"]


@pytest.mark.parametrize("trace", ["folder", "process"])
def test_no_claim_and_a_trace(tmp_path: Path, trace: str) -> None:
    """An attempt that has no claim, but a folder or a process, has run: it is not started (again), but lost."""

    async def play() -> None:
        async with execution(tmp_path, margin_seconds=0.1) as running:
            job = running.job(f"touch {tmp_path / 'ran'}")
            left = 0
            if trace == "folder":
                running.folder(job).path.mkdir(parents=True)
            else:
                left = _leave(job.attempt.experiment_id)
            try:
                await running.executor.adopt(job, was_running=False, handed_over_at=None)
                assert (await running.ending(job)).reason is Reason.LOST
                assert not left or not is_alive(left)
            finally:
                if left and is_alive(left):
                    os.kill(left, signal.SIGKILL)

    asyncio.run(play())
    assert not (tmp_path / "ran").exists()


def _leave(experiment_id: str) -> int:
    """Start a process with the mark of an experiment that is not a child of this one, whose family is spared."""
    marked = {**os.environ, "GRID_EXPERIMENT_ID": experiment_id}
    command = ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]
    return int(subprocess.run(command, env=marked, stdout=subprocess.PIPE, check=True).stdout)


def test_claim_that_comes_back(tmp_path: Path) -> None:
    """A service that begins while there is no claim waits for the supervisor to make it again."""

    async def play() -> None:
        release = tmp_path / "release"
        async with execution(tmp_path) as running:
            job = running.job(f"until test -e {release}; do sleep 0.01; done; exit 3")
            await running.executor.start(job)
            await until(lambda: running.told.started, "the script")
        shutil.rmtree(running.folder(job).record)
        async with execution(tmp_path) as running:
            await running.executor.adopt(job, was_running=True, handed_over_at=None)
            await until(running.folder(job).claim.is_symlink, "the claim")
            release.touch()
            assert (await running.ending(job)).exit_code == 3

    asyncio.run(play())


@pytest.mark.parametrize("restarted", [False, True])
def test_planted_end_and_dead_supervisor(tmp_path: Path, restarted: bool) -> None:
    """What cannot be decided is lost: an end that a script has planted is none, before and after a restart."""
    with service_process(tmp_path, "--grace", "0.5", "--cpus", "1") as service:
        sessions.use(service.session())
        release = tmp_path / "release"
        text = f'until test -e {release}; do sleep 0.01; done\n{RECORD}ln -s "{FORGED}" "$RECORD/exit"\nkill -9 $PPID\n'
        run = starter(tmp_path)(f"echo ready\n{text}sleep 1000\n", script="run.sh")
        wait_until(lambda: "ready" in output_of(service, only(run)), "the script")
        if restarted:
            service.kill()
            release.touch()
            supervisor = int(os.readlink(record_of(service, only(run)) / "claim").split(" ")[0])
            wait_until(lambda: not is_alive(supervisor), "the death of the supervisor")
            run = restart(service, run)
        release.touch()
        assert outcome(service, run) == ("FAILED", "LOST", None, None)


def test_claim_that_is_gone(service: ServiceProcess, start: Start) -> None:
    """An attempt that ran is lost where nothing is left of its record and its supervisor; it is not "never started"."""
    run = start(f'{RECORD}rm -r "$RECORD"\nkill -9 $PPID\nsleep 1000\n', script="run.sh")
    assert outcome(service, run) == ("FAILED", "LOST", None, None)


def test_claim_that_is_gone_when_the_spawner_dies(tmp_path: Path) -> None:
    """A script that has removed its claim is not started again because there is another spawner."""
    ledger, release = tmp_path / "ledger", tmp_path / "release"

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(f"echo ran >> {ledger}; until test -e {release}; do sleep 0.01; done; exit 3")
            await running.executor.start(job)
            await until(lambda: running.told.started, "the script")
            running.folder(job).claim.unlink()
            os.kill(running.executor._spawners[-1]._transport.get_pid(), signal.SIGKILL)
            await until(lambda: running.told.ended, "the verdict")
            assert (await running.ending(job)).reason is Reason.LOST

    asyncio.run(play())
    assert ledger.read_text() == "ran\n"


def test_end_is_signed_for_one_attempt(tmp_path: Path) -> None:
    """The record of one attempt's end is none in another's, nor with another secret."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            first, second = running.job("exit 0", number=1), running.job("exit 0", number=2)
            await running.executor.start(first)
            await running.ending(first)
            folder, key = running.folder(first), evidence.key_of(SECRET, first.attempt)
            words = os.readlink(folder.exit)
            assert evidence.ending_of(folder, key).exit_code == 0
            for wrong in (evidence.key_of(SECRET, second.attempt), evidence.key_of(b"another", first.attempt)):
                assert evidence.ending_of(folder, wrong) is None
            assert len(words) <= 59

    asyncio.run(play())


def test_signature_is_the_hmac_of_the_standard_library() -> None:
    """Our few lines give what `hmac` gives, which the spawner cannot afford to import."""
    for length in (0, 1, 32, 64):
        key, text = bytes(range(length)), b"0 - 1 EXIT_CODE" * length
        expected = base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")[:12])
        assert signature(key, text) == expected


def test_longest_record_fits_into_an_inode() -> None:
    """Without words no record is longer than the 59 bytes that ext4 keeps in an inode."""
    for reason in Reason:
        for code, number in (("255", "-"), ("-", str(signal.SIGRTMAX.value))):
            record = f"{code} {number} {9 * 10**15} {reason}".encode()
            assert len(signature(b"key", record) + b" " + record) <= 59


def test_key_is_not_in_the_script(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """The key that signs an end is nowhere a script looks: not in its environment, not in its files."""
    run = start("import os, sys\nprint(sorted(os.environ.items()), sys.argv)\nopen('made', 'w').close()")
    wait_for_run(run)
    with database_of(service) as connection:
        (secret,) = connection.execute("SELECT value FROM secrets WHERE name = 'records'").fetchone()
    key = evidence.key_of(secret, AttemptName(only(run).id, 1))
    seen = [output_of(service, only(run)).encode()]
    seen += [path.read_bytes() for path in folder_of(service, only(run)).rglob("*") if path.is_file()]
    for content in seen:
        assert key not in content
        assert key.hex().encode() not in content
        assert secret.hex().encode() not in content


# Supervisors that a script has stopped


async def _ordered(folder: Path, script: str, order: str) -> Ending:
    timeout = 0.5 if order == "timeout" else None
    async with execution(folder, grace_seconds=0.3, margin_seconds=2) as running:
        job = running.job(script, timeout_seconds=timeout)
        await running.executor.start(job)
        # It may be stopped before it has reported the start.
        await until(running.folder(job).output.exists, "the script")
        supervisor = await _stopped(running, job)
        try:
            if order != "timeout":
                await getattr(running.executor, order)(job.attempt)
            ending = await running.ending(job)
        finally:
            enforcement.kill(supervisor)
        pids = [int(word) for word in running.folder(job).output.read_text().split() if word.isdigit()]
        assert not [pid for pid in pids if is_alive(pid)]
        return ending


async def _stopped(running: Execution, job: object) -> int:
    """Wait until the supervisor of an attempt is stopped; return its pid."""
    claim = running.folder(job).claim
    pid = int(os.readlink(claim).split(" ")[0])
    await until(lambda: _state(pid) == "T", "a supervisor that is stopped")
    return pid


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


REASONS = {"cancel": Reason.CANCELLED_BY_USER, "stop": Reason.SERVICE_STOPPED, "timeout": Reason.TIMEOUT}


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc shows that a process is stopped")
@pytest.mark.parametrize("order", REASONS)
@pytest.mark.parametrize("script", [STOPS_ITS_SUPERVISOR + "exec sleep 1000", KEEPS_STOPPING_IT])
def test_order_to_a_supervisor_that_is_stopped(tmp_path: Path, order: str, script: str) -> None:
    """A script that stops its supervisor, once or without end, is ended all the same, for the reason asked for."""
    ending = asyncio.run(_ordered(tmp_path, f"echo $$\n{script}", order))
    assert ending.reason is REASONS[order]


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc shows that a process is stopped")
@pytest.mark.parametrize("order", ["stop", "timeout"])
@pytest.mark.parametrize("code", [0, 7])
def test_script_that_had_ended_by_itself(tmp_path: Path, order: str, code: int) -> None:
    """A script that ended before the order keeps its own end, even if its supervisor never saw it."""
    keeps_stopping = f"{sys.executable} -c 'import os, sys\nwhile True: os.kill(int(sys.argv[1]), 19)' $PPID & "
    is_stopped = "grep -q '^State:.*T' /proc/$PPID/status"
    ends = f"{WHOLE}{keeps_stopping} until {is_stopped}; do sleep 0.01; done; exit {code}"

    async def play() -> Ending:
        async with execution(tmp_path, grace_seconds=0.3, margin_seconds=1) as running:
            script = f'RECORD="{running.folder(running.job(ends)).record}"\n{ends}'
            job = running.job(script, timeout_seconds=3 if order == "timeout" else None)
            await running.executor.start(job)
            await until(lambda: running.told.started, "the script")
            pid = int(os.readlink(running.folder(job).started).split(" ")[0])
            supervisor = int(os.readlink(running.folder(job).claim).split(" ")[0])
            try:
                await until(lambda: _state(pid) == "Z", "a script that nobody waits for")
                if order == "stop":
                    await running.executor.stop(job.attempt)
                return await running.ending(job)
            finally:
                enforcement.kill(supervisor)

    ending = asyncio.run(play())
    assert (ending.reason, ending.exit_code) == (Reason.EXIT_CODE, code)


# Homes


def test_home_with_strange_characters(tmp_path: Path) -> None:
    """Reports name attempts, not paths: a newline, a tab or a quote in the home's path does no harm."""
    folder = tmp_path / 'a\n\tb"c'
    folder.mkdir()
    with service_process(folder, "--cpus", "1") as service:
        sessions.use(service.session())
        run = starter(tmp_path)("print('there')")
        assert list(wait_for_run(run)) == ["SUCCEEDED"]
        assert events_of(service, only(run)) == ["PENDING", "RUNNING", "SUCCEEDED"]


async def _home(folder: Path, change: Callable[[Path], None]) -> list[int]:
    """Run a script, change the home; return the pids of supervisor and script."""
    async with execution(folder, grace_seconds=0.3) as running:
        job = running.job("echo ready; exec sleep 1000")
        await running.executor.start(job)
        await until(lambda: running.told.started, "the script")
        files = running.folder(job)
        await until(files.started.is_symlink, "its record")
        pids = [int(os.readlink(link).split(" ")[0]) for link in (files.claim, files.started)]
        change(running.workspace.home)
        return pids


def test_home_that_is_removed(tmp_path: Path) -> None:
    """Without its home an experiment is of no use to anybody: it is ended, and its temporary folder is removed."""
    temporary: list[Path] = []

    def remove(home: Path) -> None:
        (link,) = home.glob("records/*/tmp")
        temporary.append(Path(os.readlink(link)))
        assert temporary[0].is_dir()
        shutil.rmtree(home)

    pids = asyncio.run(_home(tmp_path, remove))
    wait_until(lambda: not any(map(is_alive, pids)), "the end of both")
    assert not temporary[0].exists()


def test_home_that_is_moved(tmp_path: Path) -> None:
    """A home that has another name ends nothing, and the end is recorded where it is now."""
    moved = tmp_path / "moved"
    supervisor, script = asyncio.run(_home(tmp_path, lambda home: home.rename(moved)))
    start = process_start(supervisor)
    # As often as it looks at its home: it was woken, and has gone on waiting.
    before = _switches(supervisor)
    wait_until(lambda: _switches(supervisor) > before, "a look at the home")
    assert is_alive(script)
    os.kill(script, signal.SIGKILL)
    wait_until(lambda: process_start(supervisor) != start, "the end of the supervisor")
    (exit_,) = moved.glob("records/*-1")
    assert " - 9 " in os.readlink(exit_ / "exit")


def _switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


# Reports


def test_report_is_short() -> None:
    """A report is written in one piece, however many supervisors write at once: POSIX promises that for 512 bytes."""
    read, write = os.pipe()
    report(write, "started", {"experiment": "x" * 64, "attempt": 2**31}, at=2**63)
    os.close(write)
    with open(read, "rb") as reports:
        (line,) = reports.read().splitlines(keepends=True)
    assert len(line) <= 512
    assert json.loads(line) == {"event": "started", "experiment": "x" * 64, "attempt": 2**31, "at": 2**63}


def test_report_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What does not parse as a report is a fault in the log, and nothing else is lost."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            reports = [
                b"nonsense",
                b"[]",
                b"1",
                b'{"event": "started"}',
                b"\xff\xfe",
                b'{"event": "x", "experiment": "e"}',
            ]
            reports.append(json.dumps({"event": "started", "experiment": "e", "attempt": 1}).encode())
            for report in reports:
                running.executor._on_report("", report)
            assert len([line for line in caplog.messages if "cannot be read" in line]) == len(reports)
            # Of an attempt that is not known, as after it has ended: no fault.
            running.executor._on_report("", b'{"event": "gone", "experiment": "e", "attempt": 1}')
            assert len(caplog.messages) == len(reports)
            job = running.job("exit 3")
            await running.executor.start(job)
            assert (await running.ending(job)).exit_code == 3

    asyncio.run(play())


# The layout


def test_room_and_temporary_folder(service: ServiceProcess, start: Start) -> None:
    """Around the working copy is the script's own room; its temporary folder is its own, and goes with the record."""
    text = (
        "import os, tempfile\n"
        "print(os.path.realpath('..'), sorted(os.listdir('..')), os.environ['TMPDIR'] == tempfile.gettempdir())\n"
        "print(os.environ['TMPDIR'], oct(os.stat(os.environ['TMPDIR']).st_mode & 0o777))\n"
        "os.makedirs('../data'); open('../data/x', 'w').close()\n"
        "os.makedirs(os.environ['TMPDIR'] + '/a/b'); os.chmod(os.environ['TMPDIR'] + '/a', 0)\n"
    )
    run = start(text)
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    room, temporary = output_of(service, only(run)).splitlines()
    assert room == f"{work_of(service, only(run)).parent} ['work'] True"
    folder, mode = temporary.split(" ")
    assert mode == "0o700"
    assert Path(folder).name.startswith("grid-")
    wait_until(lambda: not Path(folder).exists(), "the removal of the temporary folder")
    wait_until(lambda: not record_of(service, only(run)).exists(), "the removal of the record")
    assert {path.name for path in folder_of(service, only(run)).iterdir()} == {"metrics", "output", "room"}
    (service.home / "results" / f"{only(run).id}-1" / "made").mkdir(parents=True)
    run.delete()
    wait_until(lambda: not folder_of(service, only(run)).parent.exists(), "the removal of the folder")
    results = service.home / "results" / f"{only(run).id}-1"
    wait_until(lambda: not results.exists(), "the removal of what the service made of it")


def test_temporary_folder_that_was_asked_for(tmp_path: Path) -> None:
    """A run whose own environment names a temporary folder gets that one, and it stays."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job("echo $TMPDIR; echo > $TMPDIR/made")
            job = dataclasses.replace(job, environment={**job.environment, "TMPDIR": str(tmp_path)})
            await running.executor.start(job)
            assert (await running.ending(job)).exit_code == 0
            assert running.folder(job).output.read_text() == f"{tmp_path}\n"
            running.executor.forget([job.attempt])
            await until(lambda: not running.folder(job).record.exists(), "the removal of the record")

    asyncio.run(play())
    assert (tmp_path / "made").exists()


def test_forged_temporary_folder(tmp_path: Path) -> None:
    """What a forged record names as a temporary folder is removed only if it can be that attempt's."""
    precious = tmp_path / "precious"
    precious.mkdir()

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job("exit 0")
            await running.executor.start(job)
            await running.ending(job)
            folder, experiment = running.folder(job), job.attempt.experiment_id
            (mine,) = evidence.temporary_files(folder, experiment)
            for wrong in (precious, tmp_path / "none", Path("relative"), tmp_path / "grid-00000000-00000000"):
                folder.tmp.unlink()
                folder.tmp.symlink_to(wrong)
                assert evidence.temporary_files(folder, experiment) == []
            disguised = tmp_path / mine.name
            disguised.symlink_to(precious)
            folder.tmp.unlink()
            folder.tmp.symlink_to(disguised)
            assert evidence.temporary_files(folder, experiment) == []
            folder.tmp.unlink()
            folder.tmp.symlink_to(mine)
            running.executor.forget([job.attempt])
            await until(lambda: not mine.exists() and not folder.record.exists(), "the removal")

    asyncio.run(play())


def test_temporary_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the service's own temporary folder was removed meanwhile, attempts have theirs below `/tmp`."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job("echo $TMPDIR")
            environment = {name: value for name, value in job.environment.items() if name != "TMPDIR"}
            await running.executor.start(dataclasses.replace(job, environment=environment))
            assert (await running.ending(job)).exit_code == 0
            assert running.folder(job).output.read_text().startswith("/tmp/grid-")
            running.executor.forget([job.attempt])
            await until(lambda: not running.folder(job).record.exists(), "the removal of the record")

    asyncio.run(play())


def test_what_is_left_over(tmp_path: Path) -> None:
    """A service empties the trash; it removes records of experiments that it knows, and leaves those of others."""
    with service_process(tmp_path, "--cpus", "1") as service:
        sessions.use(service.session())
        run = starter(tmp_path)("print(1)")
        wait_for_run(run)
        service.stop()
        others, trash = service.home / "records" / f"{'0' * 32}-1", service.home / "trash" / "left"
        for folder in (record_of(service, only(run)), others, trash):
            folder.mkdir(parents=True, exist_ok=True)
        restart(service, run)
        wait_until(lambda: not record_of(service, only(run)).exists() and not trash.exists(), "what is removed")
        assert others.exists()


def test_records_of_a_service_that_was_killed(tmp_path: Path) -> None:
    """Records whose ends are in the database are removed by the next service; those of what runs are not."""
    with service_process(tmp_path, "--grace", "0.5", "--cpus", "2") as service:
        sessions.use(service.session())
        start, release = starter(tmp_path), tmp_path / "release"
        ended = start("print(1)")
        wait_for_run(ended)
        held = start(f"echo ready; until test -e {release}; do sleep 0.01; done\n", script="run.sh")
        wait_until(lambda: "ready" in output_of(service, only(held)), "the script")
        service.kill()
        record = record_of(service, only(ended))
        record.mkdir(exist_ok=True)
        (record / "exit").unlink(missing_ok=True)
        (record / "exit").symlink_to("whatever")
        held = restart(service, held)
        wait_until(lambda: not record.exists(), "the removal of the record")
        assert record_of(service, only(held)).exists()
        release.touch()
        assert list(wait_for_run(held)) == ["SUCCEEDED"]


# Attempts from before


@pytest.mark.parametrize("ended", [False, True])
def test_attempt_of_the_old_layout(tmp_path: Path, ended: bool) -> None:
    """What was begun with everything in one folder, unsigned, is read as before."""

    async def play() -> Ending:
        release = tmp_path / "release"
        async with execution(tmp_path) as running:
            job = running.job(f"echo ready; until test -e {release}; do sleep 0.01; done; exit 3", layout=1)
            await running.executor.start(job)
            await until(lambda: running.told.started, "the script")
            folder = running.workspace.attempt(*job.attempt, 1)
            assert {"claim", "started", "output", "work"} <= {path.name for path in folder.path.iterdir()}
        if ended:
            release.touch()
            await until(folder.exit.is_symlink, "the end")
            assert os.readlink(folder.exit).startswith("3 - ")
        async with execution(tmp_path) as running:
            await running.executor.adopt(job, was_running=True, handed_over_at=None)
            release.touch()
            ending = await running.ending(job)
            following = running.job("cat kept", attempt=2, resume=EarlierAttempt(1, 1))
            (folder.work / "kept").write_text("kept")
            await running.executor.start(following)
            assert (await running.ending(following)).exit_code == 0
            assert running.folder(following).output.read_text() == "kept"
            return ending

    assert asyncio.run(play()).exit_code == 3


def test_room_is_carried_over(tmp_path: Path) -> None:
    """With `auto_resume` what a script wrote beside its working copy is there again as well."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            first = running.job("mkdir ../data; echo beside > ../data/x; echo inside > y; exit 1")
            await running.executor.start(first)
            await running.ending(first)
            second = running.job("cat ../data/x y", attempt=2, resume=EarlierAttempt(1, 2))
            await running.executor.start(second)
            assert (await running.ending(second)).exit_code == 0
            assert running.folder(second).output.read_text() == "beside\ninside\n"
            third = running.job("rm -r ../../room; exit 0", attempt=3)
            await running.executor.start(third)
            await running.ending(third)
            fourth = running.job("ls ..", attempt=4, resume=EarlierAttempt(3, 2))
            await running.executor.start(fourth)
            assert (await running.ending(fourth)).exit_code == 0
            assert running.folder(fourth).output.read_text() == "work\n"

    asyncio.run(play())
