"""Tests of opening the parts of a service: if one cannot be opened, the others leave neither threads nor processes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import psutil
import pytest

from grid.service.http.app import opened
from grid.service.store.database import Database
from grid.service.system.settings import OptionError, Options
from grid.shared.wire import ExperimentStatus
from tests.support.experiments import insert_run


def held() -> set[object]:
    """What this process holds: threads of a database, files, processes."""
    process = psutil.Process()
    threads = {
        thread for thread in threading.enumerate() if thread.name.startswith("grid-") and "loop" not in thread.name
    }
    return {*threads, *(file.path for file in process.open_files()), *process.children()}


async def play(options: Options) -> None:
    """Open a service, and close it if that has succeeded."""
    async with opened(options):
        pass


def test_database_of_another_home(tmp_path: Path) -> None:
    """What was opened before the database was found to be another home's is closed."""
    database = f"sqlite:///{tmp_path}/shared.sqlite3"
    asyncio.run(play(Options(home=tmp_path / "one", cpus=1, database=database)))
    before = held()
    with pytest.raises(OptionError, match="another home"):
        asyncio.run(play(Options(home=tmp_path / "two", cpus=1, database=database)))
    assert held() == before


def test_experiment_that_cannot_be_adopted(tmp_path: Path) -> None:
    """The spawner and the connection that looks up keys, which were opened before, are closed as well."""
    options = Options(home=tmp_path / "home", cpus=1)
    asyncio.run(play(options))

    async def spoil() -> None:
        database = Database(options.home / "grid.sqlite3")
        await database.write(lambda connection: insert_run(connection, ExperimentStatus.RUNNING, gpu_ids="no JSON"))
        database.close()

    asyncio.run(spoil())
    before = held()
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(play(options))
    assert held() == before
