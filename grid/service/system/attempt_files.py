"""The names of the files of an attempt; `docs/lifecycle.md` says where each lies, and what it means.

Nothing but constants: the supervisor imports this, and every experiment pays for what the supervisor imports.
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
