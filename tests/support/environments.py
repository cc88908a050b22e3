"""The environment of a process that is a new user's."""

from __future__ import annotations

import os
from pathlib import Path


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a new user whose GRID_HOME is `home`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRID_")}
    return {**inherited, "HOME": str(home), "GRID_HOME": str(home / ".grid"), **more}
