"""What the files in an attempt's folder are called: `docs/lifecycle.md` says what each means.

Constants alone: the supervisor imports this, whose imports are paid once for each experiment.
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
