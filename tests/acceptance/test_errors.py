"""Everything that can be wrong: each has its own error, which says what to do, and leaves nothing half done."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import grid
from grid import errors
from grid.chain.transport import Endpoint, RetryPolicy
from grid.session.session import Session
from grid.shared.wire import grid_home
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.services import ServiceProcess
from tests.support.strangers import Stranger, http_answer
from tests.support.waiting import wait_for_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    "get_build_logs": lambda: grid.get_build_logs("a"),
    "get_experiment_by_id": lambda: grid.get_experiment_by_id("a"),
    "get_experiment_by_name": lambda: grid.get_experiment_by_name("a-exp0"),
    "get_experiment_logs": lambda: grid.get_experiment_logs("a-exp0"),
    "get_instance_types": lambda: grid.get_instance_types("local"),
    "get_run": lambda: grid.get_run("a"),
    "list_clusters": grid.list_clusters,
    "list_runs": grid.list_runs,
    "pause_cluster": lambda: grid.pause_cluster("local"),
    "resume_cluster": lambda: grid.resume_cluster("local"),
    "runs": lambda: len(grid.runs),
}
NEEDS_NO_LOGIN = {
    *("Experiment", "GridError", "GridWarning", "LogLine", "LogPrinted", "Preview", "StatusChanged"),
    *("__version__", "aio", "errors", "login", "schema_path", "sweep"),
}


def test_every_public_name_is_tried_without_a_session() -> None:
    """The list of what needs a login, and of what does not, is complete."""
    assert NEEDS_LOGIN.keys() | NEEDS_NO_LOGIN == set(grid.__all__)


@pytest.mark.parametrize("name", NEEDS_LOGIN)
def test_not_logged_in(name: str) -> None:
    """Everything that needs a session says that `login()` comes first, and starts no service."""
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
    """So does every other way to reach runs; only a repr never raises."""
    with pytest.raises(errors.NotLoggedIn, match=r"login\(\)"):
        look()

    assert "login()" in repr(grid.runs)


# What is not a service


def log_in(url: str, key: str = "a-secret-key") -> None:
    """Log in to a service as some user."""
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
    """If nothing listens there, the error names the address; no embedded service is started instead."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        url = f"http://127.0.0.1:{once.getsockname()[1]}"

    with pytest.raises(errors.ConnectionFailed, match=url) as caught:
        log_in(url)

    assert isinstance(caught.value, ConnectionError)
    assert "6 tries" in str(caught.value)
    assert_not_logged_in()


@pytest.fixture
def stranger(request: pytest.FixtureRequest) -> Iterator[Stranger]:
    """Something that listens where a service should."""
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
def test_what_answers_is_not_a_service(stranger: Stranger) -> None:
    """A proxy's page, garbage and other programs are told apart from a service; the error says what to check."""
    # With the usual policy, whose waits `test_nobody_listens` has, `login()` does no more than this.
    with pytest.raises(errors.InvalidResponse, match="Login.*Check (that )?the URL"):
        Session(Endpoint(stranger.url, "ada", "a-secret-key"), is_embedded=False, policy=RetryPolicy(first_wait=0.001))

    assert_not_logged_in()


@pytest.mark.parametrize("stranger", [None], ids=["silence"], indirect=True)
def test_no_answer_in_time(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is silent for GRID_HTTP_TIMEOUT seconds is abandoned; the error says how to wait longer."""
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", "0.5")

    with pytest.raises(errors.RequestTimeout, match="GRID_HTTP_TIMEOUT") as caught:
        log_in(stranger.url)

    assert isinstance(caught.value, TimeoutError)
    assert stranger.received
    assert_not_logged_in()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_wrong_time_out(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GRID_HTTP_TIMEOUT that is not a positive number is refused before anything is sent."""
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", text)

    with pytest.raises(errors.InvalidArgument, match="GRID_HTTP_TIMEOUT"):
        log_in("http://127.0.0.1:1")


@pytest.mark.parametrize(
    "url", ["localhost:80", "ftp://example.org", "http://", "https://ada:key@example.org", "http://a/?b"]
)
def test_wrong_address(url: str) -> None:
    """What does not look like the address of a service is refused before anything is sent."""
    with pytest.raises(errors.InvalidArgument, match="URL"):
        log_in(url)


# What is not a name


@pytest.mark.parametrize("name", [5, None, b"a", ["a"], 2.5, "a\0b", "\ud800"], ids=repr)
@pytest.mark.parametrize(
    "look",
    [
        grid.get_run,
        grid.cancel_run,
        grid.cancel_experiment,
        grid.get_experiment_by_name,
        grid.get_experiment_by_id,
        grid.get_instance_types,
        grid.pause_cluster,
        grid.resume_cluster,
    ],
)
def test_what_is_not_a_name(session: Session, look: Callable[[Any], object], name: object) -> None:
    """A value that can never be a name is refused as an argument, before anything is sent."""
    with requests(session) as sent, pytest.raises(errors.InvalidArgument):
        look(name)

    assert sent == [0]


@pytest.mark.parametrize("argument", ["username", "user_id", "api_key", "url"])
@pytest.mark.parametrize("value", [5, b"secret", "secret\0", "secret\ud800"], ids=repr)
def test_login_with_what_is_not_text(argument: str, value: Any) -> None:
    """What is not a text is refused with the argument's name; a key is not shown even then."""
    given: dict[str, Any] = {"user_id": "ada", "api_key": "key", "url": "http://127.0.0.1:1", argument: value}

    with pytest.raises(errors.InvalidArgument, match=f"^{argument} must") as caught:
        grid.login(**given)

    assert argument != "api_key" or "secret" not in str(caught.value)
    assert_not_logged_in()


# Names that are not there, or are there already


@pytest.mark.usefixtures("session")
class TestUnknown:
    """Each look-up of something that does not exist."""

    def test_run(self, script: str) -> None:
        """An unknown run is a KeyError that names close ones."""
        run = grid.create_run(script, name="nearly-the-name")

        with pytest.raises(errors.RunNotFound, match="'nearly-the-nam' .*did you mean nearly-the-name") as caught:
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
