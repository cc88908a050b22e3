"""What the service cannot compute and has to take from the world: the time, randomness, and whose machine this is.

It is injected, so that what somebody records of a service can be recorded again and be the same.
"""

from __future__ import annotations

import secrets
import time
import uuid

from grid.service.system import machine


class World:
    """The real one."""

    def now(self) -> int:
        """Now, in microseconds since the epoch."""
        return time.time_ns() // 1000

    def new_id(self) -> str:
        """An identifier that was never used before."""
        return uuid.uuid4().hex

    def below(self, bound: int) -> int:
        """A whole number from 0 to ``bound - 1``."""
        return secrets.randbelow(bound)

    def key(self) -> str:
        """A new API key: 256 bits, safe in headers and shells."""
        return "grid_" + secrets.token_urlsafe(32)

    def secret(self) -> bytes:
        """A new signing secret: 256 bits."""
        return secrets.token_bytes(32)

    def account(self) -> str:
        """The name of whoever's home this is."""
        return machine.account()
