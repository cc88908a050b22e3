"""A home, or a part of it, that is removed while its service runs: it is made again, or the next has it alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import grid
from grid.shared import homes, locks
from grid.shared.holder import Holder
from tests.faults.ledger import kill_everything
from tests.support import commands
from tests.support.embedded import owner, record, serving
from tests.support.environments import clean_environment
from tests.support.experiments import starter
from tests.support.processes import is_alive
from tests.support.services import service_process
from tests.support.waiting import wait_for_run, wait_until

LOGIN = """
from grid import list_runs, login
from grid.session import session
login()
assert list_runs() == []
print(session.current().transport.endpoint.url)
"""


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """End all processes: what a test removes are the records by which others find them."""
    yield
    kill_everything(tmp_path / "home" / ".grid", tmp_path / "no ledger")


def log_in(home: Path) -> str:
    """Log in as another process of the same user would; return the address."""
    command, environment = [sys.executable, "-c", LOGIN], clean_environment(home.parent)
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False, cwd="/")
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


def test_home_that_was_removed_and_made_again(grid_home: Path) -> None:
    """The service of a removed home ends and takes nothing of its successor along, which goes on to be found."""
    grid.login()
    before = record(grid_home)["pid"]
    # It looks for its home in vain before it can notice that another has taken its place.
    os.kill(before, signal.SIGSTOP)
    shutil.rmtree(grid_home)
    grid.login()
    after = record(grid_home)["pid"]
    assert after != before
    os.kill(before, signal.SIGCONT)
    wait_until(lambda: not is_alive(before), "the end of the service whose home was removed")
    assert (owner(grid_home), record(grid_home).get("pid")) == (after, after)
    assert (grid_home / "service" / homes.SERVED).exists()
    assert log_in(grid_home) == record(grid_home)["url"]
    assert is_alive(after)


def test_home_whose_place_another_has_taken(grid_home: Path) -> None:
    """A service whose home was moved ends once there is another home in its place, and leaves that one alone."""
    grid.login()
    before = record(grid_home)["pid"]
    grid_home.rename(grid_home.with_name("moved"))
    grid.login()
    after = record(grid_home)["pid"]
    wait_until(lambda: not is_alive(before), "the end of the service whose home was moved")
    assert (owner(grid_home), record(grid_home).get("pid")) == (after, after)
    assert log_in(grid_home) == record(grid_home)["url"]


def test_moved_home_is_not_lost(grid_home: Path) -> None:
    """A home that is moved away, or cannot be read for a while, is still its service's."""
    grid.login()
    before = record(grid_home)["pid"]
    moved = grid_home.with_name("moved")
    grid_home.rename(moved)
    # What it makes again shows that it has looked.
    (moved / "service" / "service.json").unlink()
    wait_until((moved / "service" / "service.json").exists, "a service that has looked at its home")
    moved.rename(grid_home)
    assert serving(grid_home) == before
    assert grid.list_runs() == []


@pytest.mark.parametrize("spoiled", ["removed", "damaged", "of another process"])
@pytest.mark.parametrize("name", ["service.json", "owner"])
def test_record_is_made_again(grid_home: Path, name: str, spoiled: str) -> None:
    """A running service writes again what tells others of it, readable by its user only, and logins find it."""
    grid.login()
    said, path = record(grid_home), grid_home / "service" / name
    content = path.read_text() if name == "service.json" else os.readlink(path)
    path.unlink()
    if spoiled == "damaged":
        path.write_text("{")
    elif name == "service.json" and spoiled != "removed":
        path.write_text(content.replace(f'"pid": {said["pid"]}', '"pid": 1'))
    elif spoiled != "removed":
        path.symlink_to(content.replace(str(said["pid"]), "1", 1))
    assert log_in(grid_home) == said["url"]
    assert record(grid_home) == said
    assert (grid_home / "service" / "service.json").stat().st_mode & 0o777 == 0o600
    assert "made again what was removed" in (grid_home / "service" / "service.log").read_text()


def test_experiments_folder_is_made_again(grid_home: Path, tmp_path: Path) -> None:
    """When somebody has removed the folder of all experiments, it is made again, and the next experiment runs."""
    grid.login()
    start = starter(tmp_path)
    wait_for_run(start("print('before')"))
    shutil.rmtree(grid_home / "experiments")
    wait_until((grid_home / "experiments").is_dir, "the folder")
    assert (grid_home / "experiments").stat().st_mode & 0o777 == 0o700
    assert wait_for_run(start("print('after')")).keys() == {"SUCCEEDED"}


@pytest.mark.parametrize("removed", ["service/service.lock", "service"])
def test_lock_that_was_removed(grid_home: Path, removed: str) -> None:
    """A service that loses its lock ends, and no other one touches the home before it has."""
    grid.login()
    before = record(grid_home)["pid"]
    os.kill(before, signal.SIGSTOP)
    path = grid_home / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    environment = clean_environment(grid_home.parent)
    second = commands.Forked(["serve", "--embedded"], environment, *[grid_home.parent / "second.log"] * 2)
    try:
        # It has the file's lock only after the home's own, which the first still has.
        wait_until((grid_home / "service").exists, "the start of a second service")
        assert locks.is_held(grid_home)
        assert not locks.is_held(grid_home / "service" / "service.lock")
        os.kill(before, signal.SIGCONT)
        wait_until(lambda: record(grid_home).get("pid") == second.pid, "the second service")
        wait_until(lambda: not is_alive(before), "the end of the service that has lost its lock")
        assert Holder.read(grid_home / "service" / "owner") == Holder.of(second.pid)
        assert log_in(grid_home) == record(grid_home)["url"]
    finally:
        second.terminate()
        second.wait(60)


# What commands claim


def told(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a home."""
    return commands.run([*arguments, "--home", str(home)], clean_environment(home.parent))


def test_stop_of_a_home_that_was_removed(grid_home: Path) -> None:
    """`stop --stop-experiments` does not say that nothing runs while processes of experiments do; it names them."""
    environment = clean_environment(grid_home.parent, GRID_EXPERIMENT_ID="of-a-home-that-was-removed")
    with subprocess.Popen(["sleep", "1000"], env=environment) as script:
        try:
            for _ in range(2):
                stopped = told(grid_home, "stop", "--stop-experiments", "--grace", "0")
                assert (stopped.returncode, stopped.stdout) == (1, "")
                assert f"to end them, run kill {script.pid}" in stopped.stderr
                grid.login()  # in its place there is a service now, which knows nothing of it
        finally:
            script.kill()


def test_stop_looks_into_the_database_that_the_service_has(grid_home: Path) -> None:
    """A running service says which database it has, and `stop --stop-experiments` looks into that one at the end."""
    home, database = grid_home, grid_home.parent / "elsewhere.sqlite3"
    arguments = ["serve", "--cpus", "1", "--database", f"sqlite:///{database}"]
    log = home.parent / "serve.log"
    service = commands.Forked(arguments, clean_environment(home.parent), log, log)
    wait_until(lambda: service.poll() is not None or record(home).get("pid") == service.pid, "the service")
    stopped = told(home, "stop", "--stop-experiments")
    said = f"stopped the service of {home} and its experiments\n"
    assert (stopped.returncode, stopped.stdout) == (0, said), stopped.stderr
    assert service.wait(60) == 0


@pytest.mark.parametrize("command", ["status", "credentials"])
def test_service_that_does_not_say_where_it_is(tmp_path: Path, command: str) -> None:
    """Whether a service runs is judged by its lock: one without a record is not said to be none."""
    folder = homes.prepare(tmp_path / ".grid")
    with locks.acquire(folder / homes.LOCK):
        Holder.of(os.getpid()).write(folder / homes.OWNER)
        looked = told(tmp_path / ".grid", command)
        assert looked.returncode == 4
        said = f"a service, process {os.getpid()}, uses {tmp_path / '.grid'} but does not say where it listens"
        assert said in looked.stdout + looked.stderr
    assert told(tmp_path / ".grid", command).returncode == 3


def test_lock_that_a_command_holds(tmp_path: Path) -> None:
    """What a killed service said of itself is not believed while a command holds the file's lock for a moment."""
    with service_process(tmp_path, "--cpus", "1") as running:
        assert homes.read_record(running.home) is not None
        running.kill()
        with locks.acquire(running.home / "service" / homes.LOCK):
            assert homes.read_record(running.home) is None
            looked = told(running.home, "status")
            assert (looked.returncode, looked.stdout) == (3, f"no service is running in {running.home}\n")
