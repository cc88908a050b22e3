"""Tests of the tree of processes: those that keep forking are found as well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from grid.service.executors.supervisor.process_tree import leftovers

MARK = f"forking-{os.getpid()}"
# Two families of which each process lives for some milliseconds, and has a child before it ends.
FORKING = """
import os, time
end = time.monotonic() + 60
for _ in range(2):
    if os.fork() == 0: break
while time.monotonic() < end:
    if os.fork(): os._exit(0)
    time.sleep(0.004)
"""


@pytest.fixture
def forking() -> Iterator[None]:
    """Processes that keep forking, which nothing but their environment betrays."""
    subprocess.run(
        [sys.executable, "-c", FORKING],
        env={**os.environ, "GRID_EXPERIMENT_ID": MARK},
        start_new_session=True,
        check=True,
        timeout=60,
    )
    yield
    while found := list(leftovers(1, MARK, "/nonexistent")):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a /proc")
@pytest.mark.usefixtures("forking")
def test_processes_that_keep_forking_are_found() -> None:
    """However often it is looked, a family whose members end while they are looked at is never taken for gone."""
    for _ in range(50):
        assert next(leftovers(1, MARK, "/nonexistent"), None) is not None
