"""What may start now, on which resources; and what is recorded when an attempt starts or ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from grid.service import lifecycle
from grid.service.changes import Changes
from grid.service.cluster import LocalCluster
from grid.service.executors import Ending, Executor, Job
from grid.service.lifecycle import Change
from grid.service.sources import Sources
from grid.service.store import runs
from grid.service.store.database import Database
from grid.service.store.tables import experiments
from grid.wire import ExperimentStatus

_log = logging.getLogger(__name__)

_AFTER_FAULT = 1.0
"""Seconds until the queue is looked at again after a fault."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What an active experiment holds."""

    attempt: int
    cpus: int
    gpu_ids: tuple[int, ...]


class Scheduler:
    """Starts experiments in the order of the queue, as far as the cluster's resources go."""

    def __init__(
        self, database: Database, cluster: LocalCluster, executor: Executor, changes: Changes, sources: Sources
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._executor = executor
        self._changes = changes
        self._sources = sources
        self._held: dict[int, _Held] = {}
        # What the executor has told and no transaction has recorded yet, in order.
        self._reports: list[Callable[[Connection], list[Change]]] = []
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Go on with what an earlier service left active, and begin to start what is queued."""
        await self._executor.open(self)
        for row in await self._database.read(runs.active):
            if row.cancel_requested_at is not None:
                # Recorded, and then the service was killed: perhaps before anybody was told.
                await self._executor.cancel(row.id, row.attempt)
            await self._executor.adopt(self._hold(row, orjson.loads(row.gpu_ids or "[]")))
        self._wake.set()
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Start nothing more; what runs goes on."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self._executor.close()

    def wake(self) -> None:
        """Look at the queue again."""
        self._wake.set()

    async def cancel(self, which: sa.ColumnElement[bool], meant: dict[str, int]) -> None:
        """Record that experiments shall end, and begin to end those that have processes.

        Parameters
        ----------
        which, meant
            One of the conditions of `lifecycle`, and the values of its parameters.
        """
        at = self._sources.now()

        def record(connection: Connection) -> tuple[list[Change], Sequence[Any]]:
            unfinished = which & experiments.c.status.in_(lifecycle.UNFINISHED)
            first = unfinished & experiments.c.cancel_requested_at.is_(None)
            connection.execute(sa.update(experiments).where(first).values(cancel_requested_at=at), meant)
            active = sa.select(experiments.c.id, experiments.c.attempt).where(
                which & experiments.c.status.in_(lifecycle.ACTIVE)
            )
            rows = connection.execute(active, meant).all()
            return lifecycle.cancel_queued(connection, which, meant, at=at), rows

        changed, active = await self._database.write(record)
        self._announce(changed)
        for row in active:
            await self._executor.cancel(row.id, row.attempt)

    # What the executor tells

    def on_started(self, experiment_seq: int, attempt: int, started_at: int) -> None:
        """The script's process exists."""
        meant = {"b_seq": experiment_seq, "b_attempt": attempt}
        self._reports.append(
            lambda connection: lifecycle.change(
                connection,
                lifecycle.ONE_ATTEMPT,
                meant,
                ExperimentStatus.RUNNING,
                at=started_at,
                values={"started_at": started_at},
            )
        )
        self.wake()

    def on_ended(self, experiment_seq: int, attempt: int, ending: Ending) -> None:
        """No process of the attempt is left: its resources are free, and its end is to be recorded."""
        held = self._held.get(experiment_seq)
        if held is not None and held.attempt == attempt:
            del self._held[experiment_seq]
        at = self._sources.now()
        self._reports.append(lambda connection: lifecycle.end(connection, experiment_seq, attempt, ending, at=at))
        self.wake()

    # The queue

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._turn():
                    pass
            except Exception:  # noqa: BLE001 - a full disk, a locked database: whatever it is, the queue goes on after it
                _log.exception("the queue has met a fault; trying again")
                await asyncio.sleep(_AFTER_FAULT)
                self._wake.set()

    async def _turn(self) -> bool:
        """Record what was reported and start what fits, in one transaction; return whether there may be more to do."""
        reports = list(self._reports)
        free_cpus = self._cluster.resources.cpus - sum(held.cpus for held in self._held.values())
        if not reports and free_cpus <= 0:
            return False
        taken = {gpu for held in self._held.values() for gpu in held.gpu_ids}
        free_gpus = [gpu for gpu in range(self._cluster.resources.gpus) if gpu not in taken]
        at = self._sources.now()

        def write(connection: Connection) -> tuple[list[Change], list[tuple[sa.Row[Any], list[int]]]]:
            changed = [change for report in reports for change in report(connection)]
            claimed = self._fitting(connection, free_cpus, free_gpus) if free_cpus > 0 else []
            for row, gpu_ids in claimed:
                meant = {"b_seq": row.seq, "b_attempt": row.attempt}
                values = {"gpu_ids": orjson.dumps(gpu_ids).decode()}
                pending = ExperimentStatus.PENDING
                changed += lifecycle.change(connection, lifecycle.ONE_ATTEMPT, meant, pending, at=at, values=values)
            return changed, claimed

        changed, claimed = await self._database.write(write)
        del self._reports[: len(reports)]
        for row, gpu_ids in claimed:
            await self._executor.start(self._hold(row, gpu_ids))
        self._announce(changed)
        return bool(claimed or self._reports)

    def _fitting(
        self, connection: Connection, free_cpus: int, free_gpus: list[int]
    ) -> list[tuple[sa.Row[Any], list[int]]]:
        """Return those at the head of the queue that fit, with the GPUs that each gets."""
        fitting = []
        for row in runs.next_in_queue(connection, self._cluster.name, free_cpus, self._cluster.resources.gpus):
            free_cpus -= self._cpus(row)
            if free_cpus < 0 or len(free_gpus) < row.gpus:
                break  # nothing overtakes it: else it might wait for ever
            fitting.append((row, free_gpus[: row.gpus]))
            free_gpus = free_gpus[row.gpus :]
        return fitting

    def _cpus(self, row: sa.Row[Any]) -> int:
        # A service that was started again with fewer CPUs must not wait for ever for more than there are.
        return min(int(row.cpus), self._cluster.resources.cpus)

    def _hold(self, row: sa.Row[Any], gpu_ids: Iterable[int]) -> Job:
        settings = orjson.loads(row.settings)
        held = self._held[row.seq] = _Held(row.attempt, self._cpus(row), tuple(gpu_ids))
        return Job(
            experiment_seq=row.seq,
            experiment_id=row.id,
            attempt=row.attempt,
            snapshot=row.snapshot,
            command=self._cluster.command(row.script, orjson.loads(row.arguments), row.interpreter),
            environment=self._cluster.environment(row, settings, held.gpu_ids),
        )

    def _announce(self, changed: list[Change]) -> None:
        self._changes.announce(change.run_seq for change in changed)
