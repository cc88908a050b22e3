"""A session: its handshake, versions of the queries, its patience, and finding the embedded service again."""

from __future__ import annotations

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import grid
from grid import errors
from grid.chain.decoding import Model
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.registry import Registry
from grid.models import RunNames
from grid.session import session as sessions
from grid.session.session import Session
from grid.shared import homes, locks
from tests.support.embedded import owner, record, serving, stop
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.services import ServiceProcess, login_environment
from tests.support.waiting import wait_for_run, wait_until

QUERIES = Path(grid.__file__).with_name("queries")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script that is committed, in the current folder."""
    make_project(tmp_path / "project", "")
    monkeypatch.chdir(tmp_path / "project")
    return "run.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Model):
    """The answer to an operation that came with version 2."""

    api_version: int


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    """The shipped queries, and a second version: one operation changed, one new."""
    folder = tmp_path / "queries"
    shutil.copytree(QUERIES / "v1", folder / "v1")
    (folder / "v2").mkdir()
    (folder / "v2" / "GetRun.graphql").write_text(
        "query GetRun($name: String!) { runOfVersionTwo(name: $name) { id } }"
    )
    (folder / "v2" / "Forecast.graphql").write_text("query Forecast { apiVersion }")
    return folder


def test_older_service_gets_the_older_queries(service: ServiceProcess, script: str, two_versions: Path) -> None:
    """A client that knows version 2 speaks version 1 to a service that announces 1, and all of it works."""
    session = Session(service.endpoint, is_embedded=True, registry=Registry(two_versions, version=2))
    sessions.use(session)

    assert (session.registry.version, session.registry.latest) == (1, 2)
    run = grid.create_run(script)
    assert grid.Run(run.name).id == run.id
    assert session.registry.get("GetRun").path == str(two_versions / "v1" / "GetRun.graphql")
    wait_for_run(run)


def test_operation_that_the_service_is_too_old_for(service: ServiceProcess, two_versions: Path) -> None:
    """An operation of version 2 is refused without a request, with a message that names both versions."""
    session = Session(service.endpoint, is_embedded=False, registry=Registry(two_versions, version=2))

    with requests(session) as sent, pytest.raises(errors.ServiceTooOld, match="Forecast.*version 2.*version 1"):
        session.execute(Forecast)

    assert sent == [0]


def test_service_that_does_not_know_a_query(service: ServiceProcess, two_versions: Path) -> None:
    """A query that the service does not know is reported as such, whatever version it announced."""
    (two_versions / "v1" / "RunNames.graphql").write_text(
        "query RunNames($first: Int!) { forecasts(first: $first) { id } }"
    )
    session = Session(service.endpoint, is_embedded=False, registry=Registry(two_versions, version=1))

    with pytest.raises(errors.ServiceTooOld, match="RunNames.*forecasts.*Update the service"):
        session.execute(RunNames, first=1)


def test_another_user_cannot_be_read(service: ServiceProcess) -> None:
    """A right user id with a wrong key reads nothing: there is no request without authentication."""
    endpoint = service.endpoint

    with pytest.raises(errors.AuthenticationFailed):
        Session(Endpoint(endpoint.url, endpoint.user_id, endpoint.api_key[:-1] + "!"), is_embedded=False)


def test_embedded_service_is_found_again(grid_home: Path, tmp_path: Path) -> None:
    """If killed, it is restarted by its keeper; if killed with its keeper, or stopped, by the next call; runs stay."""
    grid.login()
    run = grid.create_run(str(make_project(tmp_path / "project", "")))
    wait_for_run(run)
    killed = record(grid_home)["pid"]

    os.kill(killed, signal.SIGKILL)
    assert grid.list_runs() == [run.name]
    assert record(grid_home)["pid"] != killed

    killed = record(grid_home)["pid"]
    os.kill(killed, signal.SIGKILL)
    # No client calls meanwhile.
    wait_until(lambda: record(grid_home).get("pid", killed) != killed, "the keeper's next service")
    assert grid.get_run(run.name).status() == {"SUCCEEDED": list(run.experiments)}

    process = psutil.Process(record(grid_home)["pid"])
    keeper = process.parent()
    assert keeper is not None
    assert "grid-keeper" in keeper.cmdline()
    keeper.kill()
    process.kill()
    assert grid.list_runs() == [run.name]

    process = psutil.Process(record(grid_home)["pid"])
    keeper = process.parent()
    assert keeper is not None
    stop(grid_home)
    wait_until(lambda: not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE, "the end of the keeper")
    assert record(grid_home) == {}
    assert grid.list_runs() == [run.name]
    assert run.status() == {"SUCCEEDED": list(run.experiments)}
    assert sessions.current().is_embedded


def test_call_while_it_is_brought_back(grid_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits for the next service, however long that takes, and is not misled by the record of the last one."""
    passing = tmp_path / "passing"
    passing.write_bytes(bytes(10_000))
    monkeypatch.setenv("GRID_FAILPOINTS", f"database.commit.before:1+:wait={passing}")
    monkeypatch.setenv("GRID_FAILPOINTS_LOG", str(tmp_path / "hits"))
    grid.login()
    # A client that counted its tries would have one.
    sessions.current().policy = RetryPolicy(tries=1)
    killed = serving(grid_home)
    said = grid_home / "service" / homes.RECORD
    of_the_last = said.read_bytes()
    passing.write_bytes(b"")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: owner(grid_home) not in (killed, None), "the start of a service")
    wait_until(lambda: not said.exists(), "a service that has removed the old record")
    said.write_bytes(of_the_last)  # as if the next service already had the lock, and had not removed this yet
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(grid.list_runs)
        start_lock = grid_home / "service" / homes.START_LOCK
        wait_until(lambda: asked.done() or locks.is_held(start_lock), "a client that waits")
        passing.write_bytes(bytes(10_000))
        assert asked.result(60) == []
    assert record(grid_home)["pid"] != killed


def test_login_costs_one_request(service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging in is one handshake."""
    for name, value in login_environment(service).items():
        monkeypatch.setenv(name, value)

    grid.login()

    assert sessions.current().transport.requests_sent == 1
