"""A login that has to wait says on stderr what it waits for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from grid.shared import homes, locks
from grid.shared.holder import Holder
from tests.support.embedded import stop
from tests.support.environments import clean_environment
from tests.support.strangers import Stranger

LOGIN = "from grid import login; login()"


@contextmanager
def logging_in(home: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Log in with another process, whose stderr is read; it is ended at the end."""
    command, environment = [sys.executable, "-c", LOGIN], clean_environment(home, **environment)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process says."""
    assert process.stderr is not None
    return process.stderr.readline().rstrip()


def test_wait_for_a_service_to_say_where_it_is(tmp_path: Path) -> None:
    """Where a service has the home and has left no record, the process and its log are named."""
    folder = homes.prepare(tmp_path / ".grid")
    with locks.acquire(folder / homes.LOCK), logging_in(tmp_path) as process:
        Holder.of(os.getpid()).write(folder / homes.OWNER)
        assert said(process) == (
            f"grid: still waiting for the embedded service, process {os.getpid()}, to say where it listens; "
            f"its log is {folder / 'service.log'}"
        )


def test_wait_for_a_keeper(tmp_path: Path) -> None:
    """Where a keeper is to start the service, that process is named."""
    folder = homes.prepare(tmp_path / ".grid")
    Holder.of(os.getpid()).write(folder / homes.KEEPER)
    with logging_in(tmp_path) as process:
        expected = (
            f"grid: still waiting for the embedded service to start, which process {os.getpid()} sees to; its log"
        )
        assert said(process).startswith(expected)


@pytest.mark.parametrize("is_removed", [False, True])
def test_wait_for_another_login(tmp_path: Path, is_removed: bool) -> None:
    """Where another process is starting or stopping the service, that is said; then the login goes on.

    If the home was removed meanwhile, it makes another.
    """
    home = tmp_path / ".grid"
    folder = homes.prepare(home)
    with ExitStack() as stack:
        lock = locks.acquire(folder / homes.START_LOCK)
        process = stack.enter_context(logging_in(tmp_path))
        assert said(process) == (
            f"grid: still waiting for another process, which is starting or stopping the service of {home}"
        )
        if is_removed:
            shutil.rmtree(home)
        lock.close()
        assert process.wait(60) == 0
    stop(home)


def test_wait_for_an_answer(tmp_path: Path) -> None:
    """Where a service takes a request and does not answer, its address is named."""
    stranger = Stranger(None)
    try:
        with logging_in(tmp_path, GRID_URL=stranger.url, GRID_USER_ID="me", GRID_API_KEY="key") as process:
            assert said(process) == f"grid: still waiting for the service at {stranger.url} to answer"
    finally:
        stranger.close()
