"""Named points at which a test lets the service die, fail or hold still; nothing where `GRID_FAILPOINTS` is not set.

The points stand before and after what has an effect that outlives a process: a commit, a rename, a process that is
started, a signal. Spawner and supervisor import this, too: nothing but the standard library, and what is as light.

`GRID_FAILPOINTS` is a list of rules ``name:number:action``, separated by semicolons; an empty one only counts.
The name is a pattern as a shell has them. The number says which of the hits of that name it is: ``3`` for the third,
``3+`` for the third and all after it. The actions are

``kill``
    Kill the service (SIGKILL), whichever of its processes came to the point.
``die``
    Kill the process that came to the point: a supervisor, the spawner.
``raise``, ``raise=FILE``
    Raise `OSError`, as a disk does that is full; where a file is named, only while there is one.
``wait=FILE``
    Hold still until the file has as many bytes as the rule has had hits: each byte lets one go on.
``delay=SEED``
    Hold still for up to five milliseconds, which the seed and the hit's number decide.

`GRID_FAILPOINTS_LOG` is a file that all processes write into, a line for each hit: its name, the pid and what was done.
What is counted are its lines, so that the numbers hold across processes.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import fnmatch
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grid.shared.processes import process_start

_SERVICE = "GRID_FAILPOINTS_SERVICE"
"""Tells the processes that the service starts which one it is."""
_POLL_SECONDS = 0.002
_MAX_DELAY_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    number: int
    repeated: bool
    action: str

    def applies(self, name: str, hits: int) -> bool:
        verb, _, file = self.action.partition("=")
        return (
            fnmatch.fnmatchcase(name, self.pattern)
            and (hits >= self.number if self.repeated else hits == self.number)
            and (verb != "raise" or not file or Path(file).exists())
        )


class _Plan:
    """Rules, and the file that counts for all processes."""

    def __init__(self, text: str, log: str) -> None:
        self._rules = [_rule(part) for part in text.split(";") if part]
        self._log = log
        # Whoever inherits this from the service is one of its processes.
        self.service = int(os.environ.setdefault(_SERVICE, str(os.getpid())))

    def hit(self, name: str) -> Iterator[float]:
        """Do what the rules say of this hit; yield how long to hold still before going on."""
        descriptor = os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            lines = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().splitlines()
            names = [*(line.split(" ")[0] for line in lines), name]
            hits = {rule: sum(fnmatch.fnmatchcase(each, rule.pattern) for each in names) for rule in self._rules}
            due = [rule for rule in self._rules if rule.applies(name, hits[rule])]
            # Before anything is done: the process may not come back to say so.
            done = ",".join(rule.action for rule in due) or "-"
            os.write(descriptor, f"{name} {os.getpid()} {done}\n".encode())
        finally:
            os.close(descriptor)
        for rule in due:
            verb, _, rest = rule.action.partition("=")
            if verb == "kill":
                self._kill_service()
            elif verb == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif verb == "raise":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            elif verb == "wait":
                while _size(rest) < hits[rule]:
                    yield _POLL_SECONDS
            else:
                yield random.Random(f"{rest} {hits[rule]}").uniform(0, _MAX_DELAY_SECONDS)  # noqa: S311 - no secret

    def _kill_service(self) -> None:
        os.kill(self.service, signal.SIGKILL)
        while self.service != os.getpid() and process_start(self.service) is not None:
            time.sleep(_POLL_SECONDS)


def reached(name: str) -> None:
    """Say that a point is reached; it may be the end of this process, and it may take long."""
    if _plan is not None:
        for seconds in _plan.hit(name):
            time.sleep(seconds)


async def reached_async(name: str) -> None:
    """Say so on an event loop, which goes on meanwhile where the point holds still."""
    if _plan is not None:
        for seconds in _plan.hit(name):
            await asyncio.sleep(seconds)


def arm() -> None:
    """Read the rules from the environment, as it is done when this module is imported."""
    global _plan  # noqa: PLW0603 - it belongs to the process, as its environment does
    text = os.environ.get("GRID_FAILPOINTS")
    _plan = None if text is None else _Plan(text, os.environ["GRID_FAILPOINTS_LOG"])


def _rule(text: str) -> _Rule:
    pattern, number, action = text.split(":", 2)
    verb = action.partition("=")[0]
    if verb not in ("kill", "die", "raise", "wait", "delay"):
        message = f"GRID_FAILPOINTS={text!r}: the actions are kill, die, raise=FILE, wait=FILE and delay=SEED"
        raise ValueError(message)
    return _Rule(pattern, int(number.rstrip("+")), number.endswith("+"), action)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


_plan: _Plan | None = None
arm()
