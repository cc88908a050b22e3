"""Who may do what: each operation of the schema, with each kind of key. A real service, users made by real commands.

An operation that has no row in the table fails the tests, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from grid import Run
from grid.chain.endpoint import Endpoint
from grid.session import session as sessions
from tests.support.experiments import database_of, output_of, starter
from tests.support.people import add_user, endpoint_of, operated, session_of
from tests.support.requests import ask
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text(encoding="utf-8"))
OPERATIONS = [
    f"{root.name}.{field}"
    for root in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type)
    if root is not None
    for field in root.fields
]

FAILS = "raise SystemExit(3)"
WAITS = "import os, sys, time\nprint('ready', flush=True)\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
WATCH = "subscription($name: String!, $owner: String) { runStatusChanged(name: $name, owner: $owner) { revision } }"
VIEWER = "{ viewer { id username } }"

STATE = (
    "SELECT * FROM runs ORDER BY seq",
    "SELECT * FROM removals ORDER BY kind, name",
    "SELECT * FROM clusters ORDER BY name",
    "SELECT * FROM uploads ORDER BY digest, user_id",
    "SELECT * FROM users ORDER BY id",
    "SELECT * FROM api_keys ORDER BY digest",
    "SELECT * FROM memberships ORDER BY team_id, user_id",
    "SELECT e.* FROM experiments e JOIN runs ON runs.seq = run_seq WHERE runs.id = :run ORDER BY e.seq",
    "SELECT e.* FROM events e JOIN runs ON runs.seq = run_seq WHERE runs.id = :run ORDER BY e.seq",
    "SELECT r.* FROM retries r JOIN runs ON runs.seq = run_seq WHERE runs.id = :run ORDER BY r.key",
    """SELECT a.* FROM attempts a JOIN experiments e ON e.seq = experiment_seq JOIN runs ON runs.seq = run_seq
    WHERE runs.id = :run ORDER BY number""",
)


@dataclass(frozen=True)
class People:
    """The authorization of each kind of caller."""

    service: ServiceProcess
    owner: Endpoint
    teammate: Endpoint
    stranger: Endpoint
    refused: dict[str, str | None]


@dataclass(frozen=True)
class Target:
    """What the operations aim at: one of the owner's runs."""

    owner: str
    owner_id: str
    run: str
    run_id: str
    experiment: str
    experiment_id: str
    snapshot: str


@dataclass(frozen=True)
class Row:
    """An operation, and its answer to each kind of caller: the code of an error, or a check of its field."""

    document: str
    variables: Callable[[Target], dict[str, Any]]
    stranger: str | Callable[[Any, Target], bool]
    teammate: str | Callable[[Any, Target], bool]
    owner: Callable[[Any, Target], bool]
    script: str = FAILS


def basic(user: str, key: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


def anything(value: Any, _: Target) -> bool:
    """There is something, whatever it is."""
    return value is not None


def nothing(value: Any, _: Target) -> bool:
    """There is nothing of that name for the caller."""
    return value is None


def not_deleted(value: Any, _: Target) -> bool:
    """There is nothing of that id for the caller to delete."""
    return value == {"deleted": False}


def theirs(value: Any, target: Target) -> bool:
    """The run or the experiment, with its owner's name."""
    return value["id"] in (target.run_id, target.experiment_id) and value["user"]["username"] == target.owner


def listed(value: Any, target: Target) -> bool:
    """The run is among those that are listed."""
    return target.run in [run["name"] for run in value["nodes"]]


def not_listed(value: Any, target: Target) -> bool:
    """The run is not among those that are listed, nor any other of its owner's."""
    return target.owner not in [run["user"]["username"] for run in value["nodes"]]


def start_input(target: Target) -> dict[str, Any]:
    """A run of the same source code."""
    settings = {"entrypoint": "run.py", "cpus": 1}
    return {"key": "0123456789abcdef", "settings": settings, "snapshot": target.snapshot, "script": "run.py"}


def open_to_all(document: str, variables: Callable[[Target], dict[str, Any]] = lambda _: {}) -> Row:
    """An operation that every user may request, because it is not about runs of any user."""
    return Row(document, variables, anything, anything, anything)


ROWS = {
    "Query.apiVersion": open_to_all("{ apiVersion }"),
    "Query.serviceVersion": open_to_all("{ serviceVersion }"),
    "Query.viewer": Row(
        VIEWER,
        lambda _: {},
        lambda value, _: value["username"] == "stranger",
        lambda value, _: value["username"] == "teammate",
        lambda value, target: value == {"id": target.owner_id, "username": target.owner},
    ),
    "Query.run": Row(
        "query($name: String!, $owner: String) { run(name: $name, owner: $owner) { id user { username } } }",
        lambda target: {"name": target.run, "owner": target.owner},
        nothing, theirs, theirs,
    ),
    "Query.runs": Row(
        "{ runs(first: 1000) { nodes { name user { username } } } }", lambda _: {}, not_listed, not_listed, listed
    ),
    "Query.experiment": Row(
        "query($id: ID!) { experiment(id: $id) { id user { username } } }",
        lambda target: {"id": target.experiment_id},
        nothing, theirs, theirs,
    ),
    "Query.experimentByName": Row(
        "query($name: String!, $owner: String)"
        "{ experimentByName(name: $name, owner: $owner) { id user { username } } }",
        lambda target: {"name": target.experiment, "owner": target.owner},
        nothing, theirs, theirs,
    ),
    "Query.clusters": open_to_all("{ clusters { name } }"),
    "Query.cluster": open_to_all('{ cluster(name: "local") { name } }'),
    "Query.estimate": open_to_all('{ estimate(settings: {entrypoint: "run.py"}) { hourlyCost } }'),
    "Query.preview": open_to_all('{ preview(settings: {entrypoint: "run.py"}, script: "run.py") { hourlyCost } }'),
    "Mutation.createSnapshot": Row(
        "mutation($digest: String!) { createSnapshot(input: {digest: $digest, sizeBytes: 1}) { stored } }",
        lambda target: {"digest": target.snapshot},
        lambda value, _: not value["stored"], lambda value, _: value["stored"], lambda value, _: value["stored"],
        f"{FAILS}# announced\n",
    ),
    "Mutation.startRun": Row(
        "mutation($input: StartRunInput!) { startRun(input: $input) { run { name } } }",
        lambda target: {"input": start_input(target)},
        "INVALID_SNAPSHOT", anything, anything, f"{FAILS}# started\n",
    ),
    "Mutation.cancelRun": Row(
        "mutation($name: String!, $owner: String)"
        "{ cancelRun(name: $name, owner: $owner, waitSeconds: 20) { ended pending } }",
        lambda target: {"name": target.run, "owner": target.owner},
        "RUN_NOT_FOUND", "FORBIDDEN", lambda value, target: value["ended"] == [target.experiment],
        WAITS,
    ),
    "Mutation.cancelExperiment": Row(
        "mutation($name: String!, $owner: String)"
        "{ cancelExperiment(name: $name, owner: $owner, waitSeconds: 20) { ended pending } }",
        lambda target: {"name": target.experiment, "owner": target.owner},
        "EXPERIMENT_NOT_FOUND", "FORBIDDEN", lambda value, target: value["ended"] == [target.experiment],
        WAITS,
    ),
    "Mutation.retryRun": Row(
        'mutation($id: ID!) { retryRun(input: {id: $id, key: "0123456789abcdef"}) { names } }',
        lambda target: {"id": target.run_id},
        "RUN_NOT_FOUND", "FORBIDDEN", lambda value, target: value["names"] == [target.experiment],
    ),
    "Mutation.deleteRun": Row(
        "mutation($id: ID!) { deleteRun(id: $id) { deleted } }",
        lambda target: {"id": target.run_id},
        not_deleted, "FORBIDDEN", lambda value, _: value == {"deleted": True},
    ),
    "Mutation.deleteExperiment": Row(
        "mutation($id: ID!) { deleteExperiment(id: $id) { deleted } }",
        lambda target: {"id": target.experiment_id},
        not_deleted, "FORBIDDEN", lambda value, _: value == {"deleted": True},
    ),
    "Mutation.pauseCluster": Row(
        'mutation { pauseCluster(name: "local") { name } }', lambda _: {}, "FORBIDDEN", "FORBIDDEN", anything, WAITS
    ),
    # It is not paused: there is nothing to do, and nothing that anybody could do wrong.
    "Mutation.resumeCluster": open_to_all('mutation { resumeCluster(name: "local") { name } }'),
    "Subscription.runStatusChanged": Row(
        WATCH, lambda target: {"name": target.run, "owner": target.owner}, "RUN_NOT_FOUND", anything, anything
    ),
    "Subscription.runEvents": Row(
        "subscription($id: ID!) { runEvents(id: $id) { isEnd events { name } } }",
        lambda target: {"id": target.run_id}, "RUN_NOT_FOUND", anything, anything
    ),
    "Subscription.runLogs": Row(
        "subscription($id: ID!) { runLogs(id: $id) { name text } }",
        lambda target: {"id": target.run_id}, "RUN_NOT_FOUND", anything, anything, f"print('told')\n{FAILS}"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """A service, and a user of each kind."""
    with service_process(tmp_path_factory.mktemp("people"), "--cpus", "2", "--grace", "1") as service:
        for team in ("vision", "speech"):
            operated(service.home, "teams", "add", team)
        before = add_user(service, "owner", "vision")
        teammate = add_user(service, "teammate", "vision", "speech")
        gone = add_user(service, "gone", "vision")
        stranger = add_user(service, "stranger", "speech")
        operated(service.home, "users", "disable", "gone")
        owner = endpoint_of(operated(service.home, "users", "rotate", "owner"))
        refused = {
            "no key": None,
            "somebody else's key": basic("owner", stranger.api_key),
            "a disabled user's key": gone.authorization,
            "a key that was replaced": before.authorization,
        }
        yield People(service, owner, teammate, stranger, refused)


@pytest.fixture
def aim(people: People, tmp_path: Path) -> Iterator[Callable[[str], Target]]:
    """Start a run as its owner; return once nothing changes by itself any longer."""
    sessions.use(session_of(people.owner))
    start = starter(tmp_path)
    started: list[Run] = []

    def aim(script: str) -> Target:
        run = start(script, str(tmp_path / "go-on"))
        started.append(run)
        (experiment,) = run
        if script == WAITS:
            wait_until(lambda: output_of(people.service, experiment) == "ready\n", "the script")
            wait_until(lambda: list(run.status()) == ["RUNNING"], "the experiment")
        else:
            wait_for_run(run)
        with database_of(people.service) as connection:
            (snapshot,) = connection.execute("SELECT snapshot FROM runs WHERE id = ?", [run.id]).fetchone()
        owner = people.owner.user_id
        return Target("owner", owner, run.name, run.id, experiment.name, experiment.id, snapshot)

    yield aim
    (tmp_path / "go-on").touch()
    ask(people.service.endpoint, 'mutation { resumeCluster(name: "local") { name } }')
    ask(people.owner, 'mutation { resumeCluster(name: "local") { name } }')


def attempt(people: People, operation: str, target: Target, authorization: str | None) -> dict[str, Any]:
    """Request an operation: over HTTP, or over a WebSocket if it is a subscription."""
    row = ROWS[operation]
    variables = row.variables(target)
    if operation.startswith("Subscription."):
        return watch(people.service, row.document, variables, authorization)
    return ask(people.owner.graphql_url, row.document, authorization, **variables)


def watch(
    service: ServiceProcess, document: str, variables: dict[str, Any], authorization: str | None
) -> dict[str, Any]:
    """Subscribe, and return the first answer; if the connection is closed, an error with the code of that."""
    with listening(service, authorization) as socket:
        try:
            return first_answer(socket, document, variables)
        except ConnectionClosed as closed:
            return {"errors": [{"extensions": {"code": reason_of(closed)}}]}


@contextmanager
def listening(service: ServiceProcess, authorization: str | None) -> Iterator[ClientConnection]:
    """Yield a WebSocket over which the greeting was sent."""
    headers = {} if authorization is None else {"Authorization": authorization}
    url = service.endpoint.graphql_url.replace("http", "ws", 1)
    with connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers, open_timeout=60) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        yield socket


def first_answer(socket: ClientConnection, document: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Subscribe over a WebSocket that was greeted, and return what comes first."""
    assert json.loads(socket.recv(30))["type"] == "connection_ack"
    payload = {"query": document, "variables": variables}
    socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
    return answer_in(json.loads(socket.recv(30)))


def answer_in(message: dict[str, Any]) -> dict[str, Any]:
    """The answer that a message of the protocol carries."""
    payload = message["payload"]
    return {"errors": payload} if message["type"] == "error" else payload


def reason_of(closed: ConnectionClosed) -> str:
    """The code of the error that a WebSocket was closed with."""
    assert closed.rcvd is not None
    assert closed.rcvd.code == 4403
    return closed.rcvd.reason.partition(":")[0]


def code_of(answer: dict[str, Any]) -> str:
    """The code of the only error of an answer, which has nothing else in it."""
    assert "errors" in answer, answer
    (error,) = answer["errors"]
    assert not any((answer.get("data") or {}).values()), answer
    return error["extensions"]["code"]


def check(
    answer: dict[str, Any], operation: str, expected: str | Callable[[Any, Target], bool], target: Target, who: str
) -> None:
    """Require that an answer is what the table says."""
    if isinstance(expected, str):
        assert code_of(answer) == expected, f"{operation} by {who}"
        if expected != "FORBIDDEN":
            assert target.owner not in json.dumps(answer), f"{operation} tells {who} whose it is: {answer}"
        return
    assert "errors" not in answer, f"{operation} by {who}: {answer}"
    value = answer["data"][operation.partition(".")[2]]
    assert expected(value, target), f"{operation} by {who}: {value}"


def state(service: ServiceProcess, target: Target) -> list[tuple[Any, ...]]:
    """Everything that an operation could have changed, and that does not change by itself."""
    with database_of(service) as connection:
        return [row for query in STATE for row in connection.execute(query, {"run": target.run_id})]


def test_every_operation_has_its_row() -> None:
    """The table has exactly the operations that the schema has."""
    assert sorted(ROWS) == sorted(OPERATIONS)


@pytest.mark.parametrize("operation", sorted(ROWS))
def test_who_may_do_what(people: People, aim: Callable[[str], Target], operation: str) -> None:
    """Without an accepted key nothing works; strangers find nothing, teammates may read, owners may do everything."""
    row = ROWS[operation]
    target = aim(row.script)
    before = state(people.service, target)
    answers = [attempt(people, operation, target, each) for each in people.refused.values()]
    for who, answer in zip(people.refused, answers, strict=True):
        assert code_of(answer) == "UNAUTHENTICATED", f"{operation} with {who}"
    # The refusal does not say which of the two was wrong.
    assert answers[1] == answers[2] == answers[3]
    assert state(people.service, target) == before
    for who, expected, endpoint in (
        ("a stranger", row.stranger, people.stranger),
        ("a teammate", row.teammate, people.teammate),
    ):
        check(attempt(people, operation, target, endpoint.authorization), operation, expected, target, who)
        if expected is not anything:
            assert state(people.service, target) == before, f"{operation} by {who} has changed something"
    answer = attempt(people, operation, target, people.owner.authorization)
    check(answer, operation, row.owner, target, "the owner")


@pytest.mark.parametrize("operation", [name for name, row in ROWS.items() if row.stranger is not anything])
def test_a_stranger_cannot_tell_what_is_there(people: People, aim: Callable[[str], Target], operation: str) -> None:
    """What a stranger may not read is answered exactly like what does not exist."""
    target = aim(f"{FAILS}# {operation}\n")
    none = replace(
        target,
        owner="nobody",
        run="no-such-run",
        run_id="0" * 32,
        experiment="no-such-run-exp0",
        experiment_id="1" * 32,
        snapshot="2" * 64,
    )

    def answer_about(what: Target) -> str:
        text = json.dumps(attempt(people, operation, what, people.stranger.authorization))
        text = text.replace(what.snapshot, "(snapshot)")
        for name in ("experiment", "run", "owner"):
            text = text.replace(getattr(what, name), f"({name})").replace(getattr(what, f"{name}_id"), f"({name} id)")
        return text

    if operation not in ("Query.viewer", "Query.runs"):  # which are about no user in particular
        assert answer_about(target) == answer_about(none)


def test_what_is_wrong_is_not_told(people: People) -> None:
    """An unknown user, a wrong key and a disabled user are refused in the same words."""
    url = people.owner.graphql_url
    wrong = [
        basic("no-such-user", people.owner.api_key),
        basic("owner", "wrong"),
        basic("gone", "wrong"),
        basic("no-such-user", "wrong"),
        *[each for each in people.refused.values() if each],
    ]
    answers = [ask(url, VIEWER, authorization) for authorization in wrong]
    assert [code_of(answer) for answer in answers] == ["UNAUTHENTICATED"] * len(wrong)
    assert all(answer == answers[0] for answer in answers)


def test_teams_do_not_join_up(people: People, aim: Callable[[str], Target]) -> None:
    """A user who shares a team with one's teammate, but none with oneself, is a stranger."""
    target = aim(FAILS)
    for endpoint, expected in ((people.teammate, theirs), (people.stranger, nothing)):
        answer = attempt(people, "Query.run", target, endpoint.authorization)
        check(answer, "Query.run", expected, target, endpoint.user_id)


def test_leaving_a_team(people: People, aim: Callable[[str], Target]) -> None:
    """Once users have left a team they read nothing of it any longer, not even what they were watching."""
    target = aim(WAITS)
    leaver = add_user(people.service, "leaver", "vision")
    with listening(people.service, leaver.authorization) as socket:
        assert "errors" not in first_answer(socket, WATCH, {"name": target.run, "owner": target.owner})
        operated(people.service.home, "teams", "leave", "vision", "leaver")
        for operation in ("Query.run", "Query.experiment", "Query.experimentByName", "Mutation.cancelRun"):
            answer = attempt(people, operation, target, leaver.authorization)
            check(answer, operation, ROWS[operation].stranger, target, "who has left")
        cancelled = attempt(people, "Mutation.cancelRun", target, people.owner.authorization)
        assert cancelled["data"]["cancelRun"]["ended"] == [target.experiment]
        assert code_of(answer_in(json.loads(socket.recv(30)))) == "RUN_NOT_FOUND"


@pytest.mark.parametrize("what", ["disable", "rotate"])
def test_watching_with_a_key_that_is_taken_away(people: People, aim: Callable[[str], Target], what: str) -> None:
    """A subscription hears nothing further once its user is disabled or has another key: its connection is closed."""
    target = aim(WAITS)
    watcher = add_user(people.service, f"watcher-{what}", "vision")
    with listening(people.service, watcher.authorization) as socket:
        assert "errors" not in first_answer(socket, WATCH, {"name": target.run, "owner": target.owner})
        operated(people.service.home, "users", what, f"watcher-{what}")
        attempt(people, "Mutation.cancelRun", target, people.owner.authorization)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(30)
        assert reason_of(closed.value) == "UNAUTHENTICATED"


def test_runs_of_a_disabled_user_can_be_read(people: People, tmp_path: Path) -> None:
    """A disabled user's runs stay readable for the team, and the user may come back."""
    leaving = add_user(people.service, "leaving", "vision")
    sessions.use(session_of(leaving))
    run = starter(tmp_path)(FAILS)
    wait_for_run(run)
    operated(people.service.home, "users", "disable", "leaving")
    sessions.use(session_of(people.teammate))
    assert Run(f"leaving:{run.name}").id == run.id
    operated(people.service.home, "users", "enable", "leaving")
    assert ask(leaving, VIEWER) == {"data": {"viewer": {"id": leaving.user_id, "username": "leaving"}}}
