"""Which process a pid stands for: one function for client, service and supervisor alike.

The supervisor imports this once for each experiment: nothing large here, and no more than is needed.
"""

from __future__ import annotations

import functools
import os
import sys

PROC = "/proc"


def process_start(pid: int) -> str | None:
    """Return when a process started, in a form that is only good for comparing; None if no such process is alive.

    With the boot id this tells a process from a later one that was given the same pid.

    Raises
    ------
    OSError
        If the system does not say. Not knowing is not proof of death.
    """
    if sys.platform != "linux":
        return "-".join(ps("-o", "lstart=", "-p", str(pid)).split()) or None
    try:
        with open(f"{PROC}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = status_fields(file.read())
    except (FileNotFoundError, ProcessLookupError):
        if not os.path.exists(f"{PROC}/self/stat"):
            raise
        return None
    return None if fields[0] in "ZX" else fields[19]


@functools.cache
def boot_id() -> str:
    """Return which boot of the machine this is; empty on systems that do not have such a thing.

    Raises
    ------
    OSError
        If it cannot be read at the moment.
    """
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        if sys.platform == "linux" and not os.path.exists(f"{PROC}/self/stat"):
            raise
        return ""


def status_fields(status: str) -> list[str]:
    """Split what ``/proc/PID/stat`` says, from the state of the process on."""
    # The command, in parentheses, may hold anything: what follows the last one is what can be split.
    return status.rpartition(")")[2].split()


def ps(*options: str) -> str:
    """Return what ``ps`` prints."""
    # Not used on Linux, and so not imported there: the spawner must stay small.
    import subprocess  # noqa: PLC0415

    return subprocess.run(["ps", *options], capture_output=True, text=True, check=False).stdout
