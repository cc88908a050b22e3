"""The client's own share: loading a run, decoding an experiment."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

import grid
from benchmarks.report import beside, line, milliseconds
from grid import models
from grid.chain.decoding import decode
from grid.models import ExperimentRecord, User
from grid.session import session as sessions
from grid.shared.wire import ExperimentStatus
from grid.views import EXPERIMENTS_PAGE
from tests.support.projects import make_project
from tests.support.services import service_process

_EXPERIMENTS = 1_000
_REPEATS = 7


def loading(folder: Path) -> None:
    """`Run(name)` and all of its experiments, beside the same answers fetched with aiohttp and `json.loads`."""
    script = make_project(folder / "project", "print()")
    with service_process(folder) as service:
        session = service.session()
        sessions.use(session)
        grid.pause_cluster("local")
        run = grid.Run(entrypoint=str(script), script_args=f"--n 'range({_EXPERIMENTS})' --lr 0.1", cpus=1)
        run.start()

        def load() -> None:
            assert len(list(grid.Run(run.name))) == _EXPERIMENTS

        first = session.registry.get("GetRun")
        more = session.registry.get("GetExperiments")
        headers = {"authorization": service.endpoint.authorization}

        async def raw() -> None:
            async with aiohttp.ClientSession(headers=headers) as http:

                async def ask(query: Any, **variables: object) -> Any:
                    payload = {"query": query.text, "operationName": query.name, "variables": variables}
                    async with http.post(service.endpoint.graphql_url, json=payload) as answer:
                        return json.loads(await answer.read())["data"]["run"]["experiments"]

                page = await ask(first, name=run.name, first=EXPERIMENTS_PAGE)
                while page["pageInfo"]["hasNextPage"]:
                    page = await ask(more, run=run.name, first=EXPERIMENTS_PAGE, after=page["pageInfo"]["endCursor"])

        load()
        asyncio.run(raw())
        ours, theirs = beside(load, lambda: asyncio.run(raw()), _REPEATS)
    line(
        f"loading a run of {_EXPERIMENTS:,} experiments",
        milliseconds(ours),
        f"aiohttp + json.loads {milliseconds(theirs)}",
        ours / theirs,
        "1.5 x",
    )


def decoding(_: Path) -> None:
    """One experiment, beside a constructor written by hand."""
    payload = {
        "id": "0" * 32,
        "name": "clever-noether-1882-exp0",
        "status": "RUNNING",
        "project": "somebody/project",
        "commitSha": "0" * 40,
        "parameters": {"Script": "run.py", "max_epochs": "10", "learning_rate": "0.0007056001691752508"},
        "invocationCommand": "python run.py --max_epochs 10 --learning_rate 0.0007056001691752508",
        "user": {"username": "somebody"},
        "createdAt": "2021-08-10T16:59:58.058882+00:00",
        "startedRunningAt": "2021-08-10T16:59:59.058882+00:00",
        "finishedAt": None,
    }
    parse, status = datetime.fromisoformat, ExperimentStatus

    def by_hand(given: dict[str, Any]) -> ExperimentRecord:
        started, finished = given["startedRunningAt"], given["finishedAt"]
        return ExperimentRecord(
            id=given["id"],
            name=given["name"],
            status=status(given["status"]),
            project=given["project"],
            commit_sha=given["commitSha"],
            parameters=dict(given["parameters"]),
            invocation_command=given["invocationCommand"],
            user=User(username=given["user"]["username"]),
            created_at=parse(given["createdAt"]),
            started_running_at=None if started is None else parse(started),
            finished_at=None if finished is None else parse(finished),
        )

    assert by_hand(payload) == decode(models.ExperimentRecord, payload)
    number = 20_000
    ours, hand = beside(
        lambda: [decode(ExperimentRecord, payload) for _ in range(number)],
        lambda: [by_hand(payload) for _ in range(number)],
        _REPEATS,
    )
    line(
        "decoding one experiment",
        f"{ours / number * 1e6:.1f} us",
        f"constructor by hand {hand / number * 1e6:.1f} us",
        ours / hand,
        "1.5 x",
    )
