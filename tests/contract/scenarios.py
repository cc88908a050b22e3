"""What is recorded for each operation, and what the client makes of it.

A scenario plays against a live service when it is recorded, and against its cassette ever after. What it needs to find
there is prepared by `prepare`, which is not recorded.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vcr
from vcr.request import Request

import grid
from grid import models
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.session import session as sessions
from grid.session.session import Session

CASSETTES = Path(__file__).parents[1] / "cassettes"
PROJECT = Path(__file__).parent / "project"

_ADDRESS = "http://grid.test"
_KEPT_REQUEST_HEADERS = {"accept", "content-type"}
_KEPT_RESPONSE_HEADERS = {"content-type", "content-length"}


@dataclass(frozen=True)
class Scenario:
    """What is played, and what must be there before."""

    play: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None


def _start(name: str) -> grid.Run:
    run = grid.Run(
        name=name,
        entrypoint="train.py",
        script_args="--rate '[0.1, 0.2]' --seed 'randint(0, 1000, 1)'",
        instance_type="t2.xlarge",
        cpus=1,
        localdir=True,
        seed=7,
    )
    run.start()
    return run


def _two_runs() -> None:
    _start("first")
    _start("second")


def _ended_run() -> None:
    _start("first").cancel()


def _delete_one() -> tuple[list[str], list[str]]:
    run = grid.get_run("first")
    run.experiments["first-exp0"].delete()
    return list(run.experiments), list(grid.get_run("first").experiments)


def _asked_for_artifacts(model: type[models.Model], **variables: Any) -> Any:
    """Ask about the files of an experiment that has made none: where files lie on a disk is never the same again."""
    experiment = grid.get_experiment_by_name("first-exp1")
    return _plain(sessions.current().execute(model, id=experiment.id, attempt=None, **variables))


def _delete_all() -> list[str]:
    grid.get_run("first").delete()
    return grid.list_runs()


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, models.Model) else value


SCENARIOS = {
    "Login": Scenario(lambda: _plain(sessions.current().viewer)),
    "RunNames": Scenario(grid.list_runs, _two_runs),
    "RunPage": Scenario(lambda: repr(grid.runs), _two_runs),
    "GetRun": Scenario(lambda: repr(list(grid.get_run("first").experiments)), lambda: _start("first")),
    "GetRunStatus": Scenario(lambda: dict(grid.get_run("first").status()), lambda: _start("first")),
    "GetExperiments": Scenario(lambda: repr(grid.get_run("first").experiments), lambda: _start("first")),
    "GetExperiment": Scenario(
        lambda: grid.get_experiment_by_id(grid.get_experiment_by_name("first-exp1").id).name, lambda: _start("first")
    ),
    "GetExperimentByName": Scenario(
        lambda: dict(grid.get_experiment_by_name("first-exp1").parameters), lambda: _start("first")
    ),
    "Estimate": Scenario(
        lambda: (
            grid.Run(
                entrypoint="train.py", script_args="--rate '[1, 2]'", instance_type="4_cpu_16gb"
            ).estimated_hourly_cost
        )
    ),
    "PreviewRun": Scenario(
        lambda: repr(
            grid.Run(
                entrypoint="train.py", script_args="--rate '[1, 2]' --depth 'range(3)'", localdir=True, seed=7, cpus=1
            ).preview(4)
        )
    ),
    "Clusters": Scenario(lambda: [_plain(each) for each in grid.list_clusters()]),
    "InstanceTypes": Scenario(lambda: [_plain(each) for each in grid.get_instance_types("local")]),
    "CreateSnapshot": Scenario(
        lambda: _plain(sessions.current().execute(models.CreateSnapshot, input={"digest": "0" * 64, "sizeBytes": 1024}))
    ),
    "StartRun": Scenario(lambda: repr(_start("first").experiments)),
    "CancelRun": Scenario(lambda: grid.cancel_run("first"), lambda: _start("first")),
    "CancelExperiment": Scenario(lambda: grid.cancel_experiment("first-exp1"), lambda: _start("first")),
    "GetFailure": Scenario(lambda: _plain(grid.get_experiment_by_name("first-exp1").failure), _ended_run),
    "GetFailures": Scenario(lambda: grid.get_run("first").failures(), _ended_run),
    "GetEvents": Scenario(
        lambda: _plain(sessions.current().execute(models.GetEvents, name="first", after=0, first=10)), _ended_run
    ),
    "GetArtifacts": Scenario(
        lambda: _asked_for_artifacts(models.GetArtifacts, first=1000, after=None), lambda: _start("first")
    ),
    "GetArtifact": Scenario(
        lambda: _asked_for_artifacts(models.GetArtifact, path="out.txt", waitSeconds=0), lambda: _start("first")
    ),
    "GetRunArtifacts": Scenario(lambda: grid.get_run("first").download_artifacts("out"), lambda: _start("first")),
    "GetBundle": Scenario(lambda: _asked_for_artifacts(models.GetBundle), lambda: _start("first")),
    "GetRunProgress": Scenario(lambda: grid.get_run("first").wait().name, _ended_run),
    "GetLog": Scenario(lambda: list(grid.get_experiment_logs("first-exp1")), lambda: _start("first")),
    "GetRunLogs": Scenario(lambda: list(grid.get_run("first").logs()), lambda: _start("first")),
    "GetBuildLog": Scenario(lambda: list(grid.get_build_logs(exp_name="first-exp1")), lambda: _start("first")),
    "GetRunBuildLog": Scenario(lambda: list(grid.get_build_logs("first")), lambda: _start("first")),
    "RetryRun": Scenario(lambda: grid.get_run("first").retry(), _ended_run),
    "DeleteExperiment": Scenario(_delete_one, _ended_run),
    "DeleteRun": Scenario(_delete_all, _ended_run),
    "PauseCluster": Scenario(
        lambda: (grid.pause_cluster("local"), grid.list_clusters()[0].paused), lambda: grid.resume_cluster("local")
    ),
    "ResumeCluster": Scenario(lambda: (grid.resume_cluster("local"), grid.list_clusters()[0].paused)),
}
"""For each query and mutation, by its name. What else a scenario sends on its way is in its cassette, too."""


@contextmanager
def cassette(path: Path, *, record: bool) -> Iterator[Any]:
    """Record what the client sends and what it is answered, or answer from the record and let nothing through."""
    recorder = vcr.VCR(
        record_mode="all" if record else "none",
        match_on=["method", "scheme", "host", "port", "path", "query", "body"],
        before_record_request=_without_what_differs,
        before_record_response=_without_volatile_headers,
        decode_compressed_response=True,
    )
    with recorder.use_cassette(str(path)) as tape:
        yield tape


def open_session(endpoint: Endpoint | None = None, cls: type[Session] = Session) -> Session:
    """Log in, with nothing about the client that would differ the next time."""
    numbers = itertools.count()
    session = cls(
        endpoint or Endpoint(_ADDRESS, "user", "key"),
        is_embedded=False,
        policy=RetryPolicy(tries=1),
        new_key=lambda: f"key-{next(numbers):028d}",
    )
    session.interpreter = "/usr/bin/python3"
    sessions.use(session)
    return session


@contextmanager
def in_project() -> Iterator[None]:
    """Work beside the recorded runs' script, in a copy outside any repository: each clone has another origin."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(shutil.copytree(PROJECT, Path(folder) / "project"))
        try:
            yield
        finally:
            os.chdir(before)


def _without_what_differs(request: Request) -> Request:
    scheme, rest = request.uri.split("://", 1)
    request.uri = _ADDRESS + "/" + rest.partition("/")[2]
    assert scheme == "http"
    request.headers = {name: value for name, value in request.headers.items() if name.lower() in _KEPT_REQUEST_HEADERS}
    return request


def _without_volatile_headers(response: dict[str, Any]) -> dict[str, Any]:
    headers = response["headers"]
    response["headers"] = {name: headers[name] for name in headers if name.lower() in _KEPT_RESPONSE_HEADERS}
    response.pop("url", None)
    return response
