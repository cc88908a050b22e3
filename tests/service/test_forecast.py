"""Tests of how long a run will still take: the range, what it is made of, and when nothing is said."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from grid import Run, models
from grid.service.domain.cluster import Resources
from grid.service.domain.forecast import Forecast, Forecasts, _end, forecast
from grid.service.store import forecast_rows
from grid.service.store.forecast_rows import Standing
from grid.service.store.tables import clusters, experiments, metadata
from grid.session.session import Session
from grid.shared.wire import ExperimentStatus
from tests.support.experiments import insert_run
from tests.support.waiting import wait_for_run

QUEUED, PENDING, RUNNING = ExperimentStatus.QUEUED, ExperimentStatus.PENDING, ExperimentStatus.RUNNING
SUCCEEDED, FAILED, CANCELLED = ExperimentStatus.SUCCEEDED, ExperimentStatus.FAILED, ExperimentStatus.CANCELLED

SECOND = 1_000_000
NOW = 1_000 * SECOND
FOUR = Resources(4, 1, 1_000)
TEN = [10.0] * 4


def one(run_seq: int, status: ExperimentStatus, elapsed: float | None = None, **needs: int) -> Standing:
    """An experiment of one CPU, which has run so many seconds."""
    needed = {"cpus": 1, "gpus": 0, "memory_bytes": 0, "number": 1, **needs}
    return Standing(run_seq, status.value, None if elapsed is None else int(NOW - elapsed * SECOND), **needed)


@pytest.mark.parametrize(
    ("durations", "standing", "queued", "expected"),
    [
        # Nine wait, four at once: three rounds.
        (TEN, [one(1, QUEUED)], 9, (30, 30)),
        # One place is free, and three will be after a while.
        (TEN, [one(1, RUNNING, 4), one(1, RUNNING, 5), one(1, RUNNING, 6), one(1, QUEUED)], 2, (14, 14)),
        # Others have three of four places.
        (TEN, [*(one(2, RUNNING, 1) for _ in range(3)), one(1, QUEUED)], 1, (10, 10)),
        (TEN, [*(one(2, RUNNING, 1) for _ in range(4)), one(1, QUEUED)], 1, (19, 19)),
        (TEN, [one(2, RUNNING, 1, cpus=4), one(1, QUEUED)], 1, (19, 19)),
        # Eight are before it, each of half a place or of two.
        (TEN, [one(1, QUEUED, cpus=2), one(0, QUEUED, number=8)], 2, (30, 30)),
        (TEN, [one(1, QUEUED), one(0, QUEUED, cpus=2, number=8)], 4, (50, 50)),
        # What needs the only GPU, or half of the memory, has fewer places.
        (TEN, [one(1, QUEUED, gpus=1)], 3, (30, 30)),
        (TEN, [one(1, QUEUED, memory_bytes=500)], 3, (20, 20)),
        # The quarters of what it took before.
        ([1.0, 2.0, 3.0, 4.0, 5.0], [one(1, QUEUED)], 4, (2, 4)),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [one(1, RUNNING, 3)], 0, (0, 1)),
        # Slower than most; slower than all.
        ([1.0, 2.0, 3.0, 4.0, 5.0], [one(1, RUNNING, 4.5)], 0, (0, 0.5)),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [one(1, RUNNING, 8)], 0, (0, 8)),
        # It has not begun.
        (TEN, [one(1, PENDING)], 0, (10, 10)),
        # Scripts that take no time.
        ([0.0] * 3, [one(1, QUEUED)], 10_000, (0, 0)),
        # It cannot be known: paused, no such GPUs, gone meanwhile, a queue without an end in sight.
        (TEN, [one(1, RUNNING, 1)], 1, None),
        (TEN, [one(1, QUEUED, gpus=2)], 1, None),
        (TEN, [one(2, RUNNING, 1)], 0, None),
        (TEN, [one(1, QUEUED), one(0, QUEUED, number=forecast_rows.MOST_BEFORE)], 1, None),
        # One before it that will never run holds nobody up.
        (TEN, [one(1, QUEUED), one(0, QUEUED, gpus=2, number=99)], 1, (10, 10)),
        # A service that was started again with less.
        (TEN, [one(1, QUEUED, cpus=16)], 2, (20, 20)),
    ],
)
def test_forecast(
    durations: list[float], standing: list[Standing], queued: int, expected: tuple[float, float] | None
) -> None:
    """The range is what a queue over the free places takes, at the quicker and at the slower quarter."""
    found = forecast(durations, standing, 1, queued, FOUR, NOW)
    assert found == (None if expected is None else Forecast(*map(pytest.approx, expected)))


@given(
    of_run=st.lists(st.floats(0, 100), max_size=4),
    others=st.lists(st.floats(0, 100), max_size=4),
    waiting=st.integers(0, 200),
    each=st.floats(0, 50),
    places=st.integers(1, 8),
)
def test_the_end_is_that_of_a_queue(
    of_run: list[float], others: list[float], waiting: int, each: float, places: int
) -> None:
    """The end is when the last one ends if each begins on the place that is free first, one after the other."""
    busy = [*of_run, *others]
    free = [*busy, *[0.0] * (places - len(busy))]
    heapq.heapify(free)
    ends = [*of_run]
    for _ in range(waiting):
        ends.append(free[0] + each)
        heapq.heapreplace(free, ends[-1])
    expected = max([*of_run, *ends[-1:]], default=0.0)
    assert _end(of_run, others, waiting, each, places) == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A database in memory."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as opened:
        metadata.create_all(opened)
        yield opened
    engine.dispose()


def set_of(connection: Connection, run_seq: int, status: ExperimentStatus, **values: Any) -> None:
    """Write values into the experiments of a run that have a status."""
    which = (experiments.c.run_seq == run_seq) & (experiments.c.status == status.value)
    connection.execute(sa.update(experiments).where(which).values(**values))


def test_which_durations_count(connection: Connection) -> None:
    """Of the run's own scripts those that have ended by themselves: not cancelled, lost, stopped, never begun."""
    insert_run(connection, *[SUCCEEDED] * 3, *[FAILED] * 4, CANCELLED, RUNNING)
    insert_run(connection, SUCCEEDED)
    connection.execute(sa.update(experiments).values(started_at=SECOND, reason="EXIT_CODE"))
    connection.execute(sa.update(experiments).values(finished_at=SECOND + experiments.c.index * SECOND))
    for index, values in ((3, {"reason": "LOST"}), (4, {"reason": "SERVICE_STOPPED"}), (5, {"started_at": None})):
        connection.execute(sa.update(experiments).where(experiments.c.index == index).values(**values))
    assert sorted(forecast_rows.durations(connection, 1)) == [0, SECOND, 2 * SECOND, 6 * SECOND]


def test_the_latest_count(connection: Connection) -> None:
    """Of many that have ended those of the highest indices are looked at."""
    insert_run(connection, *[SUCCEEDED] * (forecast_rows.LATEST + 50))
    connection.execute(sa.update(experiments).values(started_at=0, finished_at=experiments.c.index, reason="EXIT_CODE"))
    assert sorted(forecast_rows.durations(connection, 1)) == list(range(50, forecast_rows.LATEST + 50))


def test_what_shares_the_cluster(connection: Connection) -> None:
    """Everything active, the run's next one, and by their needs those before it in the queue, but none after it."""
    insert_run(connection, QUEUED, QUEUED, RUNNING, cpus=2)
    insert_run(connection, SUCCEEDED, RUNNING, QUEUED, QUEUED, cpus=3)
    insert_run(connection, QUEUED, PENDING, gpus=1)
    set_of(connection, 1, RUNNING, started_at=7)
    set_of(connection, 2, RUNNING, started_at=8)
    active = [
        Standing(1, "RUNNING", 7, 2, 0, 0, 1),
        Standing(2, "RUNNING", 8, 3, 0, 0, 1),
        Standing(3, "PENDING", None, 1, 1, 0, 1),
    ]
    queue = [Standing(2, "QUEUED", None, 3, 0, 0, 1), Standing(0, "QUEUED", None, 2, 0, 0, 2)]
    assert sorted(forecast_rows.standing(connection, 2, "local"), key=repr) == sorted([*active, *queue], key=repr)
    connection.execute(sa.update(clusters).values(paused=True))
    assert Standing(2, "QUEUED", None, 3, 0, 0, 1) not in forecast_rows.standing(connection, 2, "local")


def test_nothing_is_walked_through(connection: Connection) -> None:
    """Each question is one statement, which finds what it reads by an index, and stops."""
    insert_run(connection, QUEUED, RUNNING, SUCCEEDED)
    heard: list[tuple[str, Any]] = []
    sa.event.listen(connection, "before_cursor_execute", lambda *args: heard.append(args[2:4]))
    forecast_rows.durations(connection, 1)
    forecast_rows.standing(connection, 1, "local")
    statements = tuple(heard)
    assert len(statements) == 2
    for statement, parameters in statements:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        assert not [row for row in plan if "SCAN experiments" in row[3]], plan
        assert not [row for row in plan if "TEMP B-TREE FOR ORDER BY" in row[3]], plan


class _Cluster:
    """What a forecast asks of a cluster."""

    name = "local"
    resources = FOUR


class _World:
    """A world in which it is always the same time."""

    @staticmethod
    def now() -> int:
        return NOW


def test_enough_must_have_ended(connection: Connection) -> None:
    """With two that have ended nothing is said, with three there is a range."""
    insert_run(connection, *[SUCCEEDED] * 3, QUEUED)
    forecasts: Any = Forecasts(_Cluster(), _World())  # type: ignore[arg-type]
    values = {"started_at": 0, "finished_at": 5 * SECOND, "reason": "EXIT_CODE"}
    for ended in range(3):
        assert forecasts.of_run(connection, 1, 1) is None
        connection.execute(sa.update(experiments).where(experiments.c.index == ended).values(**values))
    assert forecasts.of_run(connection, 1, 1) == Forecast(5, 5)


def test_progress(session: Session, start: Callable[..., Run], tmp_path: Path) -> None:
    """A watcher of a run's progress hears counts, a range as soon as three have ended, and none at the end."""
    hold = "import os, sys, time\nwhile sys.argv[3] == '3' and not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    run = start(hold, f"{tmp_path / 'go'} --n 'range(4)'")
    seen = []
    for answer in session.subscribe(models.RunProgress, name=run.name):
        progress = answer.run_status_changed
        counts = {group.status.value: group.count for group in progress.groups}
        seen.append((counts, progress.forecast))
        if counts.get("SUCCEEDED") == 3:
            assert progress.forecast is not None
            assert 0 <= progress.forecast.low <= progress.forecast.high
            (tmp_path / "go").touch()
    assert all(found is None for counts, found in seen if counts.get("SUCCEEDED", 0) < 3)
    assert seen[-1] == ({"SUCCEEDED": 4}, None)
    assert json.dumps(progress.to_dict())
    wait_for_run(run)
