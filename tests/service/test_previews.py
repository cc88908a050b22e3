"""Tests of what the service says a run would be: the same as it then makes, refused alike, and nothing is made."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grid import pause_cluster
from grid.session import session as sessions
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process

PREVIEW = """
query($settings: RunSettingsInput!, $script: String! = "run.py", $name: String, $sizeBytes: Float, $first: Int! = 10,
      $interpreter: String) {
  preview(settings: $settings, script: $script, name: $name, sizeBytes: $sizeBytes, first: $first,
          interpreter: $interpreter) {
    experimentCount seed combinationCount sweep { name count axis } axes constantCount
    experiments { parameters invocationCommand } hourlyCost warnings
  }
}
"""
START = """
mutation($input: StartRunInput!) {
  startRun(input: $input) {
    run { experimentCount settings { seed } experiments(first: 10) { nodes { parameters invocationCommand } } }
    warnings
  }
}
"""
NUMBERS = iter(range(1_000))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that starts nothing."""
    with service_process(tmp_path_factory.mktemp("service"), "--cpus", "2") as running:
        sessions.use(running.session())
        pause_cluster("local")
        sessions.use(None)
        yield running


@pytest.fixture(scope="module")
def snapshot(service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a stored snapshot of a script."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as members:
        members.addfile(tarfile.TarInfo("run.py"))
    content = written.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    announce = "mutation($d: String!, $n: Float!) { createSnapshot(input: {digest: $d, sizeBytes: $n}) { uploadPath } }"
    path = ask(service.endpoint, announce, d=digest, n=len(content))["data"]["createSnapshot"]["uploadPath"]
    archive: Path = tmp_path_factory.mktemp("archive") / "it.tar"
    archive.write_bytes(content)
    service.session().upload(path, archive, len(content))
    return digest


def preview(service: ServiceProcess, settings: dict[str, Any], **others: Any) -> Any:
    """What the service says such a run would be."""
    answer = ask(service.endpoint, PREVIEW, settings={"entrypoint": "run.py", "cpus": 1, **settings}, **others)
    assert "errors" not in answer, answer
    return answer["data"]["preview"]


def everything(service: ServiceProcess) -> list[str]:
    """The names of all files of a service's home that are not its log, with the sizes of folders' contents left out."""
    return sorted(str(path) for path in service.home.rglob("*") if not path.name.startswith("grid.sqlite3"))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("", {}),
        ("--lr '[0.1, 0.2]' --depth 2", {}),
        ("--lr 'uniform(0, 1, 3)' --n 'randint(0, 100, 2)' --name 'a b'", {}),
        ("--lr 'uniform(0, 1, 3)'", {"seed": 7}),
        ("--a 'range(10)' --b 'range(10)'", {"strategy": "RANDOM_SEARCH", "numTrials": 4}),
        ("--lr '[0.1, 0.2]'", {"strategy": "NONE"}),
        ("--a '[1, 2]' --b '[3, 4]'", {"strategy": "ZIP", "repeats": 2}),
        ("--a '[1, 1]'", {"params": '[{"b": "x", "c": 1}, {"c": 3}]'}),
        ("--a '[1, 2]'", {"launcher": "python3 -X i={index} -X c={cpus} $HOME", "workingDir": "script"}),
        ("", {"entrypoint": "-m run"}),
    ],
)
def test_what_it_says_is_what_is_made(
    service: ServiceProcess, snapshot: str, arguments: str, options: dict[str, Any]
) -> None:
    """Started with the seed of its preview, a run has the same experiments, commands and warnings."""
    said = preview(service, {"scriptArgs": arguments, **options})
    settings = {"entrypoint": "run.py", "cpus": 1, "scriptArgs": arguments, **options, "seed": said["seed"]}
    given = {"key": f"{next(NUMBERS):016d}", "settings": settings, "snapshot": snapshot, "script": "run.py"}
    made = ask(service.endpoint, START, input=given)["data"]["startRun"]
    assert said["seed"] == options.get("seed", said["seed"]) == made["run"]["settings"]["seed"]
    assert said["experiments"] == made["run"]["experiments"]["nodes"]
    assert said["experimentCount"] == made["run"]["experimentCount"]
    assert said["warnings"] == made["warnings"]


def test_its_seed_is_new_each_time(service: ServiceProcess) -> None:
    """Without a seed each preview has draws of its own."""
    settings = {"scriptArgs": "--lr 'uniform(0, 1, 3)'"}
    one, other = preview(service, settings), preview(service, settings)
    assert one["seed"] != other["seed"]
    assert one["experiments"] != other["experiments"]
    assert preview(service, {**settings, "seed": one["seed"]}) == one


def test_shape_and_first_experiments(service: ServiceProcess) -> None:
    """What differs, in the order of the command line; as many experiments as are asked for, in index order."""
    settings = {"scriptArgs": "--lr '[1, 2]' --depth 5 --n 'range(3)' --flag", "instanceType": "t2.xlarge"}
    said = preview(service, settings, first=4)
    assert said["sweep"] == [{"name": "lr", "count": 2, "axis": 0}, {"name": "n", "count": 3, "axis": 1}]
    assert (said["experimentCount"], said["combinationCount"], said["axes"], said["constantCount"]) == (6, 6, [2, 3], 2)
    assert [(each["parameters"]["lr"], each["parameters"]["n"]) for each in said["experiments"]] == [
        ("1", "0"), ("1", "1"), ("1", "2"), ("2", "0"),
    ]  # fmt: skip
    assert list(said["experiments"][0]["parameters"]) == ["Script", "lr", "depth", "n", "flag"]
    assert said["experiments"][3]["invocationCommand"] == "python run.py --lr 2 --depth 5 --n 0 --flag"
    estimate = "query($s: RunSettingsInput!) { estimate(settings: $s) { hourlyCost } }"
    cost = ask(service.endpoint, estimate, s={"entrypoint": "run.py", "cpus": 1, **settings})
    assert said["hourlyCost"] == cost["data"]["estimate"]["hourlyCost"] > 0


def test_some_of_very_many(service: ServiceProcess) -> None:
    """A random search says of how many combinations it takes some."""
    settings = {"scriptArgs": "--a 'range(10**6)'".replace("10**6", "1000000") + " --b 'range(1000000)'"}
    said = preview(service, {**settings, "strategy": "RANDOM_SEARCH", "numTrials": 20})
    assert (said["experimentCount"], said["combinationCount"]) == (20, 1e12)
    assert [each["axis"] for each in said["sweep"]] == [0, 0]


def test_as_many_as_a_run_may_have(service: ServiceProcess) -> None:
    """10,000 experiments are previewed as two are, and no more than a page of them is shown."""
    said = preview(service, {"scriptArgs": "--a 'range(100)' --b 'range(100)'"}, first=1000)
    assert (said["experimentCount"], len(said["experiments"])) == (10_000, 1_000)
    assert said["experiments"][-1]["invocationCommand"] == "python run.py --a 9 --b 99"
    assert [(each["count"], each["axis"]) for each in said["sweep"]] == [(100, 0), (100, 1)]


def test_nothing_is_made(service: ServiceProcess, snapshot: str) -> None:
    """No run, no experiment, no snapshot and no file."""
    count = "{ runs { totalCount } }"
    before = ask(service.endpoint, count), everything(service)
    preview(service, {"scriptArgs": "--lr '[1, 2]'"}, name="not-there", sizeBytes=10_240)
    assert (ask(service.endpoint, count), everything(service)) == before
    assert ask(service.endpoint, '{ run(name: "not-there") { id } }')["data"]["run"] is None


@pytest.mark.parametrize(
    ("others", "settings", "code"),
    [
        ({"first": 0}, {}, "INVALID_ARGUMENT"),
        ({"first": 1001}, {}, "LIMIT_EXCEEDED"),
        ({"name": "Upper"}, {}, "INVALID_ARGUMENT"),
        ({"script": "../run.py"}, {}, "INVALID_ARGUMENT"),
        ({"sizeBytes": 1e18}, {}, "UNSUPPORTED"),
        ({"interpreter": "python"}, {}, "INVALID_ARGUMENT"),
        ({}, {"launcher": "no-such-program"}, "UNSUPPORTED"),
        ({}, {"data": {"x": "/not/there"}}, "UNSUPPORTED"),
        ({}, {"entrypoint": "run.exe"}, "INVALID_ARGUMENT"),
        ({}, {"cpus": -1}, "INVALID_ARGUMENT"),
        ({}, {"seed": -1}, "INVALID_ARGUMENT"),
        ({}, {"strategy": "RANDOM_SEARCH"}, "INVALID_ARGUMENT"),
        ({}, {"instanceType": "no-such-type"}, "INVALID_ARGUMENT"),
        ({}, {"cluster": "elsewhere"}, "CLUSTER_NOT_FOUND"),
        ({}, {"gpus": 99}, "UNSUPPORTED"),
        ({}, {"scriptArgs": "--lr uniform(1)"}, "INVALID_SWEEP"),
        ({}, {"scriptArgs": "--n 'range(10001)'"}, "LIMIT_EXCEEDED"),
    ],
)
def test_what_is_refused(service: ServiceProcess, others: dict[str, Any], settings: dict[str, Any], code: str) -> None:
    """What `startRun` would refuse is refused alike."""
    answer = ask(service.endpoint, PREVIEW, settings={"entrypoint": "run.py", "cpus": 1, **settings}, **others)
    assert code_of(answer) == code


def test_a_name_that_is_taken(service: ServiceProcess, snapshot: str) -> None:
    """A name that the user's runs have already is refused."""
    settings = {"entrypoint": "run.py", "cpus": 1}
    given = {"key": f"{next(NUMBERS):016d}", "settings": settings, "snapshot": snapshot, "script": "run.py"}
    assert "errors" not in ask(service.endpoint, START, input={**given, "name": "taken"})
    assert code_of(ask(service.endpoint, PREVIEW, settings=settings, name="taken")) == "NAME_TAKEN"
