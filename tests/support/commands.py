"""The service's commands as forked processes: they start in hundredths of a second, else like any other."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.environments import clean_environment


class Forker:
    """The process that forks commands, see `forking`."""

    def __init__(self) -> None:
        # OpenBLAS would start threads, and a fork must not meet them. Each command brings a home of its own.
        environment = clean_environment(Path("/no home"), OPENBLAS_NUM_THREADS="1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forking"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C at the developer's prompt is for the tests, which end what they started
        )
        self._turn = threading.Lock()

    def ask(self, wanted: Any) -> Any:
        """Send one request; return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@cache
def _forker() -> Forker:
    forker = Forker()
    atexit.register(forker.close)
    return forker


class Forked:
    """A forked command of the service, with those parts of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        stdout: Path,
        stderr: Path,
        module: str = "grid.service.command.main",
    ) -> None:
        self._arguments = arguments
        self.pid: int = _forker().ask(
            {
                "module": module,
                "arguments": arguments,
                "environment": environment,
                "stdout": str(stdout),
                "stderr": str(stderr),
            }
        )
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = _forker().ask(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit code."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def run(arguments: list[str], environment: dict[str, str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; it may fail."""
    with tempfile.TemporaryDirectory(prefix="grid-command-") as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        code = Forked(arguments, environment, stdout, stderr).wait(timeout)
        return subprocess.CompletedProcess(arguments, code, stdout.read_text(), stderr.read_text())
