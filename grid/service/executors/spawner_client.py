"""The service's end of the pipes to the spawner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from grid.shared import environment

GRID = Path(__file__).parents[2]
"""The folder that the spawner imports from."""

# Not `grid` itself, which is the client and takes too long to import for a process like this. An empty module takes its
# place, so that the spawner imports what it needs by its usual names, and nothing else.
_ENTRY = (
    "import sys; grid = sys.modules['grid'] = type(sys)('grid'); grid.__path__ = [sys.argv[1]]; "
    "from grid.service.executors.supervisor.spawner import spawn; spawn(0, 1)"
)
_END_SECONDS = 5.0
"""How long the spawner may take to end."""


def spawner_command() -> list[str]:
    """Return the command line of a spawner, which reads jobs from its stdin and reports on its stdout."""
    # -I and -S: nothing in the user's environment may decide what code the supervisor runs.
    return [sys.executable, "-I", "-S", "-c", _ENTRY, str(GRID)]


class SpawnerClient(asyncio.SubprocessProtocol):
    """A spawner process that is running, or has ended.

    It does not use asyncio's streams: to them a process has not ended before its pipes are closed, and every supervisor
    keeps one of these open for as long as its script runs.

    Parameters
    ----------
    on_report
        Called with each report of the spawner and its supervisors: a line of JSON.
    """

    def __init__(self, on_report: Callable[[bytes], None]) -> None:
        self._on_report = on_report
        self._unread = b""
        self.exited = asyncio.Event()

    @classmethod
    async def start(cls, on_report: Callable[[bytes], None]) -> SpawnerClient:
        """Start a spawner process, and return the client that talks to it."""
        # A session of its own: if the service runs in a terminal, Ctrl-C there reaches neither the spawner nor the
        # scripts.
        _, spawner = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(on_report),
            *spawner_command(),
            env=environment.of_service(os.environ),  # supervisors have it, too, and anybody of this account can read it
            stderr=None,
            start_new_session=True,
            cwd="/",
        )
        return spawner

    def send(self, line: bytes) -> None:
        """Send a job, as one line of JSON."""
        self._stdin.write(line)

    async def close(self) -> None:
        """Let the spawner end; supervisors go on."""
        self._stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), _END_SECONDS)
        self._transport.close()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the process, which exists now."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, _fd: int, received: bytes) -> None:
        """Pass on each complete line that the spawner or a supervisor has written."""
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            self._on_report(line)

    def process_exited(self) -> None:
        """Note that the spawner has ended; its supervisors may go on, and still report."""
        self.exited.set()

    @property
    def _stdin(self) -> asyncio.WriteTransport:
        return cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
