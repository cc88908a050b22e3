"""Tests of a service that stops by itself when it has nothing to do: when it does, and when it does not."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from grid import Run, list_runs
from grid.service.http.app import Application, opened
from grid.service.store import cluster_rows
from grid.service.system.settings import Options
from grid.session import session as sessions
from grid.shared.wire import ExperimentStatus
from tests.faults.ledger import rows
from tests.support.experiments import database_of, insert_run, starter
from tests.support.services import service_process
from tests.support.waiting import wait_for_run, wait_until


def test_stops_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    """A service with nothing to do stops, ends properly, and removes its record."""
    with service_process(tmp_path, "--cpus", "1") as running:
        sessions.use(running.session())
        list_runs()
        running.stop()
        running.start("--idle", "0.2")
        wait_until(lambda: running.process.poll() is not None, "the end of an idle service")
        assert running.process.returncode == 0
        assert "idle for 0.2 s" in running.log.read_text()
        assert not (running.home / "service" / "service.json").exists()


HELD = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"


def test_run_that_is_started_while_it_stops(tmp_path: Path) -> None:
    """A run that is being accepted when the service finds itself idle is not lost: the service goes on, and runs it."""
    passing, release = tmp_path / "passing", tmp_path / "release"
    passing.write_bytes(bytes(10_000))
    release.touch()
    plan = {"GRID_FAILPOINTS": f"database.commit.before:1+:wait={passing}"}
    plan["GRID_FAILPOINTS_LOG"] = str(tmp_path / "hits")
    with service_process(tmp_path, "--cpus", "1", **plan) as running:
        sessions.use(running.session())
        wait_for_run(starter(tmp_path)(HELD, str(release), script="first.py"))
        release.unlink()
        running.stop()
        running.start("--idle", "6")
        sessions.use(running.session())
        again = Run(
            entrypoint=str(tmp_path / "project-0" / "first.py"), script_args=str(release), localdir=True, cpus=1
        )
        # Nothing is committed from here on: the next request waits in the middle.
        passing.write_bytes(b"")
        starting = threading.Thread(target=again.start)
        starting.start()
        wait_until(lambda: "idle for 6 s" in running.log.read_text(), "a service that finds itself idle")
        passing.write_bytes(bytes(10_000))
        starting.join(60)
        wait_until(lambda: "there is work again" in running.log.read_text(), "a service that looks again")
        release.touch()
        assert running.process.wait(60) == 0
        assert rows(running.home, "SELECT status FROM experiments") == [{"status": "SUCCEEDED"}] * 2


def test_database_error_while_it_looks(tmp_path: Path) -> None:
    """A service that cannot tell whether it is idle checks again, and stops once it can tell and is."""
    with service_process(tmp_path, "--cpus", "1", "--idle", "1") as running:
        with database_of(running) as connection:
            connection.execute("ALTER TABLE experiments RENAME TO hidden")
        wait_until(lambda: "cannot tell whether there is work" in running.log.read_text(), "a look that fails")
        assert running.process.poll() is None
        with database_of(running) as connection:
            connection.execute("ALTER TABLE hidden RENAME TO experiments")
        assert running.process.wait(60) == 0
        assert "idle for 1 s" in running.log.read_text()


@pytest.mark.parametrize("status", ExperimentStatus)
def test_what_keeps_a_service_from_stopping(tmp_path: Path, status: ExperimentStatus) -> None:
    """A service is idle if and only if no request has come for a while and every experiment has ended."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1, idle_seconds=60)) as application:
            database = application.service.database
            await database.write(lambda connection: cluster_rows.set_paused(connection, "local", paused=True))
            assert not await application.is_idle()
            application.last_call -= 61
            assert await application.is_idle()
            await database.write(lambda connection: insert_run(connection, ExperimentStatus.FAILED, status))
            assert await application.is_idle() == status.is_terminal

    asyncio.run(play())


def test_upload_keeps_a_service_from_stopping(tmp_path: Path) -> None:
    """While something is uploaded a service is not idle, however long that takes."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1, idle_seconds=60)) as application:
            looked = []

            async def receive() -> dict[str, Any]:
                application.last_call -= 61
                looked.append(await application.is_idle())
                return {"type": "http.request", "body": b"", "more_body": False}

            user = await application.add_user("somebody", "key")
            upload = await application.service.snapshots.announce(user.id, "0" * 64, 1)
            assert upload is not None
            await put(application, upload.path, receive)
            assert looked == [False]
            assert not await application.is_idle()
            application.last_call -= 61
            assert await application.is_idle()

    asyncio.run(play())


def test_calls_without_a_key_do_not_keep_a_service_alive(tmp_path: Path) -> None:
    """Only a request of a user counts as a call, and an upload to an address that was signed for one."""

    async def receive() -> dict[str, Any]:
        pytest.fail("the body was read")

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1, idle_seconds=60)) as application:
            await application.add_user("somebody", "key")
            application.last_call -= 61
            await put(application, "/snapshots/" + "0" * 64 + "?size=1&expires=9&signature=0", receive)
            assert await application.is_idle()
            for key, idle in (("wrong", True), ("key", False)):
                await post(application, "somebody", key)
                assert await application.is_idle() == idle

    asyncio.run(play())


async def put(application: Application, path: str, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Upload to an application, as its server would."""
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": "PUT", "path": path, "query_string": query.encode()}

    async def send(_: Any) -> None:
        pass

    headers = [(b"host", b"localhost")]
    await application.asgi(scope | {"headers": headers, "http_version": "1.1", "scheme": "http"}, receive, send)


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
