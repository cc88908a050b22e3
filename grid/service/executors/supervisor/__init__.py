"""The processes between the service and a script: one spawner, and one supervisor for each experiment.

They run under the service's interpreter with nothing but the standard library, so this package imports nothing of
Grid's, and its modules each other by relative names: to the spawner it is a package at the top, see ``ENTRY``. Nothing
here knows of databases, users or GraphQL. ``docs/lifecycle.md`` says what each name in an attempt's folder means.

All of it is paid once for each experiment, so it counts how often the disk and the kernel are asked.
"""

from __future__ import annotations

from .processes import boot_id, process_start

__all__ = [
    "CANCEL",
    "CGROUP",
    "CLAIM",
    "ENTRY",
    "EXIT",
    "OUTPUT",
    "STARTED",
    "STOP",
    "WORK",
    "boot_id",
    "process_start",
]

CLAIM = "claim"
CANCEL = "cancel"
STOP = "stop"
CGROUP = "cgroup"
STARTED = "started"
EXIT = "exit"
OUTPUT = "output"
WORK = "work"

ENTRY = (
    f"import sys; sys.path.append(sys.argv[1]); from {__name__.rpartition('.')[2]}.spawner import spawn; spawn(0, 1)"
)
"""A program for ``python -I -S -c``, whose only argument is the folder that this package is in.

Grid is not imported, only what is in this folder: to start a process must not cost what a service does.
"""
