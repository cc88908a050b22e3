"""The names of the files in an attempt's folder; `docs/lifecycle.md` says what each means.

Nothing but constants: the supervisor imports this, and every experiment pays for what the supervisor imports.
"""

from __future__ import annotations

CLAIM = "claim"
CANCEL = "cancel"
STOP = "stop"
CGROUP = "cgroup"
STARTED = "started"
EXIT = "exit"
OUTPUT = "output"
WORK = "work"
