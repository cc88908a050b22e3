"""The keeper of the embedded service: it restarts a killed service, however often, until it is told to stop."""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import grid
from grid.service.command.home_lock import holder
from grid.shared.holder import Holder
from tests.faults.ledger import kill_everything
from tests.faults.sizes import figure, seed, size
from tests.support.embedded import is_empty, keeper, owner, record, serving, stop
from tests.support.environments import clean_environment
from tests.support.waiting import wait_until

KILLS = size(4, 20)
"""More than a keeper tries with a service that never serves."""
STOPS = size(2, 40)
RIVALS = size(2, 50)


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """End all processes: a test that removes its home takes away the records by which others find them."""
    yield
    kill_everything(tmp_path / "home" / ".grid", tmp_path / "no ledger")


@pytest.mark.timeout(size(180, 900))
def test_killed_again_and_again(grid_home: Path) -> None:
    """Whether killed while it serves or while it starts, the service is restarted each time, by the keeper alone."""
    print(f"seed {seed()}")
    draw = random.Random(seed())
    grid.login()
    kept = keeper(grid_home)
    times = []
    for number in range(KILLS):
        killed = serving(grid_home)
        begun = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        if number % 3 == 0:
            # And once more while it starts: as soon as it has the home, or a little later.
            wait_until(lambda pid=killed: owner(grid_home) not in (pid, None), "the start of a service")
            time.sleep(draw.uniform(0, 0.2))
            killed = owner(grid_home)
            begun = time.monotonic()
            os.kill(killed, signal.SIGKILL)
        wait_until(lambda pid=killed: serving(grid_home) != pid, "the next service")
        times.append(time.monotonic() - begun)
    assert keeper(grid_home) == kept
    assert kept.is_alive()
    assert grid.list_runs() == []
    longest = f"{statistics.median(times):.2f} s (median), {max(times):.2f} s (longest)"
    figure(f"keeper: {KILLS} kills, serving again after {longest}")


@pytest.mark.timeout(size(180, 900))
def test_stopped_while_it_is_brought_back(grid_home: Path) -> None:
    """`stop` ends the service for good, at whatever moment of its restart."""
    print(f"seed {seed()}")
    draw = random.Random(seed())
    for _ in range(STOPS):
        grid.login()
        kept = keeper(grid_home)
        os.kill(record(grid_home)["pid"], signal.SIGKILL)
        # An interpreter takes about this long to start: so the stop falls into the start of the service.
        time.sleep(draw.uniform(0, 0.5))
        stop(grid_home)
        assert not kept.is_alive()
        assert holder(grid_home) is None
        # A service that the keeper had just started has not reached the home yet, and ends by itself.
        wait_until(lambda: is_empty(grid_home), "the end of every process")
        assert holder(grid_home) is None
        assert not (grid_home / "service" / "keeper").is_symlink()


def test_service_whose_keeper_has_gone(grid_home: Path) -> None:
    """A service whose keeper is no longer the recorded one ends before it touches the home."""
    grid.login()
    kept = str(keeper(grid_home))
    stop(grid_home)
    before = sorted(path.name for path in (grid_home / "service").iterdir())
    command = [sys.executable, "-m", "grid.service", "serve", "--home", str(grid_home), "--kept-by", kept]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert sorted(path.name for path in (grid_home / "service").iterdir()) == before
    shutil.rmtree(grid_home)
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    assert not grid_home.exists()


def test_home_that_was_removed(grid_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose home was removed ends, its keeper with it, and neither makes the home again."""
    monkeypatch.setenv("GRID_IDLE_TIMEOUT", "20")  # it checks its home twenty times meanwhile
    grid.login()
    shutil.rmtree(grid_home)
    wait_until(lambda: is_empty(grid_home), "the end of every process")
    assert not grid_home.exists()


def test_keeper_of_a_home_that_was_removed(grid_home: Path) -> None:
    """A keeper whose home was removed starts no service when its own has ended."""
    grid.login()
    pid = record(grid_home)["pid"]
    shutil.rmtree(grid_home)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_empty(grid_home), "the end of every process")
    assert not grid_home.exists()


@pytest.mark.parametrize("changed", ["start", "boot"])
def test_stop_is_not_misled(grid_home: Path, changed: str) -> None:
    """A pid alone identifies neither keeper nor service: start time and boot must match, or it is left alone."""
    (grid_home / "service").mkdir()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:
        try:
            for name in ("keeper", "owner"):
                replace(Holder.of(bystander.pid), **{changed: "1"}).write(grid_home / "service" / name)
            stop(grid_home)
            assert bystander.poll() is None
            Holder.of(bystander.pid).write(grid_home / "service" / "keeper")
            stop(grid_home)
            assert bystander.wait(60) == -signal.SIGKILL
        finally:
            bystander.kill()


START = """
import os, sys
sys.stdin.readline()
{}
"""
LOGIN = """
from grid import login
from grid.session import session
login()
print(session.current().transport.endpoint.url)
"""
SERVE = "from grid.service.command.main import main; sys.exit(main(['serve', '--embedded']))"


@pytest.mark.timeout(size(180, 900))
def test_login_against_a_service_that_starts(tmp_path: Path) -> None:
    """If a service is started by hand during a login, the login gets that one or its own, and no error."""
    print(f"seed {seed()}")
    draw = random.Random(seed())
    outcomes = []
    for number in range(RIVALS):
        home = tmp_path / str(number) / ".grid"
        environment = clean_environment(home.parent)
        home.mkdir(parents=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        serving, asking = (
            subprocess.Popen([sys.executable, "-c", START.format(code)], env=environment, cwd="/", **pipes)
            for code in (SERVE, LOGIN)
        )
        first, second = draw.sample((serving, asking), 2)
        try:
            first.stdin.write("\n")
            first.stdin.flush()
            time.sleep(draw.uniform(0, 0.5))
            second.stdin.write("\n")
            second.stdin.flush()
            url, said = asking.communicate(timeout=60)
            assert asking.returncode == 0, said
            assert url.strip() == record(home)["url"]
            outcomes.append("by hand" if record(home)["pid"] == serving.pid else "its own")
        finally:
            with suppress(ProcessLookupError):
                stop(home)
            if serving.poll() is None:
                serving.kill()
            serving.communicate()
        wait_until(lambda home=home: is_empty(home), "the end of every process")
    figure(f"login against a service that starts: { ({each: outcomes.count(each) for each in sorted(set(outcomes))}) }")
