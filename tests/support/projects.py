"""Projects in git whose scripts are run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_project(folder: Path, script: str, name: str = "run.py", origin: str = "") -> Path:
    """Make a git repository with one committed script; return the script's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(script)
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    if origin:
        subprocess.run(["git", "remote", "add", "origin", origin], cwd=folder, check=True)
    return folder / name
