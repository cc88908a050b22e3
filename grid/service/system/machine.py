"""What this machine has, and which account the service runs under."""

from __future__ import annotations

import getpass
import os
from pathlib import Path


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_count() -> int:
    """Return how many NVIDIA GPUs the driver shows; their ids count from 0."""
    try:
        return sum(1 for _ in Path("/proc/driver/nvidia/gpus").iterdir())
    except FileNotFoundError:
        return 0


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
