"""The names of the files of an attempt; `docs/lifecycle.md` says where each lies, and what it means.

Next to nothing: the supervisor imports this, and every experiment pays for what the supervisor imports.
"""

from __future__ import annotations

SPAWNER = "spawner"
CLAIM = "claim"
CANCEL = "cancel"
STOP = "stop"
CGROUP = "cgroup"
TMP = "tmp"
STARTED = "started"
EXIT = "exit"
OUTPUT = "output"
METRICS = "metrics"
ROOM = "room"
WORK = "work"

LONGEST_TMP = 60
"""How many bytes the path of a temporary folder may have before a shorter one leads to it."""


def short_name(temporary: str) -> str:
    """Return the path of the link that leads to a temporary folder whose own is too long."""
    return f"/tmp/{temporary.rpartition('/')[2]}"  # noqa: S108 - where it is writable, it is so for everybody
