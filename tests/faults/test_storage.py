"""A disk is full or fails, a database is locked, damaged or of another version: the message, and that nothing is lost.

The scripts write their ledger on another disk, which is the judge.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

import grid
from grid import Run
from grid.service.store.upgrade import HEAD
from grid.session import session as sessions
from tests.faults.judge import judge
from tests.faults.ledger import HELD, VARIED, entries, have_ended, statuses
from tests.faults.sizes import figure, seed, size
from tests.faults.victims import Refused, Victim
from tests.support.disks import read_only, small_disk
from tests.support.environments import clean_environment
from tests.support.experiments import folder_of, only, output_of, record_of, starter
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

NewVictim = Callable[..., Victim]


def wait_for_end(service: Victim) -> None:
    """Wait until every experiment has ended, whichever process dies meanwhile."""
    wait_until(lambda: not service.revive_if_dead() and have_ended(service.home), f"the end after {service.fired()}")


@contextlib.contextmanager
def killed_after(service: Victim, faults: int) -> Iterator[None]:
    """Kill the service once that many writes have failed, which would go on failing."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            if len(service.fired()) >= faults and service.is_alive():
                os.kill(service.pid, signal.SIGKILL)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


@pytest.mark.timeout(size(180, 3600))
@pytest.mark.parametrize("point", ["database.commit.before", "database.committed"])
def test_every_write_fails_from_one_on(new_victim: NewVictim, point: str) -> None:
    """If nothing can be written any longer, everything recorded stays true, and the next service catches up."""
    every = range(1, 40)
    numbers = every if size(0, 1) else sorted(random.Random(f"{seed()} {point}").sample(every[:15], 2))
    for number in numbers:
        service = new_victim()
        service.start(f"{point}:{number}+:raise")
        with killed_after(service, 3):
            service.start_run(VARIED, f"{service.ledger} {seed()} 0.1 --index '[0, 1, 2, 3]'")
            wait_for_end(service)
        service.stop()
        assert judge(service.home, service.ledger) == [], (point, number, service.log.read_text()[-4000:])
        assert len(statuses(service.home)) == 4
    figure(f"{point}: every write failed from {list(numbers)} on")


def test_what_is_written_takes_effect_though_its_report_was_lost(new_victim: NewVictim) -> None:
    """A change whose commit could not report its success takes effect, though no client asks for it again."""
    service = new_victim()
    service.start()
    service.ask('mutation { pauseCluster(name: "local") { paused } }')
    service.start_run(HELD, f"{service.ledger} {service.folder} --how exit-0")
    service.stop()
    service.start("database.committed:100:raise")
    wait_until(lambda: service.reached()["scheduler.turn.after"], "the first look at the queue")
    service.pretend("database.committed", 99 - service.reached()["database.committed"])
    with pytest.raises(Refused) as caught:
        service.ask('mutation { resumeCluster(name: "local") { paused } }')
    assert caught.value.code == "UNAVAILABLE"
    wait_for_end(service)
    service.stop()
    assert judge(service.home, service.ledger) == []


def test_database_locked_while_serving(new_victim: NewVictim, tmp_path: Path) -> None:
    """While another program locks the database requests fail with a message without a path; afterwards all goes on."""
    database = tmp_path / "victim-0" / ".grid" / "grid.sqlite3"
    service = new_victim("--database", f"sqlite:///{database}?timeout=0.5")
    assert database.exists()
    service.start()
    release = service.folder / "release"
    first = service.start_run(HELD, f"{service.ledger} {release} --how \"['exit-3', 'exit-0', 'signal-9']\"")
    wait_until(lambda: len(entries(service.ledger)) == 2, "two of three scripts")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        release.touch()
        with pytest.raises(Refused, match="locked by another program") as caught:
            service.ask("mutation($name: String!) { cancelRun(name: $name) { ended } }", name=first["name"])
        assert caught.value.code == "UNAVAILABLE"
        assert str(service.home) not in str(caught.value)
        # What only reads is not affected.
        assert service.ask("query($name: String!) { run(name: $name) { name } }", name=first["name"])
        wait_until(lambda: sum(entry.event in ("exit", "signal") for entry in entries(service.ledger)) == 2, "two ends")
        assert set(statuses(service.home)) <= {"QUEUED", "PENDING", "RUNNING"}
        other.execute("ROLLBACK")
    wait_for_end(service)
    service.stop()
    assert judge(service.home, service.ledger) == []
    assert statuses(service.home) == ["FAILED", "SUCCEEDED", "FAILED"]
    log = service.log.read_text()
    assert f"the database {database} cannot be written: it is locked by another program" in log
    assert f"the database {database} can be written again" in log


def fill(folder: Path) -> Path:
    """Leave no space on a folder's disk; return the file that fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))
    return ballast


def refused_write(service: Victim) -> Refused | None:
    """Let a service write something; return its refusal, if it refuses."""
    try:
        for change in ("pause", "resume"):
            service.ask(f'mutation {{ {change}Cluster(name: "local") {{ name }} }}')
    except Refused as refusal:
        return refusal
    return None


@pytest.mark.parametrize("is_killed", [False, True])
def test_disk_is_full_while_serving(new_victim: NewVictim, is_killed: bool) -> None:
    """On a full disk requests fail with a message without a path; ends are recorded once there is space."""
    service = new_victim()
    release = service.folder / "release"
    with small_disk(service.home, 6):
        service.start()
        service.start_run(HELD, f"{service.ledger} {release} --how \"['exit-3', 'signal-9']\"")
        wait_until(lambda: len(entries(service.ledger)) == 2, "two scripts")
        ballast = fill(service.home)
        refusal = wait_until(lambda: refused_write(service), "a write that finds no space")
        assert refusal.code == "UNAVAILABLE"
        assert "its disk is full" in str(refusal)
        assert str(service.home) not in str(refusal)
        release.touch()
        wait_until(lambda: sum(entry.event in ("exit", "signal") for entry in entries(service.ledger)) == 2, "two ends")
        if is_killed:
            service.kill()
        ballast.unlink()
        wait_for_end(service)
        service.start_run(HELD, f"{service.ledger} {release} --how exit-0", key="the-second-run-of-it")
        wait_for_end(service)
        service.stop()
        assert judge(service.home, service.ledger) == [], service.log.read_text()[-4_000:]
        assert statuses(service.home) == ["FAILED", "FAILED", "SUCCEEDED"]
    assert f"the database {service.home / 'grid.sqlite3'} cannot be written: it has no space" in service.log.read_text()


# Refused at the start


def serve(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Start a service that must refuse to start; return how it ended and what it said."""
    command = [sys.executable, "-m", "grid.service", "serve", "--home", str(home), *options]
    environment = clean_environment(home.parent)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def refuses(outcome: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Require that a service has ended with this code and a short message that contains these words."""
    assert outcome.returncode == code, outcome.stderr
    error = outcome.stderr[outcome.stderr.index("error: ") :]
    assert all(each in error for each in words), error
    assert "Traceback" not in outcome.stderr


def test_database_that_a_service_cannot_take(template: Path, tmp_path: Path) -> None:
    """Whatever is wrong with the database, the service ends with a message that names it, and leaves it as it is."""
    home = tmp_path / "home" / ".grid"
    shutil.copytree(template / ".grid", home, symlinks=True)
    file = home / "grid.sqlite3"
    whole = file.read_bytes()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refuses(serve(home), 75, str(file), "is locked by another program")
        other.execute("ROLLBACK")
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    refuses(serve(home), 78, str(file), "a newer grid-runs has written it")
    file.write_bytes(b"my notes" * 1_000)
    refuses(serve(home), 78, str(file), "is damaged, or is not a database")
    assert file.read_bytes() == b"my notes" * 1_000
    file.write_bytes(whole)
    elsewhere = home / "no" / "grid.sqlite3"
    refuses(serve(home, "--database", f"sqlite:///{elsewhere}"), 78, str(elsewhere), "does not exist")


def test_disk_that_a_service_cannot_use(tmp_path: Path) -> None:
    """A home that is read-only, or has no space, is refused with its name; the latter may be tried again."""
    home = tmp_path / "home" / ".grid"
    home.mkdir(parents=True)
    with read_only(home) as protect:
        protect()
        refuses(serve(home), 78, str(home), "ead-only" if os.geteuid() == 0 else "Permission denied")
    with small_disk(home, 1):
        fill(home)
        refuses(serve(home), 75, str(home), "space")


# What scripts see of it


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux says what a process has open")
def test_nothing_of_the_service_is_inherited(service: ServiceProcess, session: object, tmp_path: Path) -> None:
    """No process of an experiment holds a file of the service: no database, no lock, no socket."""
    run = starter(tmp_path)("import time; print('ready', flush=True); time.sleep(1000)")
    wait_until(lambda: "ready" in output_of(service, only(run)), "the script")
    main = psutil.Process(service.process.pid)
    held = {process.pid: opened_by(process.pid) for process in (main, *main.children(recursive=True))}
    own = held.pop(main.pid)
    assert any(path.endswith("grid.sqlite3") for path in own)
    assert any(path.startswith("socket:") for path in own)
    supervisor = int(os.readlink(record_of(service, only(run)) / "claim").split(" ")[0])
    held |= {process.pid: opened_by(process.pid) for process in psutil.Process(supervisor).children(recursive=True)}
    # The supervisor holds the home open, to notice that it is removed.
    held[supervisor] = [path for path in opened_by(supervisor) if path != str(service.home)]
    assert len(held) >= 3  # the spawner, the supervisor, the script
    experiment = str(folder_of(service, only(run)))
    for pid, paths in held.items():
        wrong = [
            path
            for path in paths
            if path.startswith("socket:") or (path.startswith(str(service.home)) and not path.startswith(experiment))
        ]
        assert wrong == [], psutil.Process(pid).cmdline()
    run.cancel()


def opened_by(pid: int) -> list[str]:
    """The files that a process has open."""
    folder = Path(f"/proc/{pid}/fd")
    found = []
    for each in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(each))
    return found


def newer_package(folder: Path) -> Path:
    """Make a copy of grid whose database has one more migration; return the PYTHONPATH that finds it."""
    source = Path(grid.__file__).parent
    shutil.copytree(source, folder / "grid", ignore=shutil.ignore_patterns("__pycache__"))
    newer = f"{int(HEAD) + 1:04}"
    (folder / f"grid/service/store/migrations/versions/{newer}_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision = '{newer}', '{HEAD}'\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('experiments') as batch: batch.add_column(sa.Column('more', sa.Text))\n"
    )
    return folder


def test_a_newer_version_takes_over(tmp_path: Path) -> None:
    """A newer service goes on with what an older one has, with a copy beside it; the older one cannot take it back."""
    release = tmp_path / "release"
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    with service_process(tmp_path, "--cpus", "1") as older:
        sessions.use(older.session())
        run = starter(tmp_path)(wait, f"{release} --n '[1, 2]'")
        wait_until(lambda: next(iter(run)).status() == "RUNNING", "the first")
        older.stop()
        with service_process(tmp_path, "--cpus", "1", PYTHONPATH=str(newer_package(tmp_path / "newer"))) as newer:
            sessions.use(newer.session())
            again = Run(run.name)
            assert [each.status() for each in again] == ["RUNNING", "QUEUED"]
            release.touch()
            assert list(wait_for_run(again)) == ["SUCCEEDED"]
            newer.stop()
        (copy,) = older.home.glob("grid.sqlite3.before-*")
        with closing(sqlite3.connect(copy)) as connection:
            assert [status for (status,) in connection.execute("SELECT status FROM experiments ORDER BY seq")] == [
                "RUNNING", "QUEUED",
            ]  # fmt: skip
        assert str(copy) in newer.log.read_text()
        refuses(serve(older.home), 78, str(older.home / "grid.sqlite3"), "a newer grid-runs has written it")
