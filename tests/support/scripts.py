"""Python processes of a user, which log in and then do what their source says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.support.environments import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_DEADLINE = 60.0
_WAITS = "grid: still waiting"  # what `login()` says on a busy machine


class Script:
    """A Python process that logs in and then does what its source says."""

    def __init__(self, source: str, folder: Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", "from grid import *; login()\n" + source],
            cwd=folder,
            stdin=subprocess.PIPE,
            env=clean_environment(folder, GRID_HTTP_TIMEOUT="600", **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def read(self) -> str:
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()).startswith(_WAITS):
            pass
        return line.rstrip("\n")

    def go_on(self) -> None:
        """Press Enter, which it waits for with `input()`."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def finish(self) -> list[str]:
        """Return the rest of its output; it must end with 0."""
        rest, _ = self._process.communicate(timeout=_DEADLINE)
        assert self._process.returncode == 0, rest
        return [line for line in rest.splitlines() if not line.startswith(_WAITS)]

    def close(self) -> None:
        """End it, whatever it does, and what it forked."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@contextmanager
def script(source: str, folder: Path, **environment: str) -> Iterator[Script]:
    """Yield a running script, and leave nothing of it behind."""
    running = Script(source, folder, **environment)
    guard = threading.Timer(_DEADLINE, running.close)  # a line that never comes is read as an empty one in the end
    guard.start()
    try:
        yield running
    finally:
        guard.cancel()
        running.close()
