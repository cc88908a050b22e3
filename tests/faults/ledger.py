"""Scripts that write what they do into a ledger, and what is found of them without the service's own code.

A script appends to the ledger, a line at a time and in one piece, when it starts and just before it ends. Whatever was
done to the service meanwhile, its records must tell the same story: `judge.py` compares the two.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import processes_of
from tests.support.waiting import TERMINAL

PRELUDE = """
import os, random, signal, subprocess, sys, time

attempt = os.getcwd().split(os.sep)[-3].removeprefix("attempt-")

def tell(ledger, event, detail=0):
    words = os.environ["GRID_EXPERIMENT_ID"], attempt, event, detail, os.getpid(), time.time_ns() // 1000
    descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (" ".join(map(str, words)) + "\\n").encode())
    os.close(descriptor)

def end(ledger, how):
    kind, _, number = how.partition("-")
    tell(ledger, kind, number)
    if kind == "signal":
        os.kill(os.getpid(), int(number))
    if number == "1":
        raise RuntimeError("it was to be so")
    sys.exit(int(number))
"""

# Arguments: the ledger, a seed, the longest time in seconds; `--index` and a number that decides the rest.
ENDS = ["exit-0", "exit-0", "exit-0", "exit-0", "exit-1", "exit-3", "signal-9", "signal-6"]
VARIED = (
    PRELUDE
    + f"""
_, ledger, seed, longest, _, index = sys.argv
tell(ledger, "started")
draw = random.Random(seed + index)
lines, seconds = draw.randint(1, 30), draw.uniform(0, float(longest))
if draw.random() < 0.1:
    # Leaves the session and the environment, and stays behind.
    left = subprocess.Popen(["env", "-i", "sleep", "1000"], start_new_session=True)
    tell(ledger, "left", left.pid)
for number in range(lines):
    print(f"line {{number + 1}} of {{lines}}")
    time.sleep(seconds / lines)
tell(ledger, "printed", lines)
end(ledger, draw.choice({ENDS!r}))
"""
)

# Arguments: the ledger, a file that it waits for, and how to end then: `exit-3`, `signal-9`, or `held` for never.
# Attempts after the first succeed, except with `always-3`.
HELD = (
    PRELUDE
    + """
_, ledger, release, _, how = sys.argv
tell(ledger, "started")
print("line 1 of 1")
if how == "held" and attempt == "1":
    tell(ledger, "held")
    time.sleep(1000)
while not os.path.exists(release):
    time.sleep(0.005)
tell(ledger, "printed", 1)
end(ledger, how.replace("always", "exit") if attempt == "1" or "always" in how else "exit-0")
"""
)

# Arguments: the ledger. It leaves a process behind that has left its session and its environment.
LEAVES = (
    PRELUDE
    + """
ledger = sys.argv[1]
tell(ledger, "started")
left = subprocess.Popen(["env", "-i", "sleep", "1000"], start_new_session=True)
tell(ledger, "left", left.pid)
end(ledger, "exit-0")
"""
)

# Arguments: the ledger. It plants the record of a good end, and then kills its supervisor.
PLANTS = (
    PRELUDE
    + """
ledger = sys.argv[1]
record = f"{os.environ['GRID_HOME']}/records/{os.environ['GRID_EXPERIMENT_ID']}-{attempt}"
tell(ledger, "started")
os.symlink("A" * 16 + f" 0 - {2**50} EXIT_CODE", record + "/exit")
tell(ledger, "exit", 9)
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(1000)
"""
)

# Arguments: the ledger. It kills the process group that it is in.
KILLS_ITS_GROUP = (
    PRELUDE
    + """
ledger = sys.argv[1]
tell(ledger, "started")
tell(ledger, "signal", 9)
os.killpg(os.getpgrp(), signal.SIGKILL)
"""
)


@dataclass(frozen=True)
class Entry:
    """A line of a ledger: what an attempt of an experiment said, and when (microseconds since the epoch)."""

    experiment: str
    attempt: int
    event: str
    detail: int
    pid: int
    at: int


def entries(ledger: Path) -> list[Entry]:
    """Read a ledger; return an empty list if no script has written yet."""
    try:
        lines = ledger.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [
        Entry(experiment, int(attempt), event, int(detail), int(pid), int(at))
        for experiment, attempt, event, detail, pid, at in (line.split(" ") for line in lines)
    ]


def rows(home: Path, query: str, *values: object) -> list[dict[str, Any]]:
    """Query the database of a home, past its service."""
    with closing(sqlite3.connect(home / "grid.sqlite3", timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]


def statuses(home: Path) -> list[str]:
    """The statuses of all experiments of a home, in order."""
    return [row["status"] for row in rows(home, "SELECT status FROM experiments ORDER BY seq")]


def have_ended(home: Path) -> bool:
    """Whether there are experiments, and all have ended."""
    found = statuses(home)
    return bool(found) and set(found) <= TERMINAL


def all_processes(home: Path, ledger: Path) -> list[psutil.Process]:
    """Return every process that belongs to a home: by its environment, or because a script reported it."""
    told = {entry.detail if entry.event == "left" else entry.pid: entry.at for entry in entries(ledger)}
    return processes_of(home, told)


def kill_everything(home: Path, ledger: Path) -> None:
    """End every process of a home at once, as a power failure does."""
    while found := all_processes(home, ledger):
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, 10)
