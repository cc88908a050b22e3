"""Tests of the operator's commands, as processes: what they print, how they end, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import grid
from grid import create_run, list_runs, login, models
from grid.errors import GridWarning
from grid.session import session as sessions
from grid.shared.wire import API_VERSION
from tests.support.environments import clean_environment
from tests.support.processes import is_alive
from tests.support.services import ServiceProcess, service_process


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service of the module's own."""
    with service_process(tmp_path_factory.mktemp("service"), "--cpus", "1", is_fresh=True) as running:
        yield running


def command(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the service on the home that belongs to a new user."""
    return subprocess.run(
        [sys.executable, "-m", "grid.service", *arguments],
        env=clean_environment(home.parent, **environment),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=60,
        check=False,
    )


def test_status(service: ServiceProcess, tmp_path: Path) -> None:
    """`status` says where a service listens and ends with 0; if there is none it says so and ends with 3."""
    told = command(service.home, "status")
    assert (told.returncode, told.stderr) == (0, "")
    for word in (service.endpoint.url, str(service.home), str(service.process.pid), grid.__version__):
        assert word in told.stdout
    told = command(tmp_path / ".grid", "status")
    assert (told.returncode, told.stdout) == (3, f"no service is running in {tmp_path / '.grid'}\n")


def test_credentials(service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `credentials` prints is a credentials file with which another home is logged in to the service."""
    told = command(service.home, "credentials")
    assert told.returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "credentials.json").write_text(told.stdout)
    (elsewhere / "credentials.json").chmod(0o600)
    monkeypatch.setenv("GRID_HOME", str(elsewhere))
    login()
    assert list_runs() == []
    told = command(tmp_path / ".grid", "credentials")
    assert told.returncode == 3
    assert "no service is running in" in told.stderr


def test_stop(tmp_path: Path) -> None:
    """`stop` returns when the service has ended properly; if there is no service that is not an error."""
    with service_process(tmp_path, "--cpus", "1", is_fresh=True) as running:
        told = command(running.home, "stop")
        assert (told.returncode, told.stdout) == (0, f"stopped the service of {running.home}\n")
        assert running.process.wait(60) == 0
        told = command(running.home, "stop")
        assert (told.returncode, told.stdout) == (0, f"no service is running in {running.home}\n")


def test_stop_is_not_misled(service: ServiceProcess, tmp_path: Path) -> None:
    """The record of a killed service is not believed: no other process is stopped in its place."""
    home = tmp_path / ".grid"
    (home / "service").mkdir(parents=True)
    record = json.loads((service.home / "service" / "service.json").read_text())
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        try:
            for changed in ({"pid": bystander.pid}, {"boot": "an-earlier-boot"}):
                (home / "service" / "service.json").write_text(json.dumps(record | changed))
                assert command(home, "status").returncode == 3
                assert command(home, "stop").returncode == 0
            assert bystander.poll() is None
            assert is_alive(service.process.pid)
        finally:
            bystander.kill()


def test_second_service_of_a_home(service: ServiceProcess) -> None:
    """A home has one service: another is refused with a message and the code that says not to try again."""
    told = command(service.home, "serve", "--embedded")
    assert told.returncode == 78
    assert told.stderr.endswith(f"error: another service uses {service.home}: stop it, or choose another GRID_HOME\n")
    assert "Traceback" not in told.stderr
    assert command(service.home, "status").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "why"),
    [
        (["--cpus", "0"], {}, "--cpus='0': expected a whole number of at least 1"),
        (["--cpus", "1.5"], {}, "--cpus='1.5': expected a whole number"),
        (["--gpus", "-1"], {}, "--gpus='-1': expected a whole number of at least 0"),
        (
            ["--gpus", "99"],
            {"CUDA_VISIBLE_DEVICES": "1"},
            "--gpus=99: experiments are to share 99 GPUs, but 1 can be used",
        ),
        (["--memory", "16"], {}, "--memory='16': expected a number and K, M, G or T (powers of 1024), as in \"16G\""),
        ([], {"GRID_LOCAL_MEMORY": "lots"}, "GRID_LOCAL_MEMORY='lots'"),
        (["--grace", "soon"], {}, "--grace='soon': expected a number of at least 0"),
        (["--idle", "inf"], {}, "--idle='inf': expected a number"),
        ([], {"GRID_LOCAL_CPUS": "many"}, "GRID_LOCAL_CPUS='many'"),
        (["--host", "203.0.113.1"], {}, "cannot listen on 203.0.113.1:0"),
        (["--port", "70000"], {}, "cannot listen on 127.0.0.1:70000"),
        (["--database", "nonsense"], {}, "the database nonsense cannot be used"),
        (["--instance-types", "/no/such/file.csv"], {}, "the catalogue of instance types cannot be read"),
    ],
)
def test_what_cannot_be_served(tmp_path: Path, arguments: list[str], environment: dict[str, str], why: str) -> None:
    """A wrong option is refused with a message and the code that says not to try again."""
    told = command(tmp_path / ".grid", "serve", *arguments, **environment)
    assert told.returncode == 78
    assert f"error: {why}" in told.stderr
    assert "Traceback" not in told.stderr


def test_options_from_the_environment(tmp_path: Path) -> None:
    """An option that the command line does not set is taken from the environment."""
    with service_process(tmp_path, GRID_LOCAL_CPUS="7", GRID_LOCAL_GPUS="3", GRID_LOCAL_MEMORY="1.5G") as running:
        session = running.session()
        (cluster,) = session.execute(models.Clusters).clusters
        assert (cluster.cpus, cluster.gpus) == (7, 3)
        sessions.use(session)
        (tmp_path / "run.py").write_text("")
        with pytest.warns(GridWarning) as caught:
            create_run(str(tmp_path / "run.py"), localdir=True, memory="2G")
        assert any("this machine has 1.5G, so it gets that" in str(each.message) for each in caught)


def test_port_in_use(service: ServiceProcess, tmp_path: Path) -> None:
    """A service whose port is taken is refused with a message."""
    port = service.endpoint.url.rpartition(":")[2]
    told = command(tmp_path / ".grid", "serve", "--port", port)
    assert told.returncode == 78
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in told.stderr


def test_health(service: ServiceProcess) -> None:
    """The health of a service can be read without a key."""
    with urllib.request.urlopen(f"{service.endpoint.url}/health", timeout=60) as answer:
        assert json.load(answer) == {"status": "ok", "version": grid.__version__, "apiVersion": API_VERSION}


def test_record_is_private(service: ServiceProcess) -> None:
    """Only their user can read the files that hold the key."""
    for name in ("service.json", "api-key", "service.lock"):
        assert (service.home / "service" / name).stat().st_mode & 0o777 == 0o600


def test_key_stays_when_the_service_is_started_again(tmp_path: Path) -> None:
    """A home has one user and one key, whatever the account is called when the service is started."""
    with service_process(tmp_path, "--cpus", "1", LOGNAME="before") as running:
        before = running.endpoint
        running.stop()
        running._environment["LOGNAME"] = "after"
        running.start()
        assert (running.endpoint.user_id, running.endpoint.api_key) == (before.user_id, before.api_key)
        assert running.username == "before"
        running.session()


def test_ctrl_c(tmp_path: Path) -> None:
    """A service in a terminal ends with Ctrl-C, properly and without a traceback."""
    with service_process(tmp_path, "--cpus", "1", is_fresh=True) as running:
        running.process.send_signal(2)
        assert running.process.wait(60) == 0
        assert "Traceback" not in running.log.read_text()


def test_help() -> None:
    """Each command says what it is for."""
    told = subprocess.run([sys.executable, "-m", "grid.service", "--help"], capture_output=True, text=True, check=True)
    for name in ("serve", "stop", "status", "credentials"):
        assert name in told.stdout


def test_database_of_another_home(tmp_path: Path) -> None:
    """A database outside its home belongs to that home only, wherever it is moved; any other home is refused."""
    database = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    for folder in ("first", "second", "third"):
        (tmp_path / folder).mkdir()
    for home in (tmp_path / "first", tmp_path / "first"):
        with service_process(home, "--cpus", "1", "--database", database, is_fresh=True):
            pass
    told = command(tmp_path / "second" / ".grid", "serve", "--database", database)
    assert told.returncode == 78
    for word in ("shared.sqlite3", str(tmp_path / "first" / ".grid"), str(tmp_path / "second" / ".grid")):
        assert word in told.stderr
    (tmp_path / "first" / ".grid").rename(tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / "third" / ".grid")
    with service_process(tmp_path / "third", "--cpus", "1", "--database", database, is_fresh=True):
        pass
