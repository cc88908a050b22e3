"""Which service `login()` finds, and as whom; and where keys are, and are not, afterwards."""

from __future__ import annotations

import base64
import json
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import grid
from grid import errors
from grid.session import session as sessions
from grid.session.credentials import Credentials
from grid.shared.wire import grid_home
from tests.support.credentials import store
from tests.support.embedded import record
from tests.support.projects import make_project
from tests.support.services import ServiceProcess
from tests.support.strangers import Stranger, http_answer
from tests.support.waiting import wait_for_run

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSAL = http_answer(b'{"errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]}', "application/json")


@pytest.fixture
def first() -> Iterator[Stranger]:
    """A server that refuses every key, and notes which ones were tried."""
    listening = Stranger(REFUSAL)
    yield listening
    listening.close()


@pytest.fixture
def second() -> Iterator[Stranger]:
    """Another such server."""
    listening = Stranger(REFUSAL)
    yield listening
    listening.close()


def tried(stranger: Stranger) -> set[str]:
    """Return the users and keys that a server was tried with."""
    found = set()
    for request in stranger.received:
        headers = dict(line.split(": ", 1) for line in request.decode().partition("\r\n\r\n")[0].split("\r\n")[1:])
        found.add(base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode())
    return found


# Somebody else's GPUs


def test_other_gpus_than_the_service_was_given(grid_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`login()` warns of a service that was started with other GPUs, and says how to start it again with these."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    grid.login()
    grid.login()  # the same: a warning would be an error
    assert record(grid_home)["cuda_visible_devices"] == "0"

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.warns(
        grid.GridWarning, match="CUDA_VISIBLE_DEVICES is '1' here, but is '0' for the embedded"
    ) as caught:
        grid.login()
    assert caught[0].filename == __file__
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.warns(grid.GridWarning, match="CUDA_VISIBLE_DEVICES is not set here, but is '0' for the embedded"):
        grid.login()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.warns(grid.GridWarning, match="CUDA_VISIBLE_DEVICES is '' here, but is '0' for the embedded"):
        grid.login()
    with monkeypatch.context() as inside:
        inside.setenv("GRID_EXPERIMENT_ID", "e")  # an experiment has its own
        grid.login()

    said = re.search(r"with yours: python (.*), and then login\(\)", str(caught[0].message))
    assert said is not None
    subprocess.run([sys.executable, *shlex.split(said[1])], check=True, capture_output=True)
    grid.login()
    assert record(grid_home)["cuda_visible_devices"] == ""


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
    """The user and the key come from the first of the three that has both; half a pair does not count."""
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
    """An address passed as an argument wins over GRID_URL, and GRID_URL over the one in the file."""
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
    """The stored key is of no use with an address other than the stored one, and nothing is sent to either."""
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
    """A key is of no use without an address, nor the other way round: the embedded service is not taken instead."""
    with pytest.raises(errors.InvalidArgument, match="GRID_URL|GRID_API_KEY"):
        grid.login(**arguments)

    assert not grid_home().exists()


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_username_does_as_well_as_the_id(service: ServiceProcess) -> None:
    """The service knows a user by name, too."""
    grid.login(service.username, api_key=service.endpoint.api_key, url=service.endpoint.url)

    assert sessions.current().viewer.username == service.username


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
