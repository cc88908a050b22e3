"""Everything that can be wrong: each has its own error, which says what to do, and leaves nothing half done."""

from __future__ import annotations

import shutil
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import grid
from grid import errors
from grid import session as sessions
from grid.decoding import Model
from grid.definition import ARGUMENTS
from grid.models import RunNames
from grid.registry import Registry
from grid.session import Session
from grid.transport import Endpoint
from grid.wire import grid_home
from tests.support import ServiceProcess, Stranger, http_answer, make_project, requests, service_process, wait_for_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUERIES = Path(grid.__file__).with_name("queries")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script that is committed, in the current folder."""
    make_project(tmp_path / "project", "")
    monkeypatch.chdir(tmp_path / "project")
    return "run.py"


# Not logged in

NEEDS_LOGIN: dict[str, Callable[[], object]] = {
    "Run": lambda: grid.Run(entrypoint="run.py"),
    "cancel_experiment": lambda: grid.cancel_experiment("a-exp0"),
    "cancel_run": lambda: grid.cancel_run("a"),
    "create_run": lambda: grid.create_run("run.py"),
    "get_experiment_by_id": lambda: grid.get_experiment_by_id("a"),
    "get_experiment_by_name": lambda: grid.get_experiment_by_name("a-exp0"),
    "get_instance_types": lambda: grid.get_instance_types("local"),
    "get_run": lambda: grid.get_run("a"),
    "list_clusters": grid.list_clusters,
    "list_runs": grid.list_runs,
    "pause_cluster": lambda: grid.pause_cluster("local"),
    "resume_cluster": lambda: grid.resume_cluster("local"),
    "runs": lambda: len(grid.runs),
}
NEEDS_NO_LOGIN = {"Experiment", "GridError", "GridWarning", "__version__", "errors", "login", "schema_path"}


def test_every_public_name_is_tried_without_a_session() -> None:
    """The list of what needs a login, and of what does not, is complete."""
    assert NEEDS_LOGIN.keys() | NEEDS_NO_LOGIN == set(grid.__all__)


@pytest.mark.parametrize("name", NEEDS_LOGIN)
def test_not_logged_in(name: str) -> None:
    """Whatever needs a session says that `login()` comes first, and starts no service."""
    with pytest.raises(errors.NotLoggedIn, match=r"login\(\)"):
        NEEDS_LOGIN[name]()

    assert not grid_home().exists()


@pytest.mark.parametrize(
    "look",
    [
        lambda: grid.Run("a"),
        lambda: list(grid.runs),
        lambda: "a" in grid.runs,
        lambda: grid.runs["a"],
        lambda: list(grid.runs.values()),
    ],
)
def test_not_logged_in_other_ways(look: Callable[[], object]) -> None:
    """So does each other way to get at runs; only a repr never raises."""
    with pytest.raises(errors.NotLoggedIn, match=r"login\(\)"):
        look()

    assert "login()" in repr(grid.runs)


# Services that are none


def log_in(url: str, key: str = "a-secret-key") -> None:
    """Log in to a service as somebody."""
    grid.login(user_id="ada", api_key=key, url=url)


def assert_not_logged_in() -> None:
    """There is no session, nothing was stored, and no embedded service was started instead."""
    with pytest.raises(errors.NotLoggedIn):
        grid.list_runs()
    assert not grid_home().exists()


def test_wrong_key(service: ServiceProcess) -> None:
    """A key that the service does not know is refused as such, and is neither shown nor stored."""
    with pytest.raises(errors.AuthenticationFailed, match="'ada'.*GRID_API_KEY") as caught:
        log_in(service.endpoint.url)

    assert isinstance(caught.value, PermissionError)
    assert "a-secret-key" not in str(caught.value)
    assert_not_logged_in()


def test_key_of_another_user(service: ServiceProcess) -> None:
    """A key that is right belongs to one user id alone."""
    with pytest.raises(errors.AuthenticationFailed):
        log_in(service.endpoint.url, service.endpoint.api_key)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the error names the address; no embedded service is started in its place."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        url = f"http://127.0.0.1:{once.getsockname()[1]}"

    with pytest.raises(errors.ConnectionFailed, match=url) as caught:
        log_in(url)

    assert isinstance(caught.value, ConnectionError)
    assert "4 tries" in str(caught.value)
    assert_not_logged_in()


@pytest.fixture
def stranger(request: pytest.FixtureRequest) -> Iterator[Stranger]:
    """What listens where a service should."""
    listening = Stranger(request.param)
    yield listening
    listening.close()


STRANGERS = {
    "html": http_answer(b"<!doctype html><title>Sign in</title>", "text/html"),
    "html that says it is missing": http_answer(b"<h1>Not Found</h1>", "text/html", "404 Not Found"),
    "garbage": bytes(range(128, 256)) * 4,
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "json that is no answer": http_answer(b'{"hello": "world"}', "application/json"),
    "json of another shape": http_answer(b"[1, 2, 3]", "application/json"),
    "half of a json": http_answer(b'{"data": {"apiVersion"', "application/json"),
    "data of another shape": http_answer(b'{"data": {"apiVersion": "new"}}', "application/json"),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS.keys(), indirect=True)
def test_what_answers_is_no_service(stranger: Stranger) -> None:
    """A proxy's page, garbage and other programs are told apart from a service; the error says what to check."""
    with pytest.raises(errors.InvalidResponse, match="Login.*Check (that )?the URL"):
        log_in(stranger.url)

    assert_not_logged_in()


@pytest.mark.parametrize("stranger", [None], ids=["silence"], indirect=True)
def test_no_answer_in_time(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is silent for GRID_HTTP_TIMEOUT seconds is given up; the error says how to wait longer."""
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", "0.2")

    with pytest.raises(errors.RequestTimeout, match="GRID_HTTP_TIMEOUT") as caught:
        log_in(stranger.url)

    assert isinstance(caught.value, TimeoutError)
    assert stranger.received
    assert_not_logged_in()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_wrong_time_out(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GRID_HTTP_TIMEOUT that is no time is refused before anything is sent."""
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", text)

    with pytest.raises(errors.InvalidArgument, match="GRID_HTTP_TIMEOUT"):
        log_in("http://127.0.0.1:1")


@pytest.mark.parametrize(
    "url", ["localhost:80", "ftp://example.org", "http://", "https://ada:key@example.org", "http://a/?b"]
)
def test_wrong_address(url: str) -> None:
    """What is no address of a service is refused before anything is sent."""
    with pytest.raises(errors.InvalidArgument, match="URL"):
        log_in(url)


# Names that are not there, or are there already


@pytest.mark.usefixtures("session")
class TestUnknown:
    """Each look-up of something that does not exist."""

    def test_run(self, script: str) -> None:
        """An unknown run is a KeyError that names close ones."""
        run = grid.create_run(script, name="nearly-the-name")

        with pytest.raises(errors.RunNotFound, match="'nearly-the-nam' .*near it: nearly-the-name") as caught:
            grid.Run("nearly-the-nam")

        assert isinstance(caught.value, KeyError)
        wait_for_run(run)

    @pytest.mark.parametrize(
        ("look", "kind", "words"),
        [
            (lambda: grid.Run("somebody:no-such-run"), errors.RunNotFound, "somebody"),
            (lambda: grid.cancel_run("no-such-run"), errors.RunNotFound, "no-such-run"),
            (lambda: grid.runs["no-such-run"], errors.RunNotFound, "no-such-run"),
            (lambda: grid.get_experiment_by_name("no-such-run-exp0"), errors.ExperimentNotFound, "no-such-run-exp0"),
            (lambda: grid.get_experiment_by_name("somebody:a-exp0"), errors.ExperimentNotFound, "somebody"),
            (lambda: grid.get_experiment_by_name("no number"), errors.ExperimentNotFound, "no number"),
            (lambda: grid.get_experiment_by_id("no-such-id"), errors.ExperimentNotFound, "no-such-id"),
            (lambda: grid.cancel_experiment("no-such-run-exp0"), errors.ExperimentNotFound, "no-such-run-exp0"),
            (lambda: grid.get_instance_types("moon"), errors.ClusterNotFound, "moon.*local"),
            (lambda: grid.pause_cluster("moon"), errors.ClusterNotFound, "moon.*local"),
            (lambda: grid.resume_cluster("moon"), errors.ClusterNotFound, "moon.*local"),
        ],
    )
    def test_anything(self, look: Callable[[], object], kind: type[errors.GridError], words: str) -> None:
        """Every look-up fails with a KeyError of its kind that quotes the name."""
        with pytest.raises(kind, match=words) as caught:
            look()

        assert isinstance(caught.value, KeyError)
        assert not str(caught.value).startswith(("'", '"'))


@pytest.mark.usefixtures("session")
def test_name_that_is_taken(script: str) -> None:
    """A second run of the same name is refused, can be renamed, and is then started."""
    wait_for_run(grid.create_run(script, name="taken"))
    before = grid.list_runs()
    second = grid.Run(name="taken", entrypoint=script)

    with pytest.raises(errors.NameTaken, match="'taken'"):
        second.start()

    assert grid.list_runs() == before
    assert (second.id, second.status(), len(second)) == (None, {}, 0)
    second.name = "free"
    second.start()
    assert grid.list_runs() == ["free", *before]
    wait_for_run(second)


# Arguments

LONG = "a" * 201


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "entrypoint.*name"),
        ({"name": "Run"}, "lower-case letters, digits and inner '-'.*'Run'"),
        ({"name": "1st"}, "starting with a letter"),
        ({"name": "run-"}, "ending in a letter or digit"),
        ({"name": "a_b", "entrypoint": "run.py"}, "lower-case.*'a_b'"),
        ({"name": "fine", "script_args": "--a 1"}, "script_args.*entrypoint="),
        ({"entrypoint": "gone.py"}, "'gone.py' does not exist"),
        ({"entrypoint": "run.txt"}, r"\.py, \.sh or \.jl.*'run.txt'"),
        ({"entrypoint": "run.py", "description": LONG}, "at most 200 characters, not 201"),
        ({"entrypoint": "run.py", "strategy": "grid"}, "'grid_search', 'random_search' or 'none', not 'grid'"),
        ({"entrypoint": "run.py", "strategy": "random_search"}, "num_trials of 1 or more"),
        ({"entrypoint": "run.py", "strategy": "random_search", "num_trials": -1}, "num_trials"),
        ({"entrypoint": "run.py", "framework": "jax"}, "'lightning', 'torch', 'tensorflow', 'julia' or 'torchelastic'"),
        ({"entrypoint": "run.py", "cpus": -1}, "cpus must be a whole number"),
        ({"entrypoint": "run.py", "cpus": 1.5}, "cpus must be a whole number"),
        ({"entrypoint": "run.py", "gpus": "two"}, "gpus must be a whole number.*'two'"),
        ({"entrypoint": "run.py", "num_trials": True}, "num_trials must be a whole number"),
        ({"entrypoint": "run.py", "seed": -1}, "seed must be a whole number"),
        ({"entrypoint": "run.py", "use_spot": "yes"}, "use_spot must be True or False"),
        ({"entrypoint": "run.py", "localdir": 1}, "localdir must be True or False"),
        ({"entrypoint": "run.py", "instance_type": ""}, r"instance_type.*get_instance_types\(\)"),
        ({"entrypoint": "run.py", "script_args": "--a 'open"}, "script_args cannot be split.*quot"),
        ({"entrypoint": "run.py", "script_args": ["--a", "1"]}, r"script_args must be one text.*shlex\.join"),
        ({"entrypoint": "run.py", "config_file": "gone.yml"}, "gone.yml"),
    ],
)
def test_argument_that_is_refused_before_anything_is_sent(
    session: Session, arguments: dict[str, Any], words: str
) -> None:
    """The constructor refuses what can never be right, with what is allowed, and sends nothing."""
    with requests(session) as sent, pytest.raises(errors.InvalidArgument, match=words) as caught:
        grid.Run(**arguments)

    assert sent == [0]
    assert isinstance(caught.value, ValueError)


REFUSED_BY_THE_CLUSTER = [
    ({"instance_type": "t2.xlrge"}, errors.InvalidArgument, "t2.xlrge.*near it:.*t2.xlarge"),
    ({"cluster": "moon"}, errors.ClusterNotFound, "'moon'.*'local'"),
    ({"dockerfile": "Dockerfile"}, errors.Unsupported, "dockerfile='Dockerfile'"),
    ({"datastore_name": "images"}, errors.Unsupported, "datastore_name='images'"),
    ({"datastore_version": "2"}, errors.Unsupported, "datastore_version='2'"),
    ({"datastore_mount_dir": "/images"}, errors.Unsupported, "datastore_mount_dir"),
    ({"gpus": 1}, errors.Unsupported, "1 GPUs; this machine has 0"),
    ({"instance_type": "p3.2xlarge"}, errors.Unsupported, "GPUs; this machine has 0"),
    ({"script_args": "--a 'uniform(1e-3)'"}, errors.SweepError, "--a"),
    ({"script_args": "--a 1 --bad '[1, 2'"}, errors.SweepError, "--bad"),
    ({"script_args": "--empty 'range(0)'"}, errors.SweepError, "--empty"),
    ({"script_args": "--lr 'normal(0, 1)'"}, errors.SweepError, r"--lr.*normal\(0, 1, "),
    ({"script_args": "--lr 'uniform(0, 1, 1.5)'"}, errors.SweepError, "--lr"),
    ({"script_args": "--a 'range(200)' --b 'range(200)'"}, errors.LimitExceeded, "40,000.*10,000"),
    ({"script_args": "--a 'range(1000000)' --b 'range(1000000)'"}, errors.LimitExceeded, "10,000"),
]


@pytest.fixture(scope="module")
def machine_without_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service of a small machine, whatever this one is."""
    with service_process(tmp_path_factory.mktemp("small"), "--cpus", "2", "--gpus", "0", "--grace", "1") as running:
        yield running


@pytest.mark.parametrize(("arguments", "kind", "words"), REFUSED_BY_THE_CLUSTER)
def test_argument_that_the_cluster_refuses(
    machine_without_gpus: ServiceProcess,
    script: str,
    arguments: dict[str, Any],
    kind: type[errors.GridError],
    words: str,
) -> None:
    """Estimate and start refuse what the cluster cannot do; no run exists then, and no source code was uploaded."""
    sessions.use(machine_without_gpus.session())
    before = grid.list_runs()
    run = grid.Run(entrypoint=script, **arguments)

    with pytest.raises(kind, match=words):
        _ = run.estimated_hourly_cost
    with pytest.raises(kind, match=words):
        run.start()

    assert grid.list_runs() == before
    assert (run.id, run.name, run.status()) == (None, "", {})
    assert list((machine_without_gpus.home / "incoming").iterdir()) == []


def test_refused_run_can_be_put_right(machine_without_gpus: ServiceProcess, script: str) -> None:
    """After a refusal the argument can be set, and the same run be started."""
    sessions.use(machine_without_gpus.session())
    run = grid.Run(entrypoint=script, script_args="--a '[1, 2'")
    with pytest.raises(errors.SweepError):
        run.start()

    run.script_args = "--a '[1, 2]'"
    run.start()

    assert wait_for_run(run) == {"SUCCEEDED": [f"{run.name}-exp0", f"{run.name}-exp1"]}


def test_cpus_are_clamped_with_a_warning(machine_without_gpus: ServiceProcess, script: str) -> None:
    """More CPUs than the machine has are not refused: a warning says what each experiment gets."""
    sessions.use(machine_without_gpus.session())
    run = grid.Run(entrypoint=script, cpus=64)

    with pytest.warns(grid.GridWarning, match="64 CPUs; this machine has 2"):
        run.start()

    assert wait_for_run(run).keys() == {"SUCCEEDED"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"use_spot": True}, "use_spot"),
        ({"memory": "16G"}, "memory"),
        ({"scratch_size": "10G"}, "scratch_size"),
        ({"scratch_mount_path": "/scratch"}, "scratch_mount_path"),
        ({"dependency_file": "requirements.txt"}, "dependency_file='requirements.txt'"),
        ({"framework": "torchelastic"}, "torchelastic"),
    ],
)
def test_what_is_not_honoured_is_said(
    machine_without_gpus: ServiceProcess, script: str, arguments: dict[str, Any], words: str
) -> None:
    """An argument that the local cluster does not act on is warned about at the start, never silently ignored."""
    sessions.use(machine_without_gpus.session())

    with pytest.warns(grid.GridWarning, match=words):
        run = grid.create_run(script, cpus=1, **arguments)

    assert wait_for_run(run).keys() == {"SUCCEEDED"}


def test_nothing_to_say_is_not_said(machine_without_gpus: ServiceProcess, script: str) -> None:
    """A run that is done as it was asked for warns of nothing."""
    sessions.use(machine_without_gpus.session())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = grid.create_run(script, cpus=1)

    wait_for_run(run)


# Source code


@pytest.mark.usefixtures("session")
def test_script_outside_any_repository(tmp_path: Path) -> None:
    """A script that is in no repository is refused by naming localdir=True, which then works."""
    (tmp_path / "loose").mkdir()
    entrypoint = tmp_path / "loose" / "run.py"
    entrypoint.write_text("")
    before = grid.list_runs()
    run = grid.Run(entrypoint=str(entrypoint))

    with pytest.raises(errors.SourceError, match="localdir=True"):
        run.start()

    assert grid.list_runs() == before
    run.localdir = True
    run.start()
    assert wait_for_run(run).keys() == {"SUCCEEDED"}


@pytest.mark.usefixtures("session")
def test_script_that_is_not_committed(script: str) -> None:
    """A script that is not in HEAD is refused by naming localdir=True."""
    Path("new.py").write_text("")
    before = grid.list_runs()

    with pytest.raises(errors.SourceError, match="localdir=True"):
        grid.create_run("new.py")

    assert grid.list_runs() == before


@pytest.mark.usefixtures("session")
def test_changes_that_are_not_committed_are_listed(script: str) -> None:
    """What was changed since HEAD is not run, and a warning names the file."""
    Path(script).write_text("raise SystemExit(1)")

    with pytest.warns(grid.GridWarning, match=script):
        run = grid.create_run(script)

    assert wait_for_run(run).keys() == {"SUCCEEDED"}


# Before and after the start

NEW_VALUES: dict[str, Any] = {
    "name": "other",
    "entrypoint": "other.py",
    "script_args": "--a 1",
    "description": "words",
    "strategy": "none",
    "num_trials": 3,
    "framework": "torch",
    "dependency_file": "requirements.txt",
    "instance_type": "t2.large",
    "use_spot": True,
    "cpus": 1,
    "gpus": 1,
    "memory": "4G",
    "datastore_name": "images",
    "datastore_version": "2",
    "datastore_mount_dir": "/images",
    "scratch_size": "1G",
    "scratch_mount_path": "/scratch",
    "localdir": True,
    "dockerfile": "Dockerfile",
    "config_file": "",
    "cluster": "local",
    "seed": 7,
}


def test_every_argument_can_be_set_until_the_start(session: Session, script: str) -> None:
    """Each argument can be set before the start, where a wrong value is refused; after it each says that it cannot."""
    assert NEW_VALUES.keys() == set(ARGUMENTS)
    run, described = grid.Run(entrypoint=script), grid.Run(entrypoint=script)
    run.start()

    for name, value in NEW_VALUES.items():
        setattr(described, name, value)
        assert getattr(described, name) == value
        before = getattr(run, name)
        with pytest.raises(errors.RunStarted, match=name) as caught:
            setattr(run, name, value)
        assert isinstance(caught.value, AttributeError)
        assert getattr(run, name) == before
    with pytest.raises(errors.InvalidArgument, match="strategy"):
        described.strategy = "guess"
    assert described.strategy == "none"
    with pytest.raises(AttributeError):
        described.colour = "blue"  # type: ignore[attr-defined]
    wait_for_run(run)


@pytest.mark.usefixtures("session")
def test_started_run_cannot_be_started_again(script: str) -> None:
    """A second start is refused and starts nothing; so is the start of a run that was loaded."""
    run = grid.create_run(script)
    before = grid.list_runs()

    for started in (run, grid.Run(run.name)):
        with pytest.raises(errors.RunStarted, match=run.name):
            started.start()

    assert grid.list_runs() == before
    wait_for_run(run)


@pytest.mark.usefixtures("session")
def test_run_that_is_not_started_has_nothing_to_cancel(script: str) -> None:
    """Cancelling a run before its start says so."""
    with pytest.raises(errors.RunNotStarted, match="not started"):
        grid.Run(entrypoint=script).cancel()


# Queries in two versions, and a service that announces the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Model):
    """The answer to an operation that came with version 2."""

    api_version: int


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    """The shipped queries, and a second version: one operation changed, one new."""
    folder = tmp_path / "queries"
    shutil.copytree(QUERIES / "v1", folder / "v1")
    (folder / "v2").mkdir()
    (folder / "v2" / "GetRun.graphql").write_text(
        "query GetRun($name: String!) { runOfVersionTwo(name: $name) { id } }"
    )
    (folder / "v2" / "Forecast.graphql").write_text("query Forecast { apiVersion }")
    return folder


def test_older_service_gets_the_older_queries(service: ServiceProcess, script: str, two_versions: Path) -> None:
    """A client that knows version 2 speaks version 1 to a service that announces 1, and all of it works."""
    session = Session(service.endpoint, is_embedded=True, registry=Registry(two_versions, version=2))
    sessions.use(session)

    assert (session.registry.version, session.registry.latest) == (1, 2)
    run = grid.create_run(script)
    assert grid.Run(run.name).id == run.id
    assert session.registry.get("GetRun").path == str(two_versions / "v1" / "GetRun.graphql")
    wait_for_run(run)


def test_operation_that_the_service_is_too_old_for(service: ServiceProcess, two_versions: Path) -> None:
    """An operation of version 2 is refused without a request, by naming both versions."""
    session = Session(service.endpoint, is_embedded=False, registry=Registry(two_versions, version=2))

    with requests(session) as sent, pytest.raises(errors.ServiceTooOld, match="Forecast.*version 2.*version 1"):
        session.execute(Forecast)

    assert sent == [0]


def test_service_that_does_not_know_a_query(service: ServiceProcess, two_versions: Path) -> None:
    """A query that the service refuses to understand is told as such, whatever it announced."""
    (two_versions / "v1" / "RunNames.graphql").write_text(
        "query RunNames($first: Int!) { forecasts(first: $first) { id } }"
    )
    session = Session(service.endpoint, is_embedded=False, registry=Registry(two_versions, version=1))

    with pytest.raises(errors.ServiceTooOld, match="RunNames.*forecasts.*Update the service"):
        session.execute(RunNames, first=1)


def test_another_user_cannot_be_read(service: ServiceProcess) -> None:
    """A right user id with a wrong key reads nothing: there is no request without authentication."""
    endpoint = service.endpoint

    with pytest.raises(errors.AuthenticationFailed):
        Session(Endpoint(endpoint.url, endpoint.user_id, endpoint.api_key[:-1] + "!"), is_embedded=False)
