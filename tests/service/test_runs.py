"""Tests of starting runs: one key makes one run, a name is taken once, and the limits of the service."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from graphql import get_introspection_query

from grid import Run, list_runs, pause_cluster, runs, schema_path
from grid.errors import LimitExceeded, NameTaken, SweepError
from grid.schema_tools import diff_introspection, load_schema
from grid.session import session as sessions
from grid.shared.wire import MAX_PAGE_SIZE, MAX_TIMEOUT_SECONDS
from tests.support.experiments import database_of
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process

START = """
mutation($input: StartRunInput!) { startRun(input: $input) { run { id name experimentCount } warnings } }
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that starts nothing: here runs are only created."""
    with service_process(tmp_path_factory.mktemp("service"), "--cpus", "2") as running:
        sessions.use(running.session())
        pause_cluster("local")
        sessions.use(None)
        yield running


@pytest.fixture(scope="module")
def snapshot(service: ServiceProcess) -> str:
    """The digest of a stored snapshot of a script."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as members:
        members.addfile(tarfile.TarInfo("run.py"))
    content = written.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    announce = "mutation($d: String!, $n: Float!) { createSnapshot(input: {digest: $d, sizeBytes: $n}) { uploadPath } }"
    path = ask(service.endpoint, announce, d=digest, n=len(content))["data"]["createSnapshot"]["uploadPath"]
    parts = urlsplit(service.endpoint.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("PUT", path, content)
    assert connection.getresponse().status == 204
    connection.close()
    return digest


def given(snapshot: str, key: str, settings: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    """Return the input with which a run is started."""
    settings = {"entrypoint": "run.py", "cpus": 1, **(settings or {})}
    return {"key": key.rjust(16, "0"), "settings": settings, "snapshot": snapshot, "script": "run.py", **others}


def test_one_key_makes_one_run(service: ServiceProcess, snapshot: str) -> None:
    """A request that is repeated, at once, later or with other content, returns the run that the first one made."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(service.endpoint, START, input=given(snapshot, "same")), range(8)))
    later = given(snapshot, "same", {"scriptArgs": "--n '[1, 2]'"}, name="another-name")
    answers.append(ask(service.endpoint, START, input=later))
    made = [answer["data"]["startRun"]["run"] for answer in answers]
    assert made[1:] == made[:-1]
    assert made[0]["experimentCount"] == 1
    other = ask(service.endpoint, START, input=given(snapshot, "other"))["data"]["startRun"]["run"]
    assert other["id"] != made[0]["id"]


def test_names_are_taken_once(service: ServiceProcess, snapshot: str) -> None:
    """Of several requests for one name at once one gets it; the others are refused, and make nothing."""
    with ThreadPoolExecutor(8) as threads:
        wanted = [given(snapshot, f"name{number}", name="wanted") for number in range(8)]
        answers = list(threads.map(lambda each: ask(service.endpoint, START, input=each), wanted))
    refused = [answer for answer in answers if "errors" in answer]
    assert len(refused) == 7
    assert {code_of(answer) for answer in refused} == {"NAME_TAKEN"}
    count = ask(service.endpoint, "{ runs { totalCount } }")["data"]["runs"]["totalCount"]
    ask(service.endpoint, START, input=given(snapshot, "name-again", name="wanted"))
    assert ask(service.endpoint, "{ runs { totalCount } }")["data"]["runs"]["totalCount"] == count


def test_space_for_the_working_copies(service: ServiceProcess, snapshot: str) -> None:
    """A run is refused if there is no space for as many working copies as may exist at once; nothing is made."""
    resize = "UPDATE snapshots SET size_bytes = ? WHERE digest = ?"
    with database_of(service) as connection:
        (size,) = connection.execute("SELECT size_bytes FROM snapshots WHERE digest = ?", [snapshot]).fetchone()
        connection.execute(resize, [10**15, snapshot])
    try:
        answer = ask(service.endpoint, START, input=given(snapshot, "space", {"scriptArgs": "--n '[1, 2, 3]'"}))
    finally:
        with database_of(service) as connection:
            connection.execute(resize, [size, snapshot])
    assert code_of(answer) == "UNSUPPORTED"
    assert answer["errors"][0]["message"].startswith("2 working copies of the source code need 1,862,645.1 GiB ")
    fitting = ask(service.endpoint, START, input=given(snapshot, "space", {"scriptArgs": "--n '[1, 2, 3]'"}))
    assert fitting["data"]["startRun"]["run"]["experimentCount"] == 3


def test_client_whose_name_is_taken(session: object, start: Any) -> None:
    """The client says which name is taken; a run without a name gets one of its own."""
    start("", name="taken-name")
    with pytest.raises(NameTaken, match="already have a run named 'taken-name'"):
        start("", name="taken-name")
    assert start("").name != start("").name


@pytest.mark.parametrize(
    ("others", "settings", "code"),
    [
        ({"key": "short"}, {}, "INVALID_ARGUMENT"),
        ({"key": "k" * 65}, {}, "INVALID_ARGUMENT"),
        ({"key": "k" * 15 + "\n"}, {}, "INVALID_ARGUMENT"),
        ({"name": "Upper"}, {}, "INVALID_ARGUMENT"),
        ({"name": "ends-"}, {}, "INVALID_ARGUMENT"),
        ({"name": "n" * 201}, {}, "INVALID_ARGUMENT"),
        ({"description": "d" * 201}, {}, "INVALID_ARGUMENT"),
        ({"script": "/etc/passwd.py"}, {}, "INVALID_ARGUMENT"),
        ({"script": "../run.py"}, {}, "INVALID_ARGUMENT"),
        ({"script": "run.exe"}, {}, "INVALID_ARGUMENT"),
        ({"script": "run\0.py"}, {}, "INVALID_ARGUMENT"),
        ({"interpreter": "python"}, {}, "INVALID_ARGUMENT"),
        ({"commitSha": "c" * 65}, {}, "INVALID_ARGUMENT"),
        ({}, {"entrypoint": "run.exe"}, "INVALID_ARGUMENT"),
        ({}, {"memory": "1" * 4_001}, "INVALID_ARGUMENT"),
        ({}, {"memory": "16GB"}, "INVALID_ARGUMENT"),
        ({}, {"memory": "0G"}, "INVALID_ARGUMENT"),
        ({}, {"cpus": -1}, "INVALID_ARGUMENT"),
        ({}, {"seed": -1}, "INVALID_ARGUMENT"),
        ({}, {"timeout": 0}, "INVALID_ARGUMENT"),
        ({}, {"timeout": -0.5}, "INVALID_ARGUMENT"),
        ({}, {"timeout": 1e300}, "INVALID_ARGUMENT"),
        ({}, {"timeout": MAX_TIMEOUT_SECONDS + 1}, "INVALID_ARGUMENT"),
        ({}, {"timeout": float("nan")}, "BAD_REQUEST"),
        ({}, {"timeout": float("inf")}, "BAD_REQUEST"),
        ({}, {"timeout": True}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"timeout": "60"}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"maxRetries": -1}, "INVALID_ARGUMENT"),
        ({}, {"maxRetries": 2**31}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"maxRetries": 1.5}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"maxRetries": None}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"autoResume": 1}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"strategy": "RANDOM_SEARCH"}, "INVALID_ARGUMENT"),
        ({}, {"environment": {"1X": "y"}}, "INVALID_ARGUMENT"),
        ({}, {"environment": {"X": "a\0b"}}, "INVALID_ARGUMENT"),
        ({}, {"scriptArgs": "a\0b"}, "INVALID_ARGUMENT"),
        ({}, {"environment": {"X": 1}}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"instanceType": "no-such-type"}, "INVALID_ARGUMENT"),
        ({}, {"cluster": "elsewhere"}, "CLUSTER_NOT_FOUND"),
        ({}, {"gpus": 99}, "UNSUPPORTED"),
        ({}, {"dockerfile": "Dockerfile"}, "UNSUPPORTED"),
        ({}, {"scriptArgs": "--lr uniform(1)"}, "INVALID_SWEEP"),
        ({}, {"repeats": 0}, "INVALID_ARGUMENT"),
        ({}, {"params": " " * 1_000_001}, "LIMIT_EXCEEDED"),
        ({}, {"params": "nonsense"}, "INVALID_SWEEP"),
        ({}, {"params": '{"a": 1, "a": 2}'}, "INVALID_SWEEP"),
        ({}, {"params": '{"a": {"b": 1}}'}, "INVALID_SWEEP"),
        ({}, {"params": '{"a": "\\u0000"}'}, "INVALID_SWEEP"),
        ({}, {"params": '{"a": {"words": []}}', "paramsStyle": "KEY_EQUALS_VALUE"}, "INVALID_SWEEP"),
        ({}, {"paramsStyle": "--k v"}, "GRAPHQL_VALIDATION_FAILED"),
        ({}, {"params": '{"a": [1]}', "strategy": "NONE"}, "INVALID_SWEEP"),
        ({}, {"scriptArgs": "--a [1,2] --b [1,2,3]", "strategy": "ZIP"}, "INVALID_SWEEP"),
        ({}, {"repeats": 10_001}, "LIMIT_EXCEEDED"),
        ({}, {"scriptArgs": "--n 'range(10001)'"}, "LIMIT_EXCEEDED"),
        ({}, {"scriptArgs": "--a 'range(1000)' --b 'range(1000)' --c 'range(1000)'"}, "LIMIT_EXCEEDED"),
        ({"snapshot": "0" * 64}, {}, "INVALID_SNAPSHOT"),
    ],
)
def test_what_is_refused(
    service: ServiceProcess, snapshot: str, others: dict[str, Any], settings: dict[str, Any], code: str
) -> None:
    """The code says what is wrong with a run, and nothing is made."""
    count = ask(service.endpoint, "{ runs { totalCount } }")
    answer = ask(service.endpoint, START, input={**given(snapshot, "refused", settings), **others})
    assert code_of(answer) == code
    assert ask(service.endpoint, "{ runs { totalCount } }") == count


def test_client_with_too_many_experiments(session: object, start: Any) -> None:
    """The client raises what the limit's code stands for, before anything is uploaded."""
    with pytest.raises(LimitExceeded, match="10,001 experiments; a run may have at most 10,000"):
        start("", "--n 'range(10001)'")
    with pytest.raises(SweepError, match="--lr"):
        start("", "--lr 'uniform(1)'")


def test_as_many_experiments_as_a_run_may_have(service: ServiceProcess, snapshot: str, session: object) -> None:
    """A run of 10,000 experiments is made, and read page by page; once cancelled, it is over at once."""
    settings = {"scriptArgs": "--a 'range(100)' --b 'range(100)'"}
    made = ask(service.endpoint, START, input=given(snapshot, "many", settings))["data"]["startRun"]["run"]
    assert made["experimentCount"] == 10_000
    run = Run(made["name"])
    assert list(run.experiments) == [f"{run.name}-exp{index}" for index in range(10_000)]
    assert dict(run.experiments[f"{run.name}-exp9999"].parameters) == {"Script": "run.py", "a": "99", "b": "99"}
    assert len(run.cancel()) == 10_000
    assert {status: len(names) for status, names in run.status().items()} == {"CANCELLED": 10_000}


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("{ runs(first: 1001) { totalCount } }", {}, "LIMIT_EXCEEDED"),
        ("{ runs(first: 0) { totalCount } }", {}, "INVALID_ARGUMENT"),
        ("query($n: Int!) { runs(first: $n) { totalCount } }", {"n": MAX_PAGE_SIZE + 1}, "LIMIT_EXCEEDED"),
        ("query($n: Int!) { runs(first: $n) { totalCount } }", {"n": -1}, "INVALID_ARGUMENT"),
        ('{ runs(after: "!") { totalCount } }', {}, "INVALID_ARGUMENT"),
        ("{ runs(first: 1000) { nodes { experiments(first: 1000) { nodes { id } } } } }", {}, "LIMIT_EXCEEDED"),
        ("{ " + "__schema { types { " + "ofType { " * 60 + "name" + " }" * 63, {}, "LIMIT_EXCEEDED"),
        ("{ viewer { password } }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ viewer { id }", {}, "GRAPHQL_PARSE_FAILED"),
    ],
)
def test_limits_of_one_request(service: ServiceProcess, query: str, variables: dict[str, Any], code: str) -> None:
    """A request that asks for too much is refused with a code, each time that it is sent."""
    if "ofType" in query:
        query = query.replace("types { ofType", "types { fields { type { ofType", 1) + " } }"
    for _ in range(2):
        answer = ask(service.endpoint, query, **variables)
        assert {error["extensions"]["code"] for error in answer["errors"]} == {code}


def test_the_limit_holds_for_a_document_that_was_answered(service: ServiceProcess) -> None:
    """A document that is cached because it was answered is refused with variables that ask for too much."""
    query = "query Cached($n: Int!) { runs(first: $n) { nodes { id } } }"
    assert "data" in ask(service.endpoint, query, n=1)
    assert code_of(ask(service.endpoint, query, n=MAX_PAGE_SIZE + 1)) == "LIMIT_EXCEEDED"
    assert "data" in ask(service.endpoint, query, n=1)


def test_body_of_more_than_16_mib(service: ServiceProcess) -> None:
    """A request body over the limit is refused before it is read."""
    parts = urlsplit(service.endpoint.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    headers = {"Authorization": service.endpoint.authorization, "Content-Type": "application/json"}
    connection.putrequest("POST", "/graphql")
    for name, value in {**headers, "Content-Length": str(16 * 1024**2 + 1)}.items():
        connection.putheader(name, value)
    connection.endheaders(b"{")
    answer = connection.getresponse()
    assert answer.status == 413
    assert code_of(json.load(answer)) == "LIMIT_EXCEEDED"
    connection.close()


def test_runs_newest_first_and_all_of_them(service: ServiceProcess, session: object, snapshot: str) -> None:
    """Every run is listed, the newest first."""
    before = list_runs()
    for number in range(3):
        ask(service.endpoint, START, input=given(snapshot, f"listed{number}", name=f"listed-{number}"))
    assert list_runs() == ["listed-2", "listed-1", "listed-0", *before]
    assert len(runs) == len(before) + 3


def test_the_service_answers_what_the_schema_says(service: ServiceProcess) -> None:
    """The schema that the service reports is the one in the file, descriptions included."""
    answer = ask(service.endpoint, get_introspection_query(descriptions=True))
    assert diff_introspection(answer["data"], load_schema(schema_path())) == []


def test_sweeps_are_weighed(service: ServiceProcess) -> None:
    """An operation that asks for a few estimates is answered; one that asks for many sweeps at once is refused."""
    estimate = 'estimate(settings: {entrypoint: "run.py", cpus: 1}) { experimentCount }'
    parts = [f"a{number}: {estimate}" for number in range(30)]
    few, many = ("query { " + " ".join(parts[:number]) + " }" for number in (5, 30))
    assert len(ask(service.endpoint, few)["data"]) == 5
    assert code_of(ask(service.endpoint, many)) == "LIMIT_EXCEEDED"


def test_params_and_repeats(service: ServiceProcess, snapshot: str) -> None:
    """Values travel as JSON, whose numbers are passed on as they are written; an estimate says what a start says."""
    settings = {
        "scriptArgs": "--a [1,1] -- rest",
        "params": '{"lr": [1.10, 1e-05], "hidden": {"words": [64, 64]}}',
        "paramsStyle": "FLAG_EQUALS_VALUE",
        "repeats": 2,
    }
    query = "query($s: RunSettingsInput!) { estimate(settings: $s) { experimentCount warnings } }"
    estimate = ask(service.endpoint, query, s={"entrypoint": "run.py", "cpus": 1, **settings})["data"]["estimate"]
    started = ask(service.endpoint, START, input=given(snapshot, "params", settings))["data"]["startRun"]

    assert estimate["experimentCount"] == started["run"]["experimentCount"] == 8
    assert estimate["warnings"] == started["warnings"]
    assert ["2 of the 4 combinations are the same" in warning for warning in started["warnings"]] == [True]
    with database_of(service) as connection:
        rows = connection.execute(
            "SELECT arguments, parameters FROM experiments JOIN runs ON runs.seq = run_seq WHERE runs.name = ? "
            'ORDER BY "index"',
            [started["run"]["name"]],
        ).fetchall()
    assert [json.loads(arguments) for arguments, _ in rows[:3]] == [
        ["--a", "1", f"--lr={lr}", "--hidden", "64", "64", "--", "rest"] for lr in ("1.10", "1.10", "1e-05")
    ]
    assert list(json.loads(rows[1][1]).items())[-3:] == [("arg0", "--"), ("arg1", "rest"), ("repeat", "1")]
