"""Processes of this machine, by their pids and by the home that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil


def is_alive(pid: int) -> bool:
    """Whether there is a process of that pid, other than a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of(home: Path, told: Mapping[int, int] | None = None) -> list[psutil.Process]:
    """Return every process that belongs to a home by its environment, or because its pid was told.

    Parameters
    ----------
    home
        The `GRID_HOME`.
    told
        Further pids, each with the time (microseconds since the epoch) at which its process was there already.
    """
    told = told or {}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_told = process.pid in told and process.create_time() * 1e6 <= told[process.pid] + 1e6
            if (is_told or process.environ().get("GRID_HOME") == str(home)) and is_alive(process.pid):
                found.append(process)
    return found
