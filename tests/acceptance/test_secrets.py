"""Secrets of the process that logs in: nothing that outlives it has them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import grid
from grid.shared import environment
from grid.shared.wire import RESERVED_VARIABLES
from tests.support.embedded import keeper
from tests.support.environments import clean_environment
from tests.support.experiments import starter
from tests.support.waiting import wait_until

SECRETS = {"AWS_SECRET_ACCESS_KEY": "mellon", "DATABASE_URL": "postgres://me:mellon@db", "GRID_API_KEY": "mellon"}
KEPT = {"CUDA_VISIBLE_DEVICES": "1", "HTTPS_PROXY": "http://proxy:3128", "GRID_LOCAL_CPUS": "2", "LC_NAME": "C"}


def test_secrets_of_the_process_that_logs_in(grid_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeper, service, spawner, supervisor and script have what is listed, which includes settings, and no secret."""
    carried = clean_environment(grid_home.parent, **SECRETS, **KEPT)
    subprocess.run([sys.executable, "-c", "from grid import login; login()"], env=carried, check=True, timeout=90)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", KEPT["CUDA_VISIBLE_DEVICES"])
    grid.login()
    run = starter(tmp_path)("import time\ntime.sleep(1000)\n")
    wait_until(lambda: run.status().keys() == {"RUNNING"}, "a script")
    first = psutil.Process(keeper(grid_home).pid)
    started = [first, *first.children(recursive=True)]
    assert len(started) == 5
    for process in started:
        found = process.environ()
        assert "mellon" not in str(found), process
        assert found.keys() & SECRETS.keys() == set()
    for process in started[:4]:
        assert {name: process.environ().get(name) for name in KEPT} == KEPT
    run.cancel()
    (cluster,) = grid.list_clusters()
    assert cluster.cpus == 2


def test_every_setting_is_handed_on() -> None:
    """Every variable that a service reads reaches one that a login starts, and none of the client's own does."""
    root = Path(grid.__file__).parent / "service"
    texts = [path.read_text(encoding="utf-8") for path in root.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"""["'](GRID_[A-Z_]+)["']""", text)}
    assert "GRID_LOCAL_CPUS" in named
    read = named - RESERVED_VARIABLES
    assert environment.of_service(dict.fromkeys(read, "")).keys() == read
    clients = ("GRID_API_KEY", "GRID_HTTP_TIMEOUT", "GRID_URL", "GRID_USER_ID")
    assert environment.of_service(dict.fromkeys(clients, "")) == {}
