"""The embedded service: how it is found and started, what its keeper does when it does not start, and its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import grid
from grid import errors
from grid.session import embedded
from grid.shared import homes, locks
from grid.shared.holder import Holder
from tests.support.embedded import is_empty, keeper, record, stop
from tests.support.environments import clean_environment
from tests.support.waiting import wait_until

BROKEN = """
import pathlib
tries = pathlib.Path({tries!r})
with tries.open("a") as file:
    file.write("x")
if tries.stat().st_size <= {failing}:
    raise RuntimeError("broken on purpose")
import sys
sys.path.remove({folder!r})
del sys.modules["uvicorn"]
import uvicorn
"""


def break_service(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> Path:
    """Let the first `failing` services fail when they import their server; return the file that counts them."""
    folder.mkdir()
    tries = folder / "tries"
    text = BROKEN.format(tries=str(tries), failing=failing, folder=str(folder))
    (folder / "uvicorn.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(":"))
    return tries


def test_service_that_starts_at_the_third_try(grid_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that fails when it starts is tried again, and `login()` waits for that."""
    tries = break_service(tmp_path / "broken", monkeypatch, 2)
    grid.login()
    assert grid.list_runs() == []
    assert tries.read_text() == "xxx"


def test_service_that_never_starts(grid_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that always fails is given up: the error quotes its log, from this start only, and nothing is left."""
    (grid_home / "service").mkdir()
    (grid_home / "service" / "service.log").write_text("a line of long ago\n")
    tries = break_service(tmp_path / "broken", monkeypatch, 1000)
    with pytest.raises(errors.EmbeddedServiceFailed, match="(?s)ended with code 1.*broken on purpose") as caught:
        embedded.find_or_start(pause_seconds=0.01)
    assert str(grid_home / "service" / "service.log") in str(caught.value)
    assert "long ago" not in str(caught.value)
    assert tries.read_text() == "x" * 8
    assert is_empty(grid_home)
    assert not (grid_home / "service" / "keeper").is_symlink()


def test_keeper_that_was_not_written_down(grid_home: Path) -> None:
    """A keeper does nothing before it is recorded: the process that starts it may die at any moment."""
    marker = grid_home / "marker"
    command = ["/bin/sh", "-c", embedded._KEEPER, "grid-keeper", str(grid_home), "1", "touch", str(marker)]
    done = subprocess.run(command, input="", text=True, timeout=60, check=False)
    assert (done.returncode, marker.exists()) == (1, False)
    done = subprocess.run(command, input="somebody else's\n", text=True, timeout=60, check=False)
    assert (done.returncode, marker.exists()) == (0, False)


def test_log_that_has_become_long(grid_home: Path) -> None:
    """A log of more than 5 MiB is put aside at the next start, and nobody else can read the new one."""
    folder = grid_home / "service"
    folder.mkdir()
    (folder / "service.log").write_bytes(b"x" * (5 * 1024**2 + 1))
    (folder / "service.log").chmod(0o644)
    grid.login()
    assert (folder / "service.log.1").stat().st_size == 5 * 1024**2 + 1
    assert (folder / "service.log").stat().st_size < 5000
    assert (folder / "service.log").stat().st_mode & 0o777 == 0o600
    stop(grid_home)
    (folder / "service.log").chmod(0o644)
    grid.login()
    assert (folder / "service.log").stat().st_mode & 0o777 == 0o600
    assert (folder / "service.log").read_text().count("serving ") == 2


def test_log_that_becomes_long(grid_home: Path) -> None:
    """A log is set aside while the service runs, and everything that has it open goes on in the new one."""
    grid.login()
    log = grid_home / "service" / "service.log"
    with log.open("ab") as file:
        file.write(b"x" * 5 * 1024**2 + b"\n")
    (grid_home / "service" / "owner").unlink()  # the service makes it again, and says so
    wait_until(log.with_name("service.log.1").exists, "a log that is set aside")
    wait_until(lambda: "made again" in log.read_text(), "the next line")
    assert log.stat().st_size < 5000
    assert log.with_name("service.log.1").stat().st_size > 5 * 1024**2
    assert [path.stat().st_mode & 0o777 for path in (log, log.with_name("service.log.1"))] == [0o600, 0o600]
    # What keeper and spawner write goes to what is read.
    for pid in (keeper(grid_home).pid, *(each.pid for each in psutil.Process(record(grid_home)["pid"]).children())):
        assert os.path.samefile(f"/proc/{pid}/fd/2", log)
    os.kill(record(grid_home)["pid"], signal.SIGKILL)
    wait_until(lambda: "the service ended with code 137: starting another in 0.000 s" in log.read_text(), "the keeper")


PROGRAMS = {
    "service": """
read -r code lived served < plan || exit 0
sed -i 1d plan
[ -z "$served" ] || touch served
echo $(($(cat clock) + lived)) > clock
exit "$code"
""",
    "date": """[ "$1" = +%s ] && cat clock""",
    "sleep": """echo "$1" >> pauses""",
}
"""What a keeper starts, the clock that it reads, and how it pauses: here time goes by when a service says so."""


def keep(folder: Path, plan: list[str]) -> tuple[int, list[str]]:
    """Run a keeper over services that end as planned, each with its code, its life in seconds, and whether it served.

    Return the keeper's exit code, and its pauses.
    """
    (folder / "bin").mkdir(parents=True)
    for name, text in PROGRAMS.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o700)
    (folder / "clock").write_text("1000\n")
    (folder / "plan").write_text("".join(f"{line}\n" for line in plan))
    (folder / "pauses").touch()
    (folder / "keeper").symlink_to("this one")
    command = ["/bin/sh", "-c", embedded._KEEPER, "grid-keeper", str(folder), "100", "service"]
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        input="this one\n",
        text=True,
        cwd=folder,
        env=environment,
        check=False,
        timeout=60,
        capture_output=True,
    )
    assert done.stderr == ""
    assert not (folder / "keeper").is_symlink()
    return done.returncode, (folder / "pauses").read_text().split()


def test_pauses_of_a_keeper(tmp_path: Path) -> None:
    """The first restart comes at once, the pauses before the others grow to 10 s; after a long life it begins anew."""
    short, full, long = "137 1 served", "75 0", "137 60 served"
    growing = ["0.100", "0.200", "0.400", "0.800", "1.600", "3.200", "6.400", "10.000", "10.000"]
    assert keep(tmp_path / "short", [short] * 10) == (0, growing)
    assert keep(tmp_path / "full", [short, *[full] * 9]) == (0, growing)
    assert keep(tmp_path / "long", [short, short, short, long, short, short]) == (
        0,
        ["0.100", "0.200", "0.100", "0.200"],
    )


def test_keeper_that_gives_up(tmp_path: Path) -> None:
    """It gives up after eight services in a row that have not served, before a login has waited for half a minute."""
    code, pauses = keep(tmp_path / "never", ["1 0"] * 100)
    assert (code, pauses) == (1, ["0.100", "0.200", "0.400", "0.800", "1.600", "3.200"])
    code, pauses = keep(tmp_path / "in between", [*["1 0"] * 7, "1 0 served", *["1 0"] * 100])
    assert (code, len(pauses)) == (1, 14)
    # Whoever waits for the first service is told at once that there is no room; one that is refused is not tried again.
    assert keep(tmp_path / "full", ["75 0"]) == (75, [])
    assert keep(tmp_path / "wrong", ["1 1 served", "78 0"]) == (78, [])


ASK = """
import sys
from grid import login
from grid.session import session
sys.stdin.readline()
login()
print(session.current().transport.endpoint.url, session.current().viewer.username)
"""


def test_two_processes_at_once_get_the_same_service(grid_home: Path, tmp_path: Path) -> None:
    """Two processes that log in at the same moment find one service, started once."""
    environment = clean_environment(grid_home.parent)
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK], env=environment, stdin=-1, stdout=-1, text=True, cwd=tmp_path)
        for _ in range(2)
    ]
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in asking]

    assert answers[0] == answers[1]
    assert answers[0][0] == record(grid_home)["url"]
    assert (grid_home / "service" / "service.log").read_text().count("serving ") == 1


def test_service_whose_process_cannot_be_seen(grid_home: Path) -> None:
    """A service of another container that shares the home is used; what a service before it has said is not."""
    folder = homes.prepare(grid_home)
    unseen = replace(Holder.of(os.getpid()), pid=2**22 + 1, start="1")
    said = {"url": "http://127.0.0.1:1", "pid": unseen.pid, "start": unseen.start, "boot": unseen.boot}
    with locks.acquire(grid_home), locks.acquire(folder / homes.LOCK), ThreadPoolExecutor(1) as pool:
        unseen.write(folder / homes.OWNER)
        (folder / homes.RECORD).write_text(json.dumps({**said, "start": "0", "url": "http://127.0.0.1:2"}))
        found = pool.submit(embedded.find_or_start)
        wait_until(lambda: found.done() or locks.is_held(folder / homes.START_LOCK), "a client that waits")
        (folder / homes.RECORD).write_text(json.dumps(said))
        assert found.result(60) == said
