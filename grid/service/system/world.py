"""What the service cannot compute and must take from the world: the time, randomness, the machine and whose it is.

It is injected, so that the cassettes recorded from a service come out the same every time.
"""

from __future__ import annotations

import secrets
import time
import uuid

from grid.service.system import machine
from grid.service.system.machine import Machine


class World:
    """The real world; the tests inject one that can be repeated."""

    def now(self) -> int:
        """Return the current time, in microseconds since the epoch."""
        return time.time_ns() // 1000

    def new_id(self) -> str:
        """Return an identifier that was never used before."""
        return uuid.uuid4().hex

    def below(self, bound: int) -> int:
        """Return a random whole number from 0 to ``bound - 1``."""
        return secrets.randbelow(bound)

    def key(self) -> str:
        """Return a new API key: 256 random bits, safe in headers and shells."""
        return "grid_" + secrets.token_urlsafe(32)

    def secret(self) -> bytes:
        """Return a new signing secret of 256 random bits."""
        return secrets.token_bytes(32)

    def account(self) -> str:
        """Return the name of the system account that the service's home belongs to."""
        return machine.account()

    def machine(self) -> Machine:
        """Return what the service may use of the machine that it runs on."""
        return machine.this_machine()
