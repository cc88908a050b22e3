"""Tests of what does not run on the event loop: whatever grows with the size of a run."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from grid.service.api.context import Context
from grid.service.api.operations import Operations
from grid.service.api.schema import executable_schema
from grid.service.domain import lifecycle
from grid.service.domain.accounts import User
from grid.service.http.app import Application, opened
from grid.service.store.experiment_rows import Which
from grid.service.system.settings import Options
from grid.shared.wire import ExperimentStatus
from tests.support.environments import clean_environment
from tests.support.experiments import insert_run
from tests.support.waiting import wait_until

START = "mutation($input: StartRunInput!) { startRun(input: $input) { run { name experimentCount } } }"
PAGE = """query($name: String!) { run(name: $name) { experiments(first: 1000) { nodes {
  id name status parameters invocationCommand user { username } createdAt finishedAt
} } } }"""
FOLLOW = "subscription($id: ID!, $after: StringMap!) { runLogs(id: $id, after: $after) { text isEnd } }"
LOGS = 'query($after: StringMap!) { run(name: "r0") { logs(after: $after) { isEnd pages { text isEnd } } } }'

# A service that says at its end what the garbage collector no longer looks at.
_SERVICE = """
import atexit, gc, runpy
atexit.register(lambda: print(gc.get_freeze_count()))
runpy.run_module("grid.service", run_name="__main__", alter_sys=True)
"""


@contextmanager
def calls_on_this_thread() -> Iterator[Counter[str]]:
    """Count the calls of Python functions on this thread, by their names."""
    calls: Counter[str] = Counter()

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_name] += 1

    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def often(calls: Counter[str], number: int) -> dict[str, int]:
    """What was called so often, or more often."""
    return {name: times for name, times in calls.items() if times >= number}


async def refused(*_: Any) -> Context:
    """Nobody asks who sends a request: the tests say it."""
    raise AssertionError


async def stored(application: Application, user: User) -> str:
    """Store a snapshot of a script, and return its digest."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as members:
        members.addfile(tarfile.TarInfo("run.py"))
    content = written.getvalue()
    digest = sha256(content).hexdigest()

    async def body() -> AsyncIterator[bytes]:
        yield content

    given = await application.service.snapshots.announce(user.id, digest, len(content))
    assert given is not None
    await application.service.snapshots.receive(digest, parse_qsl(urlsplit(given.path).query), body())
    return digest


async def answer(application: Application, user: User, text: str, **variables: Any) -> Any:
    """Answer an operation, as the service does when it has read one."""
    operations = Operations(executable_schema(), refused)
    params = {"query": text, "variables": variables}
    document, operation = operations.load(params)
    with calls_on_this_thread() as calls:
        given = await operations.run(document, operation, params, Context(application.service, user))
    assert "errors" not in given, given
    return given["data"], calls


def test_what_grows_with_a_run_leaves_the_event_loop(tmp_path: Path) -> None:
    """Nothing is called there once for each experiment, neither at the start of a run nor for a page of it."""
    number = 1_000

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1)) as application:
            user = await application.add_user("alice", "k" * 43)
            settings = {"entrypoint": "run.py", "scriptArgs": f"--n 'range({number})' --lr 0.1", "cpus": 2}
            start = {
                "key": "k" * 16,
                "settings": settings,
                "snapshot": await stored(application, user),
                "script": "run.py",
            }
            started, called = await answer(application, user, START, input=start)
            assert started["startRun"]["run"]["experimentCount"] == number
            assert often(called, number) == {}

            name = started["startRun"]["run"]["name"]
            page, called = await answer(application, user, PAGE, name=name)
            nodes = orjson.loads(orjson.dumps(page))["run"]["experiments"]["nodes"]
            assert [node["name"] for node in nodes] == [f"{name}-exp{index}" for index in range(number)]
            assert nodes[-1]["invocationCommand"] == f"python run.py --n {number - 1} --lr 0.1"
            assert often(called, number) == {}

    asyncio.run(play())


def test_going_on_with_the_logs_of_a_run_leaves_the_event_loop(tmp_path: Path) -> None:
    """Nothing is called there once for each experiment that is known, nor for each that changes at the same time."""
    number, viewer = 1_000, User("u", "u")
    statuses = [ExperimentStatus.QUEUED] * number + [ExperimentStatus.SUCCEEDED] * number

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1), starting=False) as application:
            ids = await application.database.write(lambda connection: insert_run(connection, *statuses))
            after = {**dict.fromkeys(ids[:number], "1:1"), **dict.fromkeys(ids[number:-1], "2:1"), ids[-1]: "1:2"}
            folder = tmp_path / "home" / "experiments" / ids[-1] / "attempt-1"
            folder.mkdir(parents=True)
            (folder / "output").write_text("one\ntwo\n")

            found, called = await answer(application, viewer, LOGS, after=after)
            assert found["run"]["logs"] == {"isEnd": False, "pages": [{"text": "two\n", "isEnd": True}]}
            assert often(called, number) == {}

            operations = Operations(executable_schema(), refused)
            params = {"query": FOLLOW, "variables": {"id": "r0", "after": after}}
            with calls_on_this_thread() as called:
                context = Context(application.service, viewer)
                stream = await operations.subscribe(*operations.load(params), params, context)
                async with aclosing(stream):
                    assert await anext(stream) == {"data": {"runLogs": {"text": "two\n", "isEnd": True}}}
                    waiting = asyncio.ensure_future(anext(stream))
                    await application.database.write(
                        lambda connection: len(lifecycle.cancel_queued(connection, Which.run(1), at=1))
                    )
                    application.service.changes.announce([1])
                    assert await waiting == {"data": {"runLogs": {"text": "", "isEnd": True}}}
            assert often(called, number) == {}

    asyncio.run(play())


def test_the_garbage_collector_leaves_the_program_alone(tmp_path: Path) -> None:
    """What a service is made of is not looked through at each collection, during which nothing else runs."""
    command = [sys.executable, "-c", _SERVICE, "serve", "--embedded"]
    with subprocess.Popen(command, env=clean_environment(tmp_path), stdout=subprocess.PIPE, text=True) as service:
        try:
            wait_until((tmp_path / ".grid" / "service" / "service.json").exists, "the service")
        finally:
            service.terminate()
        frozen, _ = service.communicate(timeout=60)
    assert int(frozen) > 10_000
