"""How many SQL statements each operation of the client takes: as many for a large store as for a small one.

One that asks once for each row of a list (an "N+1") shows with ten rows as with ten thousand. Nor may a statement walk
through a whole table that grows with the store: SQLite is asked how it would carry out each of them, and for the same
answer it must not take more instructions because other runs have more experiments.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import sqlalchemy as sa
from graphql import OperationType
from sqlalchemy import Connection

from grid.chain.registry import Registry
from grid.service.api.context import Context
from grid.service.api.operations import Operations
from grid.service.api.schema import executable_schema
from grid.service.domain import lifecycle
from grid.service.domain.accounts import User
from grid.service.executors.protocol import AttemptName, Ending
from grid.service.http.app import Application, opened
from grid.service.store import run_rows
from grid.service.store.experiment_rows import Which
from grid.service.store.tables import runs
from grid.service.system.settings import Options
from grid.shared.wire import ACTIVE, ExperimentStatus, Reason
from tests.support.experiments import insert_run


class Store(NamedTuple):
    """How large a store is."""

    size: int
    """How many runs are asked about, how many experiments each has, and how many attempts the first of these."""
    others: int
    """How many experiments each of three further runs has."""


SMALL, LARGE, FULL = Store(3, 2), Store(40, 2), Store(3, 1_000)

SETTINGS = {"entrypoint": "run.py", "scriptArgs": "--n 'range(SIZE)'", "cpus": 1}
STORED = {
    **dict.fromkeys(("dependencyFile", "memory", "datastoreName", "datastoreVersion", "datastoreMountDir"), ""),
    **dict.fromkeys(("scratchSize", "scratchMountPath", "dockerfile", "configFile"), ""),
    "strategy": "GRID_SEARCH",
    "framework": "LIGHTNING",
    "instanceType": "t2.medium",
    "environment": {},
    "numTrials": 0,
    "seed": 0,
    "gpus": 0,
    "useSpot": False,
    "localdir": False,
    **SETTINGS,
}
"""The settings of every run, as they are stored."""

FAILED, QUEUED, MIXED = "r0", "r1", "r2"
"""Runs: one whose experiments have failed, each in its own way; one that waits; one with a little of everything."""

VARIABLES: dict[str, dict[str, Any]] = {
    "CancelExperiment": {"name": f"{QUEUED}-exp1", "waitSeconds": 1},
    "CancelRun": {"name": QUEUED, "waitSeconds": 1},
    "Clusters": {},
    "CreateSnapshot": {"input": {"digest": "0" * 64, "sizeBytes": 5}},
    "DeleteExperiment": {"id": "r0e1"},
    "DeleteRun": {"id": FAILED},
    "Estimate": {"settings": SETTINGS},
    "GetBuildLog": {"id": "r0e0"},
    "GetEvents": {"name": FAILED, "after": 1, "first": 1000},
    "GetArtifact": {"id": "r0e0", "path": "x", "waitSeconds": 1, "attempt": 1},
    "GetArtifacts": {"id": "r0e0", "first": 1000, "attempt": 1},
    "GetBundle": {"id": "r0e0", "attempt": 1},
    "GetExperiment": {"id": "r0e0"},
    "GetExperimentByName": {"name": f"{FAILED}-exp0"},
    "GetExperiments": {"run": FAILED, "first": 500},
    "GetFailure": {"id": "r0e0"},
    "GetFailures": {"name": FAILED},
    "GetLog": {"id": "r0e0", "attempt": 1, "number": 1},
    "GetRun": {"name": FAILED, "first": 500},
    "GetRunProgress": {"name": MIXED},
    "GetRunBuildLog": {"name": MIXED},
    "GetRunLogs": {"name": MIXED, "after": {"r2e0": "1:1"}, "last": 200},
    "GetRunArtifacts": {"run": FAILED, "experiments": 50, "first": 100},
    "GetRunStatus": {"name": MIXED},
    "InstanceTypes": {"cluster": "local"},
    "Login": {},
    "PauseCluster": {"name": "local"},
    "PreviewRun": {"settings": SETTINGS, "script": "run.py", "name": "new", "first": 10},
    "ResumeCluster": {"name": "local"},
    "RetryRun": {"input": {"id": FAILED, "key": "k" * 16}},
    "RunEvents": {"id": FAILED, "after": 1},
    "RunLogs": {"id": "r2", "last": 200},
    "RunNames": {"first": 1000},
    "RunPage": {"first": 100},
    "RunProgress": {"name": MIXED},
    "RunStatusChanged": {"name": MIXED},
    "StartRun": {
        "first": 500,
        "input": {
            "key": "k" * 16,
            "snapshot": "d",
            "script": "run.py",
            "project": "p",
            "commitSha": "c",
            "scriptCommand": "run.py",
            "settings": SETTINGS,
        },
    },
}
"""For each operation of the client, by its name."""

OTHERS = {
    "names of all runs": "{ runs(first: 9) { nodes { status { revision groups { status count names } } } } }",
    "twice": "{ runs(first: 4) { nodes { a: status { ...S } b: status { ...S } } } } "
    "fragment S on RunStatus { groups { names } }",
    "attempts": "query($name: String!) { run(name: $name) { experiments { nodes { attempts { number } } } } }",
    "artifacts": "query($name: String!) { run(name: $name) { experiments { nodes { artifacts(first: 5, attempt: 1) "
    "{ nodes { path } } bundlePath } } } }",
    "failures": "query($name: String!) { run(name: $name) { experiments { nodes { failure { reason } } } } }",
    "logs": "query($name: String!) { run(name: $name) { experiments(first: 40) { nodes { log(last: 1) { text } } } } }",
    "logs of first attempts": "query($name: String!) "
    "{ run(name: $name) { experiments(first: 40) { nodes { log(attempt: 1) { text } } } } }",
    "logs of a run": "query($name: String!) { run(name: $name) { logs { pages { text } isEnd } buildLog { text } } }",
    "build logs": "query($name: String!) { run(name: $name) { experiments { nodes { buildLog { text } } } } }",
    "followed logs": "subscription($id: ID!) { runLogs(id: $id) { text } }",
}
"""What others might ask, by what they ask for."""

TABLES = ("runs", "experiments", "events", "attempts", "status_counts", "retries")


def fill(connection: Connection, store: Store) -> None:
    """Fill an empty database."""
    size = store.size
    # Nothing active: a service that opens the store would take it over.
    mixed = [status for status in ExperimentStatus if status not in ACTIVE]
    kinds = [[ExperimentStatus.RUNNING], [ExperimentStatus.QUEUED], *[mixed] * (size - 2)]
    for statuses in kinds:
        insert_run(connection, *(statuses * size)[:size])
    for _ in range(3):
        insert_run(connection, *[ExperimentStatus.SUCCEEDED] * store.others)
    connection.execute(sa.update(runs).values(settings=orjson.dumps(STORED).decode()))
    for index in range(size):
        ending = Ending(Reason.EXIT_CODE, exit_code=1, last_lines="lines", final_line=f"Error: {index}")
        lifecycle.end(connection, AttemptName(f"r0e{index}", 1), ending, at=index)
    for number in range(2, size):
        lifecycle.queue_again(connection, Which.experiment("r0e0"), at=1)
        lifecycle.change(connection, Which.attempt("r0e0", number), ExperimentStatus.PENDING, at=2)
        lifecycle.end(connection, AttemptName("r0e0", number), Ending(Reason.LOST), at=3)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[Store, Path]:
    """A home with each of the stores."""

    async def make(home: Path, store: Store) -> None:
        async with opened(Options(home=home, cpus=1), starting=False) as application:
            await application.database.write(lambda connection: fill(connection, store))

    made = {store: tmp_path_factory.mktemp("store") / "home" for store in (SMALL, LARGE, FULL)}
    for store, home in made.items():
        asyncio.run(make(home, store))
        (home / "snapshots" / "d").mkdir()
        (home / "snapshots" / "d" / "run.py").touch()
    return made


class Heard:
    """What an operation asks of a database."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []
        """Each statement with its parameters, the first ones if it is carried out with many."""
        self.instructions = 0
        """How many instructions of SQLite's that takes, in all."""

    def hear(self, connection: Connection, _: Any, statement: str, parameters: Any, __: Any, many: bool) -> None:
        """Note a statement that is about to be carried out."""
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(self._count, 1)
        if not statement.startswith(("BEGIN", "SAVEPOINT", "RELEASE")):
            self.statements.append((statement, parameters[0] if many else parameters))

    def _count(self) -> None:
        self.instructions += 1


@contextmanager
def listening(application: Application) -> Iterator[Heard]:
    """Hear what is asked of the database of an application."""
    heard = Heard()
    sa.event.listen(application.database.engine, "before_cursor_execute", heard.hear)
    yield heard
    sa.event.remove(application.database.engine, "before_cursor_execute", heard.hear)


async def asked(home: Path, query: str, variables: dict[str, Any]) -> Heard:
    """Carry out an operation; return what it asked of the database."""
    async with opened(Options(home=home, cpus=1), starting=False) as application:
        operations = Operations(executable_schema(), lambda *_: _nobody())
        params = {"query": query, "variables": variables}
        document, operation = operations.load(params)
        context = Context(application.service, User("u", "u"))
        application.accounts.operator_id = "u"  # who may pause the cluster
        # Returns when what an earlier service has left is removed: that is not part of an operation.
        await application.deletions.delete_run("none", "none")
        with listening(application) as heard:
            if operation.type is OperationType.SUBSCRIPTION:
                answers = await operations.subscribe(document, operation, params, context)
                answer = await anext(answers, {"data": {}})
                await answers.aclose()
            else:
                answer = await operations.run(document, operation, params, context)
            assert "errors" not in answer, answer
            assert None not in answer["data"].values()
        return heard


async def _nobody() -> None:
    """Return no context: each operation is given its own."""


def sized(variables: Any, size: int) -> Any:
    """Return variables with the size of the store in the place of the word."""
    return orjson.loads(orjson.dumps(variables).replace(b"SIZE", str(size).encode()))


@pytest.fixture
def of_each(homes: dict[Store, Path], tmp_path: Path) -> Callable[[str, dict[str, Any]], dict[Store, Heard]]:
    """Carry out an operation on a copy of each store; return what it asked of each."""

    def carry_out(query: str, variables: dict[str, Any]) -> dict[Store, Heard]:
        copies = {
            store: Path(shutil.copytree(home, tmp_path / str(store), symlinks=True)) for store, home in homes.items()
        }
        return {store: asyncio.run(asked(home, query, sized(variables, store.size))) for store, home in copies.items()}

    return carry_out


def check(found: dict[Store, Heard], home: Path) -> None:
    """Require as many statements for a large store as for a small one, and that none walks through a table."""
    small, large = ([statement for statement, _ in found[store].statements] for store in (SMALL, LARGE))
    assert len(small) == len(large), (len(small), len(large), large)
    with closing(sqlite3.connect(home / "grid.sqlite3")) as connection:
        for statement, parameters in found[LARGE].statements:
            plan = [words for *_, words in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            walks = [words for words in plan if re.match(rf"SCAN ({'|'.join(TABLES)})\b", words)]
            assert not walks, (statement, plan)


def test_every_operation_is_here() -> None:
    """Each query file of the client has its variables above."""
    assert VARIABLES.keys() == set(Registry().names)


@pytest.mark.parametrize("name", VARIABLES)
def test_statements_of_the_client(of_each: Any, homes: dict[Store, Path], name: str) -> None:
    """An operation of the client does as much for a large store as for a small one, wherever the answer is as large."""
    found = of_each(Registry().get(name).text, VARIABLES[name])
    check(found, homes[LARGE])
    assert found[FULL].instructions <= 1.2 * found[SMALL].instructions


@pytest.mark.parametrize("name", OTHERS)
def test_statements_of_others(of_each: Any, homes: dict[Store, Path], name: str) -> None:
    """What others might ask takes as many statements for a large store as for a small one."""
    variables = {word: FAILED for word in ("name", "id") if f"${word}" in OTHERS[name]}
    check(of_each(OTHERS[name], variables), homes[LARGE])


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ("id name experimentCount", set()),
        ("scriptCommand", {"script_command"}),
        ("...R", {"settings"}),
        ("...R scriptCommand", {"script_command", "settings"}),
    ],
)
def test_large_columns(homes: dict[Store, Path], tmp_path: Path, fields: str, read: set[str]) -> None:
    """A page of runs does not read what may be large, the sweep that each was made of, unless that is selected."""
    home = Path(shutil.copytree(homes[SMALL], tmp_path / "home", symlinks=True))
    fragment = " fragment R on Run { settings { scriptArgs } }" if "...R" in fields else ""
    heard = asyncio.run(asked(home, f"{{ runs(first: 1000) {{ nodes {{ {fields} }} }} }} {fragment}", {}))
    page, *_ = [statement for statement, _ in heard.statements if "FROM runs" in statement]
    assert {column for column in run_rows.LARGE if f"runs.{column}" in page} == read
