"""Two processes that log in at the same moment: however often they do, they get one service."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from grid.shared.holder import Holder
from tests.faults.sizes import seed, size
from tests.support.environments import clean_environment
from tests.support.processes import processes_of
from tests.support.services import end_everything
from tests.support.waiting import wait_until

ROUNDS = size(3, 51)
BEFORE = ["a new home", "a killed service", "a killed service and keeper"]

LOGIN = """
import sys
from grid import list_runs, login
from grid.session import session
sys.stdin.readline()
login()
assert list_runs() == []
print(session.current().transport.endpoint.url)
"""


@pytest.mark.timeout(size(180, 1800))
def test_two_logins_at_once(tmp_path: Path) -> None:
    """Two logins at once find one service and one keeper, on a new home and on one whose service was killed."""
    print(f"seed {seed()}")
    draw = random.Random(seed())
    for number in range(ROUNDS):
        before = BEFORE[number % 3]
        home = tmp_path / str(number) / ".grid"
        home.mkdir(parents=True)
        try:
            if before != "a new home":
                assert len(log_in(home, [0])) == 1
                for name in ["keeper", "owner"] if "keeper" in before else ["owner"]:
                    holder = Holder.read(home / "service" / name)
                    assert holder is not None
                    psutil.Process(holder.pid).kill()
            assert len(set(log_in(home, [0, draw.choice([0, draw.uniform(0, 0.3)])]))) == 1, before
            keepers = [each for each in processes_of(home) if "grid-keeper" in each.cmdline()]
            assert len(keepers) == 1, before
            log = (home / "service" / "service.log").read_text()
            assert log.count("serving ") == (1 if before == "a new home" else 2), before
            assert "another service uses" not in log
        finally:
            end_everything(home)
        wait_until(lambda home=home: not processes_of(home), "the end of every process")


def log_in(home: Path, waits: list[float]) -> list[str]:
    """Log in that many times at once, with waits in between; return the addresses that were found."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOGIN],
            env=clean_environment(home.parent),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        for _ in waits
    ]
    for wait, process in zip(waits, started, strict=True):
        time.sleep(wait)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * len(waits), told
    return [url.strip() for url, _ in told]
