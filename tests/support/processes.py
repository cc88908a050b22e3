"""Processes of this machine, by their pids."""

from __future__ import annotations

import psutil


def is_alive(pid: int) -> bool:
    """Whether there is a process of that pid that does anything yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
