"""Fixtures: the GRID_HOME of a new user, a real service process, and a session that is logged in to it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid.session import session as sessions
from tests.support.services import ServiceProcess, end_everything, service_process

_temporary: list[str] = []


def pytest_configure() -> None:
    """Make room for what scripts leave, and let Ctrl-C mean what it means at a prompt.

    A process that is started in the background inherits that it is ignored. And a service that is killed removes no
    temporary folders of its scripts: services of these tests make them where they are removed in the end.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ:  # it has the place of the process that has started it
        return
    _temporary.append(tempfile.mkdtemp(prefix="grid-tests-"))
    os.chmod(_temporary[0], 0o711)  # noqa: S103 - some tests are another user for a while
    os.environ["TMPDIR"] = _temporary[0]


def pytest_unconfigure() -> None:
    """Remove what scripts have left."""
    for folder in _temporary:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _new_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Hide the developer's own set-up, among it what a start warns of, and log out."""
    for name in list(os.environ):
        if name == "PYTHONPATH" or name.startswith(("GRID_", "WANDB_", "HF_", "MLFLOW_", "COMET_", "NEPTUNE_")):
            monkeypatch.delenv(name)
    # Not tmp_path itself: a test may put anything there.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRID_HOME", str(tmp_path / "home" / ".grid"))
    sessions.use(None)
    yield
    sessions.use(None)


@pytest.fixture
def grid_home(tmp_path: Path) -> Iterator[Path]:
    """The GRID_HOME of a new user, whose embedded service is ended after the test."""
    home = tmp_path / "home" / ".grid"
    home.mkdir(parents=True)
    yield home
    end_everything(home)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service process that the tests of a module share; each has its own runs, all see the same user."""
    with service_process(tmp_path_factory.mktemp("service"), "--grace", "1", "--cpus", "2") as running:
        yield running


@pytest.fixture
def session(service: ServiceProcess) -> sessions.Session:
    """Log in to the module's service, as `grid.login()` would."""
    opened = service.session()
    sessions.use(opened)
    return opened
