"""Tests of who may call and whose runs they see: keys on every request, users who know nothing of each other, teams."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Connection

from grid import Run, get_experiment_by_id, get_experiment_by_name, list_runs, models
from grid.chain.transport import Endpoint
from grid.errors import AuthenticationFailed, ExperimentNotFound, PermissionDenied, RunNotFound
from grid.service.domain.accounts import Directory
from grid.service.domain.errors import Unauthenticated
from grid.service.http.app import opened
from grid.service.system.settings import Options
from grid.session import session as sessions
from grid.session.session import Session
from tests.support.experiments import database_of, only
from tests.support.people import add_user, operated, session_of
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

Start = Callable[..., Run]

VIEWER = "{ viewer { id username } }"
PAUSE = 'mutation { pauseCluster(name: "local") { name } }'


def basic(user: str, key: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


@pytest.fixture(scope="module")
def other(service: ServiceProcess) -> Endpoint:
    """Another user of the module's service."""
    key = "the-key-of-somebody-else"
    with database_of(service) as connection:
        connection.execute("INSERT INTO users (id, name, created_at) VALUES ('u2', 'somebody', 0)")
        connection.execute("INSERT INTO api_keys VALUES (?, 'u2', 0)", [hashlib.sha256(key.encode()).hexdigest()])
    return Endpoint(service.endpoint.url, "u2", key)


@pytest.fixture
def other_session(other: Endpoint) -> Session:
    """A session of the other user, beside the first."""
    return Session(other, is_embedded=False)


def test_id_or_name_goes_with_the_key(service: ServiceProcess) -> None:
    """A request belongs to its user, who may be named by id or by name."""
    endpoint = service.endpoint
    viewer = {"id": endpoint.user_id, "username": service.username}
    for user in (endpoint.user_id, service.username):
        answer = ask(endpoint.graphql_url, VIEWER, basic(user, endpoint.api_key))
        assert answer == {"data": {"viewer": viewer}}


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(lambda user, key: None, id="none"),
        pytest.param(lambda user, key: "", id="empty"),
        pytest.param(lambda user, key: "Basic", id="scheme alone"),
        pytest.param(lambda user, key: "Basic !!!", id="not base64"),
        pytest.param(lambda user, key: "Basic \xe9\xe9\xe9\xe9", id="not ASCII"),
        pytest.param(lambda user, key: "Basic " + base64.b64encode(key.encode()).decode(), id="no colon"),
        pytest.param(lambda user, key: "Basic " + base64.b64encode(b"\xff:\xff").decode(), id="not UTF-8"),
        pytest.param(lambda user, key: f"Bearer {key}", id="another scheme"),
        pytest.param(lambda user, key: basic(user, "wrong"), id="wrong key"),
        pytest.param(lambda user, key: basic(user, ""), id="empty key"),
        pytest.param(lambda user, key: basic(user, key + " "), id="more than the key"),
        pytest.param(lambda user, key: basic(user, key[:-1]), id="less than the key"),
        pytest.param(
            lambda user, key: basic(user, hashlib.sha256(key.encode()).hexdigest()), id="what is kept of the key"
        ),
        pytest.param(lambda user, key: basic("", key), id="no user"),
        pytest.param(lambda user, key: basic("somebody", key), id="another user"),
        pytest.param(lambda user, key: basic(user.upper() + "X", key), id="no such user"),
    ],
)
@pytest.mark.parametrize("query", [VIEWER, "{ __typename }", "{ apiVersion }", PAUSE])
def test_no_request_without_its_key(
    service: ServiceProcess, query: str, authorization: Callable[[str, str], str | None]
) -> None:
    """Nothing is answered, and nothing is done, without a known key and the user to whom it belongs."""
    endpoint = service.endpoint
    answer = ask(endpoint.graphql_url, query, authorization(endpoint.user_id, endpoint.api_key))
    assert code_of(answer) == "UNAUTHENTICATED"
    assert not answer.get("data")
    assert ask(endpoint, '{ cluster(name: "local") { paused } }') == {"data": {"cluster": {"paused": False}}}


def test_no_websocket_without_a_key(service: ServiceProcess) -> None:
    """Without a key a WebSocket is closed before it has revealed anything."""

    async def play() -> int | None:
        url = service.endpoint.graphql_url.replace("http", "ws", 1)
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(url, protocols=["graphql-transport-ws"]) as socket,
        ):
            await socket.send_json({"type": "connection_init"})
            message = await socket.receive(30)
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            return socket.close_code

    assert asyncio.run(play()) == 4403


def test_keys_are_not_kept(service: ServiceProcess, session: object) -> None:
    """No file of the database holds a key."""
    list_runs()
    files = list(service.home.glob("grid.sqlite3*"))
    assert files
    for file in files:
        assert service.endpoint.api_key.encode() not in file.read_bytes()
    digest = hashlib.sha256(service.endpoint.api_key.encode()).hexdigest()
    assert any(digest.encode() in file.read_bytes() for file in files)


def test_users_do_not_see_each_other(session: Session, other_session: Session, start: Start) -> None:
    """Another user finds none of one's runs and experiments, by name, by id or by owner."""
    run = start("print(1)", name="mine-alone")
    experiment = only(run)
    wait_for_run(run)
    sessions.use(other_session)
    assert run.name not in list_runs()
    owner = session.viewer.username
    for name in (run.name, f"{owner}:{run.name}"):
        with pytest.raises(RunNotFound):
            Run(name)
    for name in (experiment.name, f"{owner}:{experiment.name}"):
        with pytest.raises(ExperimentNotFound):
            get_experiment_by_name(name)
    with pytest.raises(ExperimentNotFound):
        get_experiment_by_id(experiment.id)
    sessions.use(session)
    assert Run(f"{owner}:{run.name}").id == run.id
    assert run.name in list_runs()


def test_users_cannot_touch_each_other(
    service: ServiceProcess, other: Endpoint, other_session: Session, start: Start
) -> None:
    """Another user can neither cancel one's experiments nor watch them."""
    run = start("import time\nwhile True: time.sleep(1)")
    for mutation, name, code in (
        ("cancelRun", run.name, "RUN_NOT_FOUND"),
        ("cancelExperiment", only(run).name, "EXPERIMENT_NOT_FOUND"),
    ):
        query = f"mutation($name: String!) {{ {mutation}(name: $name) {{ ended }} }}"
        assert code_of(ask(other, query, name=name)) == code
    with pytest.raises((RunNotFound, PermissionDenied)):
        next(other_session.subscribe(models.RunStatusChanged, name=run.name))
    with pytest.raises((RunNotFound, PermissionDenied)):
        next(other_session.subscribe(models.RunStatusChanged, name=run.name, owner=service.username))
    assert list(run.status()) != ["CANCELLED"]


def test_two_users_may_choose_one_name(session: Session, other_session: Session, start: Start) -> None:
    """A name is taken only among one's own runs."""
    mine = start("print(1)", name="same-name")
    sessions.use(other_session)
    theirs = start("print(2)", name="same-name")
    assert (mine.name, mine.user) == ("same-name", session.viewer.username)
    assert (theirs.name, theirs.user) == ("same-name", "somebody")
    assert mine.id != theirs.id
    wait_for_run(mine)
    wait_for_run(theirs)


def test_client_with_a_wrong_key(service: ServiceProcess) -> None:
    """A client whose key is not known says so, and has no session."""
    with pytest.raises(AuthenticationFailed):
        Session(Endpoint(service.endpoint.url, service.username, "wrong"), is_embedded=False)


def test_a_team_reads_what_its_users_run(service: ServiceProcess, session: Session, start: Start) -> None:
    """A teammate loads one's run by its full name, with its experiments and status; lists hold one's own runs only."""
    run = start("raise SystemExit(3)", name="for-the-team")
    experiment = only(run)
    wait_for_run(run)
    operated(service.home, "teams", "add", "readers")
    operated(service.home, "teams", "join", "readers", service.username)
    teammate = session_of(add_user(service, "reader", "readers"))
    sessions.use(teammate)
    owner = session.viewer.username
    read = Run(f"{owner}:{run.name}")
    assert (read.id, read.user, [each.id for each in read]) == (run.id, owner, [experiment.id])
    assert read.status() == run.status() == {"FAILED": [experiment.name]}
    assert get_experiment_by_name(f"{owner}:{experiment.name}").id == experiment.id
    assert get_experiment_by_id(experiment.id).id == experiment.id
    assert run.name not in list_runs()
    with pytest.raises(RunNotFound):
        Run(run.name)
    for change in (read.cancel, get_experiment_by_id(experiment.id).cancel):
        with pytest.raises(PermissionDenied, match=owner):
            change()
    operated(service.home, "teams", "leave", "readers", "reader")
    with pytest.raises(RunNotFound):
        Run(f"{owner}:{run.name}")
    with pytest.raises(ExperimentNotFound):
        get_experiment_by_id(experiment.id)


def test_several_teams(tmp_path: Path) -> None:
    """Users who share at least one team may read; a third user in common does not count. None is oneself."""

    async def play() -> list[list[bool]]:
        async with opened(Options(home=tmp_path / "home", cpus=1)) as application:
            accounts = application.accounts
            users = [await application.add_user(name, f"key of {name}") for name in "abc"]
            directory = Directory(application.world)

            def join(connection: Connection) -> None:
                for team in ("ab-1", "ab-2", "bc"):
                    directory.add_team(connection, team)
                    for user in team.partition("-")[0]:
                        directory.join(connection, team, user)

            def leave(connection: Connection) -> None:
                directory.leave(connection, "ab-1", "a")

            await application.database.write(join)
            await application.database.write(leave)
            assert await accounts.readable(users[0], None) == users[0]
            assert await accounts.readable(users[0], "b") == users[1]
            assert await accounts.readable(users[0], "c") is None
            assert await accounts.readable(users[0], "nobody") is None
            found = [[await accounts.may_read(viewer, each.id) for each in users] for viewer in users]
            for viewer, row in zip(users, found, strict=True):
                names = [await accounts.readable(viewer, each.name) for each in users]
                assert [name is not None for name in names] == row
            return found

    assert asyncio.run(play()) == [[True, True, False], [True, True, True], [False, True, True]]


def test_keys_are_asked_for_each_time(tmp_path: Path) -> None:
    """A key that another process has revoked or added counts as such from the next request on: nothing is cached."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1)) as application:
            user = await application.add_user("somebody", "key")

            async def is_accepted() -> bool:
                try:
                    return await application.accounts.authenticate("somebody", "key") == user
                except Unauthenticated:
                    return False

            with closing(sqlite3.connect(tmp_path / "home" / "grid.sqlite3", isolation_level=None)) as other:
                for _ in range(20):
                    assert await is_accepted()
                    other.execute("UPDATE users SET disabled_at = 1")
                    assert not await is_accepted()
                    other.execute("UPDATE users SET disabled_at = NULL")
                    assert await is_accepted()
                    (row,) = other.execute("SELECT * FROM api_keys").fetchall()
                    other.execute("DELETE FROM api_keys")
                    assert not await is_accepted()
                    other.execute("INSERT INTO api_keys VALUES (?, ?, ?)", row)
            # A database that is asked in a thread says the same.
            application.accounts.close()
            assert await is_accepted()
            application.accounts.close()

    asyncio.run(play())


def test_a_fault_of_the_quick_way_is_said_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If keys cannot be looked up directly they are looked up all the same; the log says so once, and when they can."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1)) as application:
            user = await application.add_user("somebody", "key")
            for _ in range(2):
                caplog.clear()
                application.accounts._keys._query._driver.close()
                for _ in range(3):
                    assert await application.accounts.authenticate("somebody", "key") == user
                said = [(each.levelname, each.message) for each in caplog.records]
                assert [level for level, _ in said] == ["ERROR", "INFO"], said
                assert "looked up directly: Cannot operate on a closed database" in said[0][1]
                assert "can be looked up directly again" in said[1][1]

    with caplog.at_level("INFO", "grid.service.store.user_rows"):
        asyncio.run(play())


SECRET = {"WANDB_API_KEY": "w", "HF_TOKEN": "h", "PGPASSWORD": "p", "aws_secret_access_key": "a", "SENTRY_DSN": "s"}
INHERITED = {"TEAM": "of the owner's", "PORT": "8080"}
"""Under names that look like no secrets; but they were taken from the owner's own environment."""
PLAIN = {"TOKENIZERS_PARALLELISM": "false", "DATA_ROOT": "/data", "KEYBOARD": "de", "PWD": "/", "AUTHOR": "ada"}


def test_secrets_of_a_run_are_its_owners(service: ServiceProcess, start: Start) -> None:
    """A teammate reads a run's environment, but not the values of variables whose names look like secrets."""
    with pause_of(service):
        run = start("")
        settings = "{ run(name: %s, owner: %s) { settings { environment inheritedVariables } } }"
        with database_of(service) as connection:
            (text,) = connection.execute("SELECT settings FROM runs WHERE id = ?", [run.id]).fetchone()
            given = {"environment": SECRET | PLAIN | INHERITED, "inheritedVariables": list(INHERITED)}
            changed = json.dumps({**json.loads(text), **given})
            connection.execute("UPDATE runs SET settings = ? WHERE id = ?", [changed, run.id])
        operated(service.home, "teams", "add", "keepers")
        operated(service.home, "teams", "join", "keepers", service.username)
        teammate = add_user(service, "keeper", "keepers")
        masked = dict.fromkeys(SECRET | INHERITED, "***")
        for endpoint, expected in ((service.endpoint, SECRET | PLAIN | INHERITED), (teammate, masked | PLAIN)):
            query = settings % (json.dumps(run.name), json.dumps(service.username))
            answer = ask(endpoint, query)["data"]["run"]["settings"]
            assert answer == {"environment": expected, "inheritedVariables": list(INHERITED)}
        run.cancel()


@contextmanager
def pause_of(service: ServiceProcess) -> Iterator[None]:
    """Let nothing new start meanwhile."""
    ask(service.endpoint, PAUSE)
    try:
        yield
    finally:
        ask(service.endpoint, PAUSE.replace("pause", "resume"))


def test_a_key_is_read_where_nobody_can_change_it(tmp_path: Path) -> None:
    """The file with the home's own key is read while no other process can replace the keys in the database."""

    async def play() -> str:
        async with opened(Options(home=tmp_path / "home", cpus=1)) as application:

            def key() -> str:
                file = tmp_path / "home" / "grid.sqlite3"
                other = sqlite3.connect(file, timeout=0, isolation_level=None)
                with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
                return "key"

            return (await application.add_user("somebody", key)).name

    assert asyncio.run(play()) == "somebody"


def test_a_key_stays_whose_it_is(tmp_path: Path) -> None:
    """A renamed account keeps its user, and therefore its runs; another key makes another user."""

    async def play() -> list[Any]:
        async with opened(Options(home=tmp_path / "home", cpus=1)) as application:
            before = await application.add_user("before", "key-1")
            return [
                before,
                await application.add_user("after", "key-1"),
                await application.add_user("before", "key-2"),
                await application.add_user("after", "key-3"),
            ]

    before, renamed, second_key, another = asyncio.run(play())
    assert before == renamed == second_key
    assert another.id != before.id
    assert another.name == "after"
