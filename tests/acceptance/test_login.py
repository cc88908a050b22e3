"""Which service `login()` finds, as whom, and what becomes of keys; and the life of the embedded service."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import grid
from grid import errors
from grid.chain.endpoint import RetryPolicy
from grid.session import session as sessions
from grid.session.credentials import Credentials
from grid.shared.wire import grid_home
from tests.support.projects import make_project
from tests.support.services import ServiceProcess, clean_environment, login_environment
from tests.support.strangers import Stranger, http_answer
from tests.support.waiting import wait_for_run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSAL = http_answer(b'{"errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]}', "application/json")


@pytest.fixture
def first() -> Iterator[Stranger]:
    """Something that lets nobody in, and notes with which key it was tried."""
    listening = Stranger(REFUSAL)
    yield listening
    listening.close()


@pytest.fixture
def second() -> Iterator[Stranger]:
    """Another one."""
    listening = Stranger(REFUSAL)
    yield listening
    listening.close()


def store(url: str, user_id: str = "file", api_key: str = "file-key") -> Path:
    """Write a credentials file as `login()` would."""
    path = grid_home() / "credentials.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"UserID": user_id, "APIKey": api_key, "URL": url}))
    path.chmod(0o600)
    return path


def tried(stranger: Stranger) -> set[str]:
    """Return the users and keys that somebody was tried with."""
    found = set()
    for request in stranger.received:
        headers = dict(line.split(": ", 1) for line in request.decode().partition("\r\n\r\n")[0].split("\r\n")[1:])
        found.add(base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode())
    return found


# Arguments, environment, file

ARGUMENTS = {"user_id": "argument", "api_key": "argument-key"}
PAIR = {"GRID_USER_ID": "environment", "GRID_API_KEY": "environment-key"}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (ARGUMENTS, PAIR, "argument:argument-key"),
        ({"username": "ada", "api_key": "argument-key"}, {}, "ada:argument-key"),
        ({}, PAIR, "environment:environment-key"),
        ({}, {}, "file:file-key"),
        ({}, {"GRID_USER_ID": "environment"}, "file:file-key"),
        ({}, {"GRID_API_KEY": "environment-key"}, "file:file-key"),
    ],
    ids=["arguments", "username", "environment", "file", "user id alone", "key alone"],
)
def test_arguments_win_over_the_environment_which_wins_over_the_file(
    first: Stranger,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, str],
    environment: dict[str, str],
    expected: str,
) -> None:
    """Who we are is taken from the first of the three that says it, and half a pair says nothing."""
    path = store(first.url)
    before = path.read_bytes()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(errors.AuthenticationFailed):
        grid.login(**arguments)

    assert tried(first) == {expected}
    assert path.read_bytes() == before


def test_address_is_chosen_in_the_same_order(
    first: Stranger, second: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that is given wins over GRID_URL, and that over the one in the file."""
    store(first.url)
    monkeypatch.setenv("GRID_URL", second.url)
    with pytest.raises(errors.AuthenticationFailed):
        grid.login(**ARGUMENTS)
    assert (tried(first), tried(second)) == (set(), {"argument:argument-key"})

    with pytest.raises(errors.AuthenticationFailed):
        grid.login(**ARGUMENTS, url=first.url)
    assert (tried(first), tried(second)) == ({"argument:argument-key"}, {"argument:argument-key"})


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_stored_key_goes_to_the_address_that_it_is_stored_for(
    first: Stranger, second: Stranger, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """With another address than the stored one the stored key is of no use, and nobody is sent anything."""
    store(first.url)
    if where == "environment":
        monkeypatch.setenv("GRID_URL", second.url)

    with pytest.raises(errors.InvalidArgument, match=f"{second.url}.*{first.url}"):
        grid.login(url=second.url if where == "argument" else None)

    assert first.received == second.received == []
    with pytest.raises(errors.AuthenticationFailed):
        grid.login(url=first.url + "/")
    assert tried(first) == {"file:file-key"}


@pytest.mark.parametrize(
    "arguments",
    [{"username": "ada"}, {"user_id": "ada"}, {"api_key": "secret"}, {"user_id": "ada", "url": "http://127.0.0.1:1"}],
)
def test_half_of_the_credentials(arguments: dict[str, str]) -> None:
    """A user without a key, or a key without a user, is a ValueError that says what is missing; nothing is started."""
    with pytest.raises(ValueError, match="give both") as caught:
        grid.login(**arguments)

    assert isinstance(caught.value, errors.InvalidArgument)
    assert "secret" not in str(caught.value)
    assert not grid_home().exists()


@pytest.mark.parametrize("arguments", [ARGUMENTS, {"url": "http://127.0.0.1:1"}])
def test_key_without_an_address_and_address_without_a_key(arguments: dict[str, str]) -> None:
    """A key is no use without an address, nor the other way round: the embedded service is not taken instead."""
    with pytest.raises(errors.InvalidArgument, match="GRID_URL|GRID_API_KEY"):
        grid.login(**arguments)

    assert not grid_home().exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"UserID": "a", "APIKey": 1, "URL": "http://a"}', "\udcff"])
def test_credentials_file_that_is_none(content: str) -> None:
    """A file that cannot be read is an error that names it, not a reason to use another service."""
    path = store("http://127.0.0.1:1")
    path.write_text(content, errors="surrogateescape")

    with pytest.raises(errors.ConfigError, match=str(path)):
        grid.login()


# What is stored


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_credentials_that_were_accepted_are_stored(service: ServiceProcess) -> None:
    """After a login with a key `login()` alone is enough, and only this user can read the file."""
    endpoint = service.endpoint
    grid.login(user_id=endpoint.user_id, api_key=endpoint.api_key, url=endpoint.url)
    path = grid_home() / "credentials.json"

    assert json.loads(path.read_text()) == {"UserID": endpoint.user_id, "APIKey": endpoint.api_key, "URL": endpoint.url}
    assert mode(path) == 0o600
    assert [each.name for each in grid_home().iterdir()] == ["credentials.json"]
    sessions.use(None)
    grid.login()
    grid.login()
    assert sessions.current().url == endpoint.url
    grid.list_runs()


def test_username_does_as_well_as_the_id(service: ServiceProcess) -> None:
    """The service knows a user by name, too."""
    grid.login(service.username, api_key=service.endpoint.api_key, url=service.endpoint.url)

    assert sessions.current().viewer.username == service.username


def test_credentials_of_the_environment_are_not_stored(
    service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says stays there."""
    for name, value in login_environment(service).items():
        monkeypatch.setenv(name, value)

    grid.login()

    assert grid.list_runs() is not None
    assert not grid_home().exists()


def test_credentials_file_that_others_can_read(service: ServiceProcess) -> None:
    """A file with a key in it that others can read is warned about, with what to do."""
    endpoint = service.endpoint
    path = store(endpoint.url, endpoint.user_id, endpoint.api_key)
    path.chmod(0o644)

    with pytest.warns(grid.GridWarning, match=f"chmod 600 {path}") as caught:
        grid.login()

    assert caught[0].filename == __file__


# The embedded service


def record(home: Path) -> dict[str, Any]:
    """Return what the embedded service of a home says of itself; nothing where there is none."""
    try:
        content: dict[str, Any] = json.loads((home / "service" / "service.json").read_text())
    except FileNotFoundError:
        return {}
    return content


def stop(home: Path) -> None:
    """Stop the embedded service as its user would."""
    subprocess.run([sys.executable, "-m", "grid.service", "stop", "--home", str(home)], check=True, capture_output=True)


ASK = """
import sys
from grid import login
from grid.session import session
sys.stdin.readline()
login()
print(session.current().transport.endpoint.url, session.current().viewer.username)
"""


def test_two_processes_at_once_get_the_same_service(grid_home: Path, tmp_path: Path) -> None:
    """Two processes that log in at the same moment find one service, started once."""
    environment = clean_environment(grid_home.parent)
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK], env=environment, stdin=-1, stdout=-1, text=True, cwd=tmp_path)
        for _ in range(2)
    ]
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in asking]

    assert answers[0] == answers[1]
    assert answers[0][0] == record(grid_home)["url"]
    assert (grid_home / "service" / "service.log").read_text().count("serving ") == 1


def test_embedded_service_is_found_again(grid_home: Path, tmp_path: Path) -> None:
    """Killed, it is brought back by its keeper; killed with its keeper, or stopped, by the next call; runs stay."""
    grid.login()
    run = grid.create_run(str(make_project(tmp_path / "project", "")))
    wait_for_run(run)
    killed = record(grid_home)["pid"]

    os.kill(killed, signal.SIGKILL)
    assert grid.list_runs() == [run.name]
    assert record(grid_home)["pid"] != killed

    killed = record(grid_home)["pid"]
    os.kill(killed, signal.SIGKILL)
    # Nobody calls meanwhile.
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


def test_repr_of_a_run_whose_service_has_gone(grid_home: Path, tmp_path: Path) -> None:
    """A repr shows the last known state, starts no service, and never raises."""
    grid.login()
    run = grid.create_run(str(make_project(tmp_path / "project", "raise SystemExit(1)")))
    assert wait_for_run(run).keys() == {"FAILED"}
    shown = repr(run), repr(run.experiments), repr(run.experiments[f"{run.name}-exp0"])
    stop(grid_home)
    # The first try says as much as the sixth, and a repr may take two seconds.
    sessions.current().policy = RetryPolicy(tries=1)

    assert (repr(run), repr(run.experiments), repr(run.experiments[f"{run.name}-exp0"])) == shown
    assert "could not be fetched" in repr(grid.runs)
    assert record(grid_home) == {}


INSIDE = """
import json, os, pathlib
from grid import list_runs, login
login()
pathlib.Path({answer!r}).write_text(json.dumps([list_runs(), dict(os.environ)]))
"""


def test_login_inside_an_experiment_and_where_keys_are(
    grid_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment's own `login()` reaches the embedded service; its key is in two private files and nowhere else."""
    monkeypatch.setenv("SOMEBODYS_TOKEN", "not-for-experiments")
    answer = tmp_path / "answer"
    grid.login()
    assert not (grid_home / "credentials.json").exists()
    run = grid.create_run(str(make_project(tmp_path / "project", INSIDE.format(answer=str(answer)))), cpus=1)
    assert wait_for_run(run).keys() == {"SUCCEEDED"}
    key = record(grid_home)["api_key"]
    session = sessions.current()

    names, environment = json.loads(answer.read_text())
    assert names == [run.name]
    assert environment["GRID_USER_ID"] == session.viewer.id
    assert environment["GRID_EXPERIMENT_NAME"] == f"{run.name}-exp0"
    assert "SOMEBODYS_TOKEN" not in environment
    assert key not in answer.read_text()
    assert not (grid_home / "credentials.json").exists()

    endpoint = session.transport.endpoint
    shown = [session, endpoint, session.transport, session.viewer, run, run.experiments, grid.runs]
    shown += [Credentials("http://a", "ada", key), endpoint.url, endpoint.graphql_url, vars(session)]
    assert not [each for each in shown if key in repr(each)]
    with pytest.raises(errors.AuthenticationFailed) as caught:
        grid.login(user_id="ada", api_key=key, url=endpoint.url)
    assert key not in str(caught.value)

    secret = [key.encode(), endpoint.authorization.removeprefix("Basic ").encode()]
    holding = {
        str(path.relative_to(grid_home))
        for path in grid_home.rglob("*")
        if path.is_file() and any(each in path.read_bytes() for each in secret)
    }
    assert holding == {"service/api-key", "service/service.json"}
    assert mode(grid_home) == 0o700
    assert {mode(grid_home / path) for path in (*holding, "service/service.log", "grid.sqlite3")} <= {0o600}
