"""The service's end of the pipes to the spawner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

GRID = Path(__file__).parents[2]
"""The folder that the spawner imports from."""

# Not `grid` itself, which is the client: to start a process must not cost what that does. A bare module stands for it,
# and so the spawner imports what it needs by the names that it has everywhere, and nothing else.
_ENTRY = (
    "import sys; grid = sys.modules['grid'] = type(sys)('grid'); grid.__path__ = [sys.argv[1]]; "
    "from grid.service.executors.supervisor.spawner import spawn; spawn(0, 1)"
)
_END_SECONDS = 5.0
"""How long the spawner may take to end."""


def spawner_command() -> list[str]:
    """The command of a spawner, which reads jobs from its input and reports on its output."""
    # -I and -S: nothing of the user's environment decides what the supervisor is.
    return [sys.executable, "-I", "-S", "-c", _ENTRY, str(GRID)]


class SpawnerClient(asyncio.SubprocessProtocol):
    """A spawner that runs, or has run.

    Not asyncio's streams: for those a process has not ended before its pipes have, and every supervisor holds one of
    them for as long as its script runs.

    Parameters
    ----------
    on_report
        Is told what the spawner and its supervisors say: an event, the attempt's folder, and more.
    """

    def __init__(self, on_report: Callable[..., None]) -> None:
        self._on_report = on_report
        self._unread = b""
        self.exited = asyncio.Event()

    @classmethod
    async def start(cls, on_report: Callable[..., None]) -> SpawnerClient:
        """Start one."""
        # A session of its own: Ctrl-C in the terminal of a service that was started there reaches neither it nor the
        # scripts.
        _, spawner = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(on_report),
            *spawner_command(),
            stderr=None,
            start_new_session=True,
            cwd="/",
        )
        return spawner

    def send(self, line: bytes) -> None:
        """Tell it of a job."""
        self._stdin.write(line)

    async def close(self) -> None:
        """Let it end; supervisors go on."""
        self._stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), _END_SECONDS)
        self._transport.close()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process exists."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, _fd: int, received: bytes) -> None:
        """It has said something."""
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            self._on_report(*os.fsdecode(line).split("\t"))

    def process_exited(self) -> None:
        """It has ended; its supervisors may go on and still have something to say."""
        self.exited.set()

    @property
    def _stdin(self) -> asyncio.WriteTransport:
        return cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
