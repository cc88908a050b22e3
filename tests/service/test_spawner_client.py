"""Tests of how the spawner is started: the rest of what it does is seen in the attempts of `test_local.py`."""

from __future__ import annotations

import subprocess

from grid.service.executors.spawner_client import spawner_command

SUPERVISOR = "grid.service.executors.supervisor"
LIGHT = {
    "grid.service",
    "grid.service.executors",
    "grid.service.system",
    "grid.service.system.attempt_files",
    "grid.service.system.control_groups",
    "grid.service.system.removal",
    "grid.service.system.walking",
    "grid.shared",
    "grid.shared.processes",
    "grid.shared.wire",
}
LARGE = {
    "asyncio",
    "dataclasses",
    "inspect",
    "pathlib",
    "random",
    "runpy",
    "shutil",
    "subprocess",
    "tempfile",
    "typing",
}


def test_spawner_is_small() -> None:
    """Of Grid the spawner imports only its own package and what is light, and nothing large of the standard library."""
    python, *rest = spawner_command()
    done = subprocess.run(
        [python, "-X", "importtime", *rest], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    ours = {name for name in imported if name.partition(".")[0] == "grid"}
    assert f"{SUPERVISOR}.spawner" in ours
    assert {name for name in ours if not name.startswith(SUPERVISOR)} == LIGHT
    assert not imported & LARGE
