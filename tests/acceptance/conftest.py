"""Fixtures of the acceptance tests: a script that fails as it is told, and a cluster that starts nothing."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import grid
from grid.errors import RunNotFound
from grid.session import session as sessions
from grid.session.session import Session
from tests.faults.proxy import Proxy
from tests.support.experiments import starter
from tests.support.services import ServiceProcess

SCRIPT = """
import os, signal, sys, time

class RateTooHigh(ValueError): pass

def train(kind):
    print(f'training {kind}')
    if kind == 'quiet': sys.exit(3)
    if kind == 'killed': os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'slow': time.sleep(1000)
    if kind.startswith('rate'): raise RateTooHigh('rate must be below 1')
    if kind == 'chained':
        try: {}['missing']
        except KeyError as error: raise RuntimeError('no such key') from error

train(sys.argv[-1])
"""


@pytest.fixture
def start(session: object, tmp_path: Path) -> Iterator[Callable[..., grid.Run]]:
    """Start a run of a script that fails in as many ways as it is told: one experiment for each."""
    started: list[grid.Run] = []
    start_one = starter(tmp_path)

    def start(*kinds: str, text: str = SCRIPT, **options: object) -> grid.Run:
        started.append(start_one(text, f"--kind {shlex.quote(repr(list(kinds)))}", **options))
        return started[-1]

    yield start
    for run in started:
        with suppress(RunNotFound):  # deleted by the test
            run.cancel()


@pytest.fixture
def proxy(service: ServiceProcess, session: object) -> Iterator[Proxy]:
    """What the client speaks through to the service of the module."""
    with Proxy(service.endpoint.url) as proxy:
        sessions.use(Session(dataclasses.replace(service.endpoint, url=proxy.url), is_embedded=False))
        yield proxy


@pytest.fixture
def paused(session: object) -> Iterator[None]:
    """Keep the cluster from starting anything during the test, and afterwards what the test has left in its queue."""
    grid.pause_cluster("local")
    yield
    for run in list(grid.runs.values()):
        run.cancel()
    grid.resume_cluster("local")
