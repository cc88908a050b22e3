"""How long a run will still take: a range, from how long its experiments took, the free places and the queue."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.service.domain.cluster import Cluster, Resources
from grid.service.store import forecast_rows
from grid.service.store.forecast_rows import Standing
from grid.service.system.world import World
from grid.shared.wire import ExperimentStatus

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ENOUGH = 3
"""How many scripts must have ended by themselves before anything is said."""

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until a run has ended: if the rest is as quick as the quicker ones were, and as slow as the slower."""

    low: float
    high: float


class Forecasts:
    """Says how long runs will still take.

    *How long one takes* comes from the run's own scripts that have ended by themselves, the 200 of the highest indices
    that have succeeded and as many that have failed: a quarter of them were quicker than the lower end assumes, and a
    quarter slower than the higher end. Cancelled, lost and stopped ones do not count, and fewer than three say nothing.

    *How many run at once* is how often what one needs goes into the cluster's CPUs, GPUs and memory. Others that are
    active have some of these places, and others before it in the queue will; how long those take is not known better
    than how long the run's own do, so they count as if they took as long, by their share of the cluster.

    A script that runs already has what is left of that time. One that has run for longer than all that have ended takes
    as long again at the higher end.
    """

    def __init__(self, cluster: Cluster, world: World) -> None:
        self._cluster = cluster
        self._world = world

    def of_run(self, connection: Connection, run_seq: int, queued: int) -> Forecast | None:
        """Return the range for a run of which some experiments have not ended.

        Two statements, each of which reads a bounded number of rows.

        Parameters
        ----------
        connection
            A reader's.
        run_seq
            The run.
        queued
            How many of its experiments are queued.

        Returns
        -------
        Forecast or None
            None if too few have ended, and if its experiments wait for something else than their turn: for a paused
            cluster, or for GPUs that there no longer are; also if the queue before it is too long to be looked at.
        """
        durations = [each / _MICROSECONDS for each in forecast_rows.durations(connection, run_seq)]
        if len(durations) < _ENOUGH:
            return None
        standing = forecast_rows.standing(connection, run_seq, self._cluster.name)
        return forecast(durations, standing, run_seq, queued, self._cluster.resources, self._world.now())


def forecast(  # noqa: PLR0913, PLR0917 - all that it depends on
    durations: Sequence[float],
    standing: Sequence[Standing],
    run_seq: int,
    queued: int,
    there: Resources,
    now: int,
) -> Forecast | None:
    """Compute the range from what is known: see `Forecasts`.

    Parameters
    ----------
    durations
        How many seconds the run's scripts took, at least two.
    standing
        What `forecast_rows.standing` has found.
    run_seq, queued
        The run, and how many of its experiments are queued.
    there
        What all experiments share.
    now
        Microseconds since the epoch.
    """
    active = [each for each in standing if each.status != ExperimentStatus.QUEUED]
    before = [each for each in standing if each.run_seq == 0 and each.gpus <= there.gpus]
    own = [each for each in standing if each.run_seq == run_seq]
    is_next_known = any(each.status == ExperimentStatus.QUEUED for each in own)
    if not own or (queued and not is_next_known) or own[0].gpus > there.gpus:
        return None
    if sum(each.number for each in before) >= forecast_rows.MOST_BEFORE:
        return None
    share = _share(own[0], there)
    taken, others = 0.0, []
    for each in active:
        if each.run_seq != run_seq:
            taken += _share(each, there) / share
            whole = int(taken)
            taken -= whole
            others += [_seconds(each, now)] * whole
    of_run = [_seconds(each, now) for each in active if each.run_seq == run_seq]
    waiting = queued and queued + round(sum(each.number * _share(each, there) for each in before) / share)
    places = there.holds(_needed(own[0], there))
    quicker, _, slower = statistics.quantiles(durations, n=4, method="inclusive")
    longest = max(durations)

    def slow_rest(elapsed: float) -> float:
        if elapsed > longest:
            return elapsed
        return (slower if elapsed <= slower else longest) - elapsed

    def quick_rest(elapsed: float) -> float:
        return max(quicker - elapsed, 0.0)

    low, high = (
        _end([*map(rest, of_run)], [*map(rest, others)], waiting, each, places)
        for rest, each in ((quick_rest, quicker), (slow_rest, slower))
    )
    return Forecast(low, max(low, high))


def _end(of_run: list[float], others: list[float], waiting: int, each: float, places: int) -> float:
    """Return when the last of a run ends, if those that wait begin in turn, each on the first place that is free.

    Parameters
    ----------
    of_run, others
        When those end that run already: of the run, and of others.
    waiting
        How many wait, up to and with the run's last one.
    each
        How long each of these takes.
    places
        How many can run at once.
    """
    running = max(of_run, default=0.0)
    if not waiting:
        return running
    busy = of_run + others
    free = busy + [0.0] * (places - len(busy))
    if each <= 0:
        return max(running, min(free))
    # Dealt out evenly: so many every place gets, whichever is free first.
    rounds = max(0, waiting // len(free) - math.ceil(min(max(free) / each, waiting)) - 1)
    ends = [first + rounds * each for first in free]
    heapq.heapify(ends)
    last = 0.0
    for _ in range(waiting - rounds * len(free)):
        last = ends[0] + each
        heapq.heapreplace(ends, last)
    return max(running, last)


def _needed(each: Standing, there: Resources) -> Resources:
    # A service that was restarted with less gives less.
    return Resources(min(each.cpus, there.cpus), min(each.gpus, there.gpus), min(each.memory_bytes, there.memory))


def _share(each: Standing, there: Resources) -> float:
    """Return which part of the cluster one takes, by what it needs most of."""
    needed = _needed(each, there)
    pairs = ((needed.cpus, there.cpus), (needed.gpus, there.gpus), (needed.memory, there.memory))
    return max(part / whole for part, whole in pairs if whole) or 1.0


def _seconds(each: Standing, now: int) -> float:
    """Return how long the script of one has run."""
    return 0.0 if each.started_at is None else max(now - each.started_at, 0) / _MICROSECONDS
