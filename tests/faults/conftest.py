"""Fixtures of the fault tests: a process that forks services quickly, and a home to begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.victims import Victim, Zygote, victim


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """The process that forks the services."""
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def template(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped service whose database exists."""
    folder = tmp_path_factory.mktemp("template") / "victim"
    with victim(zygote, folder) as service:
        service.start()
        service.stop()
    return folder


@pytest.fixture
def new_victim(zygote: Zygote, template: Path, tmp_path: Path) -> Iterator[Callable[..., Victim]]:
    """Make services that are not started yet, each of a home of its own; nothing of them is left behind."""
    with ExitStack() as stack:
        numbers = iter(range(1_000_000))

        def new(*options: str) -> Victim:
            folder = tmp_path / f"victim-{next(numbers)}"
            return stack.enter_context(
                victim(zygote, folder, "--grace", "1", "--cpus", "2", *options, template=template)
            )

        yield new
