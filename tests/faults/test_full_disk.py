"""Tests of the operator's commands on a full disk: each says so, exits with 75, and has changed nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.disks import small_disk
from tests.support.environments import clean_environment
from tests.support.people import add_user, endpoint_of, operate, operated
from tests.support.requests import ask
from tests.support.services import ServiceProcess, service_process

COMMANDS = [
    "users add new",
    "users rotate ada",
    "users rotate {own}",
    "users disable ada",
    "users enable bea",
    "teams add speech",
    "teams join vision bea",
    "teams leave vision ada",
]


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no room on the disk of a folder."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    try:
        yield
    finally:
        filler.unlink()


def state_of(home: Path) -> tuple[list[str], dict[str, bytes]]:
    """What commands may change: the tables of users, keys and teams, and the files with keys."""
    with closing(sqlite3.connect(home / "grid.sqlite3")) as connection:
        tables = ("users", "api_keys", "teams", "memberships")
        rows = [repr(row) for each in tables for row in connection.execute(f"SELECT * FROM {each} ORDER BY 1, 2")]  # noqa: S608
    files = {path.name: path.read_bytes() for path in (home / "service").iterdir() if not path.is_symlink()}
    return rows, {name: content for name, content in files.items() if name in ("api-key", "service.json")}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service with users and a team, on a small disk."""
    with small_disk(tmp_path / "disk", 8) as disk, service_process(disk, "--cpus", "1") as running:
        operated(running.home, "teams", "add", "vision")
        add_user(running, "ada", "vision")
        add_user(running, "bea")
        operated(running.home, "users", "disable", "bea")
        yield running


@pytest.mark.parametrize("is_running", [True, False])
def test_commands(service: ServiceProcess, is_running: bool) -> None:
    """Whether or not a service runs: what is refused has changed nothing, and what is not is done as a whole."""
    if not is_running:
        service.stop()
    refused = []
    for text in COMMANDS:
        words = text.format(own=service.username).split()
        before = state_of(service.home)
        with filled(service.home.parent):
            told = operate(service.home, *words)
        if told.returncode == 0:
            assert state_of(service.home) != before, text
            continue
        refused.append(text)
        assert (told.returncode, told.stdout) == (75, ""), (text, told.stderr)
        assert "error: " in told.stderr
        assert "Traceback" not in told.stderr
        assert state_of(service.home) == before, text
    assert refused == COMMANDS or is_running
    # A key that was printed is the one that is accepted, there and by login().
    printed = operated(service.home, "users", "rotate", service.username)
    if is_running:
        endpoint = endpoint_of(printed)
        assert ask(endpoint, "{ viewer { username } }")["data"]["viewer"]["username"] == service.username
        record = json.loads((service.home / "service" / "service.json").read_text())
        assert record["api_key"] == endpoint.api_key == (service.home / "service" / "api-key").read_text()
    assert {path.suffix for path in (service.home / "service").iterdir()} <= {"", ".json", ".lock"}


@pytest.mark.parametrize("text", ["users add new", "users rotate ada", "users rotate {own}", "users list"])
def test_output_on_a_full_disk(service: ServiceProcess, tmp_path: Path, text: str) -> None:
    """A key for which the file has no room is not made, and nothing is left in the file."""
    words = text.format(own=service.username).split()
    before = state_of(service.home)
    command = [sys.executable, "-m", "grid.service", *words]
    with small_disk(tmp_path / "full", 1) as disk, (disk / "out").open("wb") as out, filled(disk):
        environment = clean_environment(service.home.parent)
        told = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
        assert os.fstat(out.fileno()).st_size == 0
    assert told.returncode == 75, told.stderr
    assert told.stderr == "error: cannot print the answer: No space left on device; nothing was changed\n"
    assert state_of(service.home) == before


@pytest.mark.parametrize("text", ["status", "credentials"])
def test_output_of_what_only_reads(service: ServiceProcess, text: str) -> None:
    """A command that changes nothing says the same of a disk that is full."""
    with open("/dev/full", "wb") as full:
        told = subprocess.run(
            [sys.executable, "-m", "grid.service", text],
            env=clean_environment(service.home.parent),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (told.returncode, told.stderr) == (
        75,
        "error: No space left on device: make room on that disk, and run this again\n",
    )
