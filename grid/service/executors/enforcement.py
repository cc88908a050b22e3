"""What is done to an attempt whose supervisor does not carry out an order, because its script has stopped it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from grid.service.executors.supervisor.process_tree import descendants
from grid.shared.processes import PROC, process_start, status_fields

_ROUNDS = 50
"""How often the processes below a supervisor are looked for and killed before the supervisor is: some keep forking."""

_STATE, _PARENT, _EXIT_STATUS = 0, 1, 49
"""Places in ``/proc/PID/stat`` from the state on: see proc_pid_stat(5)."""


def status_of_ended(script: int, supervisor: int) -> int | None:
    """Return the wait status of a script that has ended and that its supervisor has not waited for.

    Parameters
    ----------
    script, supervisor
        Their pids.

    Returns
    -------
    int
        As `os.waitpid` gives it; None if the script runs, is gone, or belongs to another, or on systems without
        ``/proc``.
    """
    fields = _fields(script)
    if fields is None or fields[_STATE] != "Z" or fields[_PARENT] != str(supervisor):
        return None
    try:
        # To other users the system shows 0 in its place.
        return int(fields[_EXIT_STATUS]) if Path(PROC, str(script)).stat().st_uid == os.geteuid() else None
    except OSError:
        return None


def disobeys(supervisor: int) -> bool:
    """Return whether a supervisor is stopped, or has processes that live.

    One that has neither only clears up, or waits for the disk.
    """
    return is_stopped(supervisor) or bool(_living(supervisor))


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped."""
    fields = _fields(pid)
    return fields is not None and fields[_STATE] in "Tt"


def kill(supervisor: int) -> None:
    """Kill every process below a supervisor, and then the supervisor.

    In this order, because whatever is forked meanwhile stays below it.
    """
    for _ in range(_ROUNDS):
        living = _living(supervisor)
        if not living:
            break
        for pid in living:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(supervisor, signal.SIGKILL)


def _living(supervisor: int) -> list[int]:
    living = []
    for pid in descendants(supervisor):
        with suppress(OSError):
            if process_start(pid) is not None:
                living.append(pid)
    return living


def _fields(pid: int) -> list[str] | None:
    try:
        return status_fields(Path(PROC, str(pid), "stat").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
