"""Named points at which a test makes the service die, fail or pause; they do nothing unless `GRID_FAILPOINTS` is set.

The points stand before and after everything whose effect outlives a process: a commit, a rename, the start of a
process, a signal. Spawner and supervisor import this module too, so it imports only the standard library and what is
just as light.

`GRID_FAILPOINTS` is a list of rules ``name:number:action``, separated by semicolons; an empty list only counts.
The name is a shell-style pattern. The number says which hit of that name is meant: ``3`` for the third, ``3+`` for the
third and all that follow. The actions are

``kill``
    Kill the service (SIGKILL), whichever of its processes reached the point.
``die``
    Kill the process that reached the point: a supervisor, the spawner.
``raise``, ``raise=FILE``
    Raise the `OSError` of a full disk; if a file is named, only while that file exists.
``wait=FILE``
    Pause until the file has as many bytes as the rule has had hits: each byte releases one.
``delay=SEED``
    Pause for up to five milliseconds; the seed and the hit's number decide for how long.

`GRID_FAILPOINTS_LOG` is a file to which every process writes a line for each hit: its name, the pid and what was done.
Hits are counted by its lines, so the numbers hold across processes.
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
    """The rules, and the file in which all processes count their hits."""

    def __init__(self, text: str, log: str) -> None:
        self._rules = [_rule(part) for part in text.split(";") if part]
        self._log = log
        # A process that inherits this from the service is one of the service's own.
        self.service = int(os.environ.setdefault(_SERVICE, str(os.getpid())))

    def hit(self, name: str) -> Iterator[float]:
        """Do what the rules say about this hit; yield how many seconds to pause before looking again."""
        descriptor = os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            lines = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().splitlines()
            names = [*(line.split(" ")[0] for line in lines), name]
            hits = {rule: sum(fnmatch.fnmatchcase(each, rule.pattern) for each in names) for rule in self._rules}
            due = [rule for rule in self._rules if rule.applies(name, hits[rule])]
            # Written before anything is done: the process may not live to write it afterwards.
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
    """Report that a point is reached. This may take long, and may be the end of this process."""
    if _plan is not None:
        for seconds in _plan.hit(name):
            time.sleep(seconds)


async def reached_async(name: str) -> None:
    """Do the same as `reached` on an event loop, which goes on while the point pauses."""
    if _plan is not None:
        for seconds in _plan.hit(name):
            await asyncio.sleep(seconds)


def arm() -> None:
    """Read the rules from the environment again; importing this module does so once."""
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
