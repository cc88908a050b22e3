"""Tests of the commands `users` and `teams`, as processes: what they print and refuse, and when it takes effect."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from grid import list_runs, login
from grid.chain.endpoint import Endpoint
from grid.errors import AuthenticationFailed
from grid.service.domain.accounts import Directory
from grid.service.domain.errors import AccountError
from grid.service.store.database import Database
from grid.service.system.world import World
from grid.session import session as sessions
from tests.support.environments import clean_environment
from tests.support.experiments import database_of
from tests.support.people import add_user, endpoint_of, operate, operated
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process

VIEWER = "{ viewer { id username } }"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service of the module's own."""
    with service_process(tmp_path_factory.mktemp("service"), "--cpus", "1") as running:
        yield running


def username(endpoint: Endpoint) -> str:
    """The name of the user whose key it is."""
    return ask(endpoint, VIEWER)["data"]["viewer"]["username"]


def is_refused(endpoint: Endpoint) -> bool:
    """Whether the service does not accept the key."""
    return code_of(ask(endpoint, VIEWER)) == "UNAUTHENTICATED"


def key_count(service: ServiceProcess, name: str) -> int:
    """How many keys a user has."""
    with database_of(service) as connection:
        query = "SELECT count(*) FROM api_keys JOIN users ON users.id = user_id WHERE name = ?"
        return connection.execute(query, [name]).fetchone()[0]


def row_of(table: str, name: str) -> list[str]:
    """The words of a user's line in what `list` printed."""
    (line,) = [line for line in table.splitlines() if line.split()[0] == name]
    return line.split()


# Users


def test_add(service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`users add` prints a credentials file with which another home is logged in as the new user at once."""
    told = operate(service.home, "users", "add", "ada")
    assert told.returncode == 0
    assert set(json.loads(told.stdout)) == {"UserID", "APIKey", "URL"}
    assert "credentials.json" in told.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "credentials.json").write_text(told.stdout)
    (elsewhere / "credentials.json").chmod(0o600)
    monkeypatch.setenv("GRID_HOME", str(elsewhere))
    login()
    assert sessions.current().viewer.username == "ada"
    assert list_runs() == []


def test_key_is_shown_once(service: ServiceProcess) -> None:
    """No file of the home, no log and no list holds a key; the database holds its SHA-256."""
    told = operate(service.home, "users", "add", "bea")
    assert told.returncode == 0, told.stderr
    key = json.loads(told.stdout)["APIKey"]
    assert username(endpoint_of(told.stdout)) == "bea"
    assert key not in told.stderr
    assert key not in operated(service.home, "users", "list")
    files = [path for path in (*service.home.rglob("*"), service.log) if path.is_file()]
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert any(digest.encode() in path.read_bytes() for path in service.home.glob("grid.sqlite3*"))


@pytest.mark.parametrize("what", ["users", "teams"])
def test_name_that_is_not_one(service: ServiceProcess, what: str) -> None:
    """What is not a name is refused with a message that says what is allowed."""
    told = operate(service.home, what, "add", "a:b")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == (
        f"error: 'a:b' cannot be the name of a {what.removesuffix('s')}: 1 to 64 letters (a to z), digits, '.', '_' "
        "and '-' are allowed, beginning with a letter, a digit or '_'\n"
    )


def test_names(tmp_path: Path) -> None:
    """Names are letters, digits, '.', '_' and '-', none of which can be mistaken for an option or a run's owner."""

    def is_name(name: str) -> bool:
        def write(connection: Connection) -> bool:
            try:
                directory.add_team(connection, name)
                directory.add_user(connection, name, name)
            except AccountError:
                return False
            return True

        return asyncio.run(database.write(write))

    directory = Directory(World())
    database = Database(f"sqlite:///{tmp_path / 'grid.sqlite3'}")
    try:
        for name in ("a", "7", "_x", "Ada.Lovelace-1815_", "x" * 64):
            assert is_name(name), name
        for name in ("", ":", "a:b", "-x", "--help", ".x", "a b", "a/b", "ä", "x" * 65, "a\n", "a\0", "a\tb", "a@b"):
            assert not is_name(name), name
    finally:
        database.close()


def test_name_that_is_taken(service: ServiceProcess) -> None:
    """Of several commands that add one name at once one succeeds, and the others say so; there is one such user."""
    command = [sys.executable, "-m", "grid.service", "users", "add", "cleo"]
    environment = clean_environment(service.home.parent)
    adding = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [(*process.communicate(timeout=60), process.returncode) for process in adding]
    (printed,) = [out for out, _, code in told if code == 0]
    refused = [(out, error) for out, error, code in told if code == 1]
    assert len(refused) == 3
    assert all(out == "" and "there is already a user 'cleo'" in error for out, error in refused)
    assert username(endpoint_of(printed)) == "cleo"
    assert key_count(service, "cleo") == 1


def test_list(service: ServiceProcess) -> None:
    """`users list` shows each user's name, since when they exist, whether they may call, and their teams."""
    endpoint = add_user(service, "dora")
    operated(service.home, "teams", "add", "list-1")
    operated(service.home, "teams", "add", "list-2")
    operated(service.home, "teams", "join", "list-2", "dora")
    operated(service.home, "teams", "join", "list-1", "dora")
    table = operated(service.home, "users", "list")
    name, user_id, created, state, teams = row_of(table, "dora")
    assert (name, user_id, state, teams) == ("dora", endpoint.user_id, "active", "list-1,list-2")
    assert created.startswith("20")
    assert table.splitlines()[0].split() == ["NAME", "ID", "CREATED", "STATE", "TEAMS"]
    assert row_of(table, service.username)[1] == service.endpoint.user_id


def test_disable_and_enable(service: ServiceProcess) -> None:
    """A user is refused once `disable` has returned, and accepted again once `enable` has."""
    endpoint = add_user(service, "emma")
    assert username(endpoint) == "emma"
    for _ in range(2):
        told = operated(service.home, "users", "disable", "emma")
        assert told == "disabled emma: their keys are refused; their runs continue and are kept\n"
        assert is_refused(endpoint)
        assert row_of(operated(service.home, "users", "list"), "emma")[3] == "disabled"
    for _ in range(2):
        assert operated(service.home, "users", "enable", "emma") == "enabled emma\n"
        assert username(endpoint) == "emma"
        assert row_of(operated(service.home, "users", "list"), "emma")[3] == "active"


def test_rotate(service: ServiceProcess) -> None:
    """`users rotate` prints a key that works, and once it has returned every older key of that user is refused."""
    keys = [add_user(service, "faye")]
    bystander = add_user(service, "gina")
    for _ in range(2):
        assert username(keys[-1]) == "faye"
        keys.append(endpoint_of(operated(service.home, "users", "rotate", "faye")))
        assert [is_refused(each) for each in keys[:-1]] == [True] * len(keys[:-1])
    assert username(keys[-1]) == "faye"
    assert {each.user_id for each in keys} == {keys[0].user_id}
    assert username(bystander) == "gina"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["users", "disable", "nobody-1"], "there is no user 'nobody-1'"),
        (["users", "enable", "nobody-1"], "there is no user 'nobody-1'"),
        (["users", "rotate", "nobody-1"], "there is no user 'nobody-1'"),
        (["teams", "join", "no-team", "x"], "there is no team 'no-team'"),
        (["teams", "leave", "no-team", "x"], "there is no team 'no-team'"),
    ],
)
def test_unknown_user_or_team(service: ServiceProcess, arguments: list[str], why: str) -> None:
    """An unknown user or team is refused with its name, and where to look."""
    told = operate(service.home, *arguments)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith(f"error: {why}; ")
    assert "list shows" in told.stderr


# If no service runs, or another one might


def test_without_a_service(tmp_path: Path) -> None:
    """Users and teams can be set up before a service is started; it finds them, and refuses those who are disabled."""
    home = tmp_path / ".grid"
    told = operate(home, "users", "add", "hana")
    assert (told.returncode, json.loads(told.stdout)["URL"]) == (0, "")
    assert 'fill in its address under "URL"' in told.stderr
    told = operate(home, "users", "add", "ines", "--url", "https://grid.example.org")
    assert json.loads(told.stdout)["URL"] == "https://grid.example.org"
    assert "fill in its address" not in told.stderr
    disabled = endpoint_of(told.stdout)
    operated(home, "users", "disable", "ines")
    rotated = json.loads(operated(home, "users", "rotate", "hana"))
    assert {path.name: path.stat().st_mode & 0o777 for path in home.glob("grid.sqlite3*")} == {"grid.sqlite3": 0o600}
    with service_process(tmp_path, "--cpus", "1") as service:
        url = service.endpoint.url
        assert username(Endpoint(url, "hana", rotated["APIKey"])) == "hana"
        assert is_refused(Endpoint(url, "ines", disabled.api_key))


def test_home_that_does_not_exist(tmp_path: Path) -> None:
    """Nothing is made in a mistyped home: a command that only reads or changes says that no service was ever there."""
    home = tmp_path / "no-such-home"
    for arguments in (["users", "list"], ["users", "disable", "x"], ["teams", "list"], ["teams", "join", "x", "y"]):
        told = operate(tmp_path / ".grid", *arguments, "--home", str(home))
        assert (told.returncode, told.stdout) == (78, "")
        assert told.stderr.startswith(f"error: no service has ever used {home}")
    assert not home.exists()


def test_another_database(tmp_path: Path) -> None:
    """With `--database` the commands change the database that `serve --database` uses."""
    database = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    with service_process(tmp_path, "--cpus", "1", "--database", database) as service:
        endpoint = endpoint_of(operated(service.home, "users", "add", "--database", database, "jana"))
        assert username(endpoint) == "jana"
        assert not (service.home / "grid.sqlite3").exists()


def test_service_of_another_version(service: ServiceProcess) -> None:
    """The database of a service of another version is left alone while that service runs."""
    file = service.home / "service" / "service.json"
    record = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(record) | {"version": "0.0.0"}))
        told = operate(service.home, "users", "add", "kate")
    finally:
        file.write_text(record)
    assert (told.returncode, told.stdout) == (78, "")
    assert "has version 0.0.0" in told.stderr
    assert "stop it first" in told.stderr


def test_locked_database(tmp_path: Path) -> None:
    """A database that another program has locked is named as such, and nothing is printed that does not work."""
    home = tmp_path / ".grid"
    operated(home, "users", "add", "lena")
    with closing(sqlite3.connect(home / "grid.sqlite3", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        database = f"sqlite:///{home / 'grid.sqlite3'}?timeout=0.2"
        told = operate(home, "users", "rotate", "lena", "--database", database)
    assert (told.returncode, told.stdout) == (75, "")
    assert "is locked by another program" in told.stderr
    assert "Traceback" not in told.stderr


# The home's own user


def test_own_user_cannot_be_disabled(service: ServiceProcess) -> None:
    """The home's own user cannot be disabled, and the refusal says why."""
    told = operate(service.home, "users", "disable", service.username)
    assert (told.returncode, told.stdout) == (1, "")
    assert f"{service.username!r} cannot be disabled: it is the user of {service.home} itself" in told.stderr
    assert username(service.endpoint) == service.username


def test_own_key_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the home's own key is replaced, sessions of its service go on, and the old key never comes back."""
    with service_process(tmp_path, "--cpus", "1") as service:
        monkeypatch.setenv("GRID_HOME", str(service.home))
        login()
        assert list_runs() == []
        before = service.endpoint
        told = operate(service.home, "users", "rotate", service.username)
        after = endpoint_of(told.stdout)
        assert "login() there uses the new one" in told.stderr
        assert is_refused(before)
        assert username(after) == service.username
        for name in ("api-key", "service.json"):
            assert after.api_key in (service.home / "service" / name).read_text()
            assert (service.home / "service" / name).stat().st_mode & 0o777 == 0o600
        assert list_runs() == []
        assert sessions.current().transport.endpoint == after
        service.stop()
        service.start()
        assert (service.endpoint.user_id, service.endpoint.api_key) == (after.user_id, after.api_key)
        assert is_refused(Endpoint(service.endpoint.url, before.user_id, before.api_key))
        with pytest.raises(AuthenticationFailed):
            login(user_id=before.user_id, api_key=before.api_key, url=service.endpoint.url)


def test_own_key_rotated_while_the_service_starts(tmp_path: Path) -> None:
    """Whichever comes first, the home's own user has one key afterwards: the one that was printed, everywhere."""
    with service_process(tmp_path, "--cpus", "1") as service:
        name = service.username
        for wait in (0.0, 0.3, 0.6):
            service.stop()
            printed: list[str] = []
            rotating = threading.Timer(wait, lambda: printed.append(operated(service.home, "users", "rotate", name)))  # noqa: B023
            rotating.start()
            service.start()
            rotating.join(60)
            key = json.loads(printed[0])["APIKey"]
            assert username(Endpoint(service.endpoint.url, name, key)) == name
            assert key_count(service, name) == 1
            for file in ("api-key", "service.json"):
                assert key in (service.home / "service" / file).read_text()


def test_own_key_rotated_without_a_service(tmp_path: Path) -> None:
    """If no service runs, the home's own key is replaced for the next one."""
    with service_process(tmp_path, "--cpus", "1") as service:
        before = service.endpoint
        service.stop()
        key = json.loads(operated(service.home, "users", "rotate", service.username))["APIKey"]
        service.start()
        assert service.endpoint.api_key == key
        assert username(service.endpoint) == service.username
        assert is_refused(Endpoint(service.endpoint.url, before.user_id, before.api_key))


# Teams


def test_teams(service: ServiceProcess) -> None:
    """Teams are added, joined, left and listed; joining twice is joining once, and leaving twice is refused."""
    for name in ("mona", "nora"):
        add_user(service, name)
    assert operated(service.home, "teams", "add", "vision") == "added the team vision\n"
    assert row_of(operated(service.home, "teams", "list"), "vision")[2] == "-"
    for name in ("nora", "mona", "nora"):
        assert operated(service.home, "teams", "join", "vision", name) == f"{name} is in vision\n"
    assert row_of(operated(service.home, "teams", "list"), "vision")[2] == "mona,nora"
    assert operated(service.home, "teams", "leave", "vision", "mona") == "mona is no longer in vision\n"
    told = operate(service.home, "teams", "leave", "vision", "mona")
    assert (told.returncode, told.stdout) == (1, "")
    assert "the user 'mona' is not in the team 'vision'" in told.stderr
    assert row_of(operated(service.home, "teams", "list"), "vision")[2] == "nora"
    told = operate(service.home, "teams", "add", "vision")
    assert told.returncode == 1
    assert "there is already a team 'vision'" in told.stderr


def test_help() -> None:
    """Each command says what it is for."""
    for group, names in (("users", "add list disable enable rotate"), ("teams", "add join leave list")):
        command = [sys.executable, "-m", "grid.service", group, "--help"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        for name in names.split():
            assert name in told.stdout
