"""A service that behaves the same every time; its `main` takes the home.

None of its parts is replaced but time and chance.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from grid.service.command.server import serve
from grid.service.system.settings import Options
from grid.service.system.world import World

_NOON = 1_600_000_000_000_000  # 2020-09-13 12:26:40 UTC, in microseconds


class FixedWorld(World):
    """A clock that stands still, and random numbers from a seed."""

    def __init__(self) -> None:
        self._random = random.Random(2020)

    def now(self) -> int:
        return _NOON

    def new_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def key(self) -> str:
        return "grid_recording"

    def secret(self) -> bytes:
        return b"recording"

    def account(self) -> str:
        return "ada"


def main(arguments: list[str]) -> int:
    """Serve the home that is the only argument, until told to stop."""
    (home,) = arguments
    asyncio.run(serve(Options(home=Path(home), cpus=2, gpus=0), FixedWorld()))
    return 0
