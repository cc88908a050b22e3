"""A service that can open no further file says that this passes, and answers as before when it has."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import grid
from grid import errors
from grid.chain.endpoint import RetryPolicy
from grid.session import session as sessions
from tests.support.experiments import only, starter
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of another process")


@contextmanager
def no_descriptors(service: ServiceProcess) -> Iterator[None]:
    """Let a service open no further file; what it has open stays open."""
    pid = service.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("session")
def test_it_passes(service: ServiceProcess, tmp_path: Path) -> None:
    """Logs and artifacts cannot be read meanwhile, and are neither empty nor a fault of the service."""
    started = starter(tmp_path)("print('one'); open('file', 'w').close()")
    wait_for_run(started)
    sessions.use(service.session(RetryPolicy(first_wait=0.001, max_wait=0.01)))
    run = grid.Run(started.name)
    experiment = only(run)
    reads = [lambda: list(experiment.logs()), lambda: list(run.logs()), lambda: list(experiment.artifacts.of(1))]
    with no_descriptors(service):
        for read in reads:
            with pytest.raises(errors.ConnectionFailed, match="the service has too many files open; try again later"):
                read()
    assert [len(read()) for read in reads] == [1, 1, 1]
