"""What it takes to look at the queue does not depend on how long it is, nor on whether anything may start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service.store import cluster_rows, experiment_rows, queue_rows
from grid.service.store.sqlite import make_engine
from grid.service.store.tables import metadata
from grid.shared.wire import ExperimentStatus
from tests.support.experiments import insert_run


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A database with one experiment in the queue."""
    engine = make_engine(sa.make_url(f"sqlite:///{tmp_path / 'grid.sqlite3'}"), connections=1)
    with engine.begin() as opened:
        metadata.create_all(opened)
        insert_run(opened, ExperimentStatus.QUEUED)
        yield opened
    engine.dispose()


def effort(connection: Connection, statements: Callable[[Connection], Any]) -> int:
    """Return how many instructions SQLite carries out."""
    driver: Any = connection.connection.driver_connection
    instructions: list[None] = []
    driver.set_progress_handler(lambda: instructions.append(None), 1)
    statements(connection)
    driver.set_progress_handler(None, 0)
    return len(instructions)


LOOKS: dict[str, Callable[[Connection], Any]] = {
    "the next in the queue": lambda connection: queue_rows.next_in_queue(connection, "local", 1, 0),
    "whether anything is unfinished": experiment_rows.is_any_unfinished,
}


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("look", LOOKS)
def test_effort_of_a_long_queue(connection: Connection, look: str, paused: bool) -> None:
    """A queue that is a thousand times as long is looked at with as many instructions."""
    cluster_rows.set_paused(connection, "local", paused=paused)
    short = effort(connection, LOOKS[look])
    insert_run(connection, *[ExperimentStatus.QUEUED] * 999)
    assert effort(connection, LOOKS[look]) == short > 0


def test_queue_of_a_paused_cluster(connection: Connection) -> None:
    """Nothing is next while the cluster is paused, or in another cluster."""
    assert [row.id for row in queue_rows.next_in_queue(connection, "local", 5, 0)] == ["r0e0"]
    assert queue_rows.next_in_queue(connection, "elsewhere", 5, 0) == []
    cluster_rows.set_paused(connection, "local", paused=True)
    assert queue_rows.next_in_queue(connection, "local", 5, 0) == []
