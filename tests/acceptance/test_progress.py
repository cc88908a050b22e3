"""What `wait` shows: a line on a terminal, nothing in a pipe, and what Ctrl-C says. Notebooks: `test_notebook`."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import grid
from grid import errors
from tests.support.environments import clean_environment
from tests.support.gates import SCRIPT, Gates
from tests.support.services import ServiceProcess, login_environment
from tests.support.waiting import wait_until

WAIT = """
import os, signal, sys, threading, time
import grid
from grid.session import session, waiting
waiting._SECONDS = 600  # on a busy machine, a login says what it waits for
grid.login()

def interrupt(requests):
    sent = session.current().transport.requests_sent
    def when_it_waits():  # that is, has begun a subscription, and most of them ask how things are before
        while session.current().transport.requests_sent < sent + requests:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=when_it_waits, daemon=True).start()

run = grid.Run(sys.argv[1])
print("waits", flush=True)
{call}
print("waited", flush=True)
"""


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    """What the scripts wait for."""
    return Gates(tmp_path / "gates")


@pytest.fixture
def run(session: object, tmp_path: Path, gates: Gates) -> Iterator[grid.Run]:
    """A run of four experiments, two of which run."""
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    started = grid.create_run(str(script), script_args=gates.arguments(4), localdir=True, cpus=1)
    wait_until(lambda: len(started.status().get("RUNNING", [])) == 2, "the scripts")
    yield started
    started.cancel()


@pytest.fixture
def begin(service: ServiceProcess, run: grid.Run, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a program that waits for the run."""
    (tmp_path / "user").mkdir()

    def begin(call: str, **streams: Any) -> subprocess.Popen[str]:
        environment = clean_environment(tmp_path / "user", **login_environment(service), PYTHONIOENCODING="utf-8")
        command = [sys.executable, "-W", "error", "-c", WAIT.format(call=call), run.name]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, **streams)

    return begin


class Screen:
    """A terminal, and what was written to it."""

    def __init__(self, columns: int = 80) -> None:
        self._ours, self.theirs = pty.openpty()
        os.environ.pop("COLUMNS", None)
        import termios

        termios.tcsetwinsize(self.theirs, (24, columns))
        self.text = ""

    def read(self) -> str:
        """Return everything that was written so far."""
        while select.select([self._ours], [], [], 0.01)[0]:
            try:
                self.text += os.read(self._ours, 1 << 16).decode()
            except OSError:  # nobody has it open any more
                break
        return self.text

    def close(self) -> None:
        """Let go of both ends."""
        for end in (self._ours, self.theirs):
            with suppress(OSError):
                os.close(end)


@pytest.fixture
def screen(request: pytest.FixtureRequest) -> Iterator[Screen]:
    """A terminal."""
    opened = Screen(getattr(request, "param", 80))
    yield opened
    opened.close()


def test_line_on_a_terminal(
    begin: Callable[..., subprocess.Popen[str]], run: grid.Run, gates: Gates, screen: Screen
) -> None:
    """One line is rewritten while the run goes on, and stays, complete and ended, with its last state."""
    process = begin("assert run.wait() is run", stderr=screen.theirs)
    wait_until(lambda: "0/4 · 2 running" in screen.read(), "the line")
    gates.open(0, code=1)
    wait_until(lambda: "1/4 · 2 running · 1 failed" in screen.read(), "the next state")
    gates.open(1, 2, 3)
    assert process.communicate(timeout=120)[0] == "waits\nwaited\n"
    assert process.returncode == 0
    text = screen.read()
    assert text.count("\n") == 1
    assert text.endswith("\r\n")
    assert text.startswith(f"\r{run.name} ░░░░░░░░ 0/4 · 2 running")
    assert text.rstrip().rpartition("\r")[2].rstrip() == f"{run.name} ████████ 4/4 · 1 failed"


@pytest.mark.parametrize("screen", [30], indirect=True)
def test_line_on_a_narrow_terminal(
    begin: Callable[..., subprocess.Popen[str]], run: grid.Run, gates: Gates, screen: Screen
) -> None:
    """The line never takes more than its row."""
    process = begin("run.wait()", stderr=screen.theirs)
    wait_until(lambda: run.name[:20] in screen.read(), "the line")
    gates.open(0, 1, 2, 3)
    process.communicate(timeout=120)
    lines = screen.read().rstrip().split("\r")[1:]
    assert max(map(len, lines)) <= 29
    assert "…" in lines[0]


@pytest.mark.parametrize(
    ("call", "stderr"),
    [("run.wait()", subprocess.PIPE), ("run.wait(progress=False)", "terminal")],
)
def test_nothing_where_nobody_looks_on(
    begin: Callable[..., subprocess.Popen[str]], gates: Gates, screen: Screen, call: str, stderr: object
) -> None:
    """A pipe gets nothing, and neither does a terminal whose user wants nothing."""
    process = begin(call, stderr=screen.theirs if stderr == "terminal" else stderr)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    gates.open(0, 1, 2, 3)
    output, complaints = process.communicate(timeout=120)
    assert (output, complaints or "", screen.read()) == ("waited\n", "", "")


def test_lines_in_a_pipe_that_wants_them(
    begin: Callable[..., subprocess.Popen[str]], run: grid.Run, gates: Gates
) -> None:
    """With `progress=True` a pipe gets lines, one after the other."""
    process = begin("run.wait(progress=True)", stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    gates.open(0, 1, 2, 3)
    _, complaints = process.communicate(timeout=120)
    first, *_, last = complaints.splitlines()
    assert "\r" not in complaints
    assert re.fullmatch(rf"{run.name} ░+ 0/4 · 2 running", first) or re.match(rf"{run.name} \S+ \d/4", first)
    assert last == f"{run.name} ████████ 4/4"


_UNCLOSED = re.compile(
    r"(?:Exception ignored in: <function Connection\.__del__.*?)?(?:ResourceWarning: )?Unclosed connection [^\n]*\n?",
    re.DOTALL,
)


@pytest.mark.parametrize(
    ("call", "requests", "said"),
    [
        ("run.wait()", 2, "still running; r.cancel() stops it"),
        ("next(iter(run)).wait()", 2, "still running; e.cancel() stops it"),
        ("list(run.as_completed())", 2, "still running; r.cancel() stops it"),
        ("list(run.watch())", 1, "still running; r.cancel() stops it"),
        ("list(run.watch(logs=True))", 2, "still running; r.cancel() stops it"),
        ("list(run.logs(follow=True))", 1, "still running; r.cancel() stops it"),
        ("list(next(iter(run)).logs(follow=True))", 2, "still running; e.cancel() stops it"),
        ("list(next(iter(run)).log_lines(follow=True))", 2, "still running; e.cancel() stops it"),
        ("import asyncio; asyncio.run(grid.aio.wait(run))", 2, ""),
    ],
)
def test_interrupt_ends_the_waiting_alone(
    begin: Callable[..., subprocess.Popen[str]], run: grid.Run, gates: Gates, call: str, requests: int, said: str
) -> None:
    """Ctrl-C ends the wait with `KeyboardInterrupt`, says that the run goes on, and the run does."""
    attempt = f"""
name = next(iter(run)).name
interrupt({requests})
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", run.status().keys() <= {{"RUNNING", "QUEUED"}})
"""
    process = begin(attempt, stderr=subprocess.PIPE)
    output, complaints = process.communicate(timeout=120)
    # A request that was cancelled between two steps of aiohttp, which closes it then and says so where warnings are on.
    complaints = _UNCLOSED.sub("", complaints).strip()
    assert (output, complaints, process.returncode) == ("waits\ninterrupted True\nwaited\n", said, 0)
    assert len(run.status()["RUNNING"]) == 2


def test_interrupt_on_a_terminal(begin: Callable[..., subprocess.Popen[str]], run: grid.Run, screen: Screen) -> None:
    """What Ctrl-C says stands on a line of its own, below the one that was drawn."""
    process = begin("run.wait()", stderr=screen.theirs)
    wait_until(lambda: "2 running" in screen.read(), "the line")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    lines = screen.read().split("\r\n")
    assert lines[0].rstrip().endswith("2 running")
    assert lines[1] == "still running; r.cancel() stops it"
    assert process.returncode in (1, 130, -signal.SIGINT)


def test_line_before_an_error(begin: Callable[..., subprocess.Popen[str]], screen: Screen) -> None:
    """A wait that ends in time-out leaves its line ended, too."""
    process = begin("run.wait(0.5)", stderr=screen.theirs)
    process.communicate(timeout=120)
    lines = screen.read().split("\r\n")
    assert lines[0].rstrip().endswith("2 running")
    assert lines[1] == "Traceback (most recent call last):"
    last = re.sub(r"\x1b\[[\d;]*m", "", lines[-2])  # newer versions of Python colour it
    assert last.startswith("grid.errors.WaitTimeout: the run ")
    assert issubclass(errors.WaitTimeout, TimeoutError)
