"""What this machine has, and which account the service runs under."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

from grid.service.system import control_groups, gpus
from grid.service.system.gpus import Gpu


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use of the machine that it runs on."""

    cpus: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    """Whatever ``CUDA_VISIBLE_DEVICES`` says."""
    gpus_note: str = ""
    """Why there are no more of them, if there is something to say."""


def this_machine(root: Path = Path("/")) -> Machine:
    """Return what this process may use.

    Parameters
    ----------
    root
        A folder in which to find ``/proc``, ``/dev`` and control groups, instead of the machine's own root.
    """
    found, note = gpus.count() if gpus.has_driver(root) else ((), "")
    return Machine(cpu_count(root), memory_bytes(root), found, note)


def cpu_count(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use: those of its affinity mask, and of its control groups' quota."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(there, control_groups.cpu_quota(_prefix(root)))))


def memory_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this process may use: the machine's, or what its control groups allow."""
    try:
        lines = (root / "proc" / "meminfo").read_text(encoding="ascii").splitlines()
        there = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except FileNotFoundError:  # not Linux
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min(there, control_groups.memory_limit(_prefix(root))))


def _prefix(root: Path) -> str:
    return str(root).rstrip("/")


def boot_time() -> float:
    """Return when this machine was started, in seconds since the epoch; 0 if the system does not say."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)


def account() -> str:
    """Return the name of the system account, or one made of its number if it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user{os.getuid()}"
