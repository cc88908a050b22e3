"""Tests of a service that stops by itself when it has nothing to do: when it does, and when it does not."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from grid import list_runs
from grid import session as sessions
from grid.service.app import Application, opened
from grid.service.options import Options
from grid.service.store import accounts
from grid.wire import ExperimentStatus
from tests.experiments import insert_run
from tests.support import service_process, wait_until


def test_stops_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    """A service with nothing to do stops, ends in good order, and takes back what it said of itself."""
    with service_process(tmp_path, "--cpus", "1") as running:
        sessions.use(running.session())
        list_runs()
        running.stop()
        running.start("--idle", "0.2")
        wait_until(lambda: running.process.poll() is not None, "the end of an idle service")
        assert running.process.returncode == 0
        assert "idle for 0.2 s" in running.log.read_text()
        assert not (running.home / "service" / "service.json").exists()


@pytest.mark.parametrize("status", ExperimentStatus)
def test_what_keeps_a_service_from_stopping(tmp_path: Path, status: ExperimentStatus) -> None:
    """A service is idle when nobody has called for a while and every experiment has ended, and only then."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1, idle_seconds=60)) as application:
            database = application.service.database
            await database.write(lambda connection: accounts.set_paused(connection, "local", paused=True))
            assert not await application.is_idle()
            application.last_call -= 61
            assert await application.is_idle()
            await database.write(lambda connection: insert_run(connection, ExperimentStatus.FAILED, status))
            assert await application.is_idle() == status.is_terminal

    asyncio.run(play())


def test_who_calls_without_a_key_keeps_no_service_alive(tmp_path: Path) -> None:
    """Only a request of a user counts as a call."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1, idle_seconds=60)) as application:
            await application.add_user("somebody", "key")
            application.last_call -= 61
            for key, idle in (("wrong", True), ("key", False)):
                await post(application, "somebody", key)
                assert await application.is_idle() == idle

    asyncio.run(play())


async def post(application: Application, user: str, key: str) -> None:
    """Send a query to an application, as its server would."""
    authorization = b"Basic " + base64.b64encode(f"{user}:{key}".encode())
    headers = [(b"authorization", authorization), (b"content-type", b"application/json"), (b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"query": "{ apiVersion }"}', "more_body": False}

    async def send(_: Any) -> None:
        pass

    await application.asgi(scope | {"http_version": "1.1", "scheme": "http"}, receive, send)
