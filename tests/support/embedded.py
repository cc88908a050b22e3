"""The embedded service of a home, past the client's own code: what it says of itself, its processes, stopping it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from grid.shared.holder import Holder
from tests.support.processes import processes_of
from tests.support.waiting import wait_until


def record(home: Path) -> dict[str, Any]:
    """Return what the embedded service of a home says of itself; empty if there is none."""
    try:
        content: dict[str, Any] = json.loads((home / "service" / "service.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content


def owner(home: Path) -> int | None:
    """Return the pid of the process that has a home, or had it last; None if no process is recorded."""
    holder = Holder.read(home / "service" / "owner")
    return None if holder is None else holder.pid


def serving(home: Path) -> int:
    """Wait for a service that serves a home; return its pid."""
    return wait_until(lambda: (pid := record(home).get("pid")) == owner(home) and pid, "a service")


def keeper(home: Path) -> Holder:
    """Return the keeper of a home."""
    found = Holder.read(home / "service" / "keeper")
    assert found is not None
    return found


def is_empty(home: Path) -> bool:
    """Return whether no process of a home is left."""
    return not processes_of(home)


def stop(home: Path) -> None:
    """Stop the embedded service as its user would."""
    subprocess.run([sys.executable, "-m", "grid.service", "stop", "--home", str(home)], check=True, capture_output=True)
