"""The fixture with which tests of the service start scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from grid import Run
from grid.errors import RunNotFound
from grid.session.session import Session
from tests.support.experiments import starter


@pytest.fixture
def start(session: Session, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a run of a script whose text is given; one CPU for each experiment unless the test asks for more."""
    started: list[Run] = []
    start_one = starter(tmp_path)

    def start(*arguments: Any, **options: Any) -> Run:
        started.append(start_one(*arguments, **options))
        return started[-1]

    yield start
    # A test that has failed must not occupy the machine during the next one.
    for run in started:
        with suppress(RunNotFound):  # deleted by the test
            run.cancel()
