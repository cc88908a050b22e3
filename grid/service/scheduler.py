"""What may start now, on which resources; and what is recorded when an attempt starts or ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
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
from grid.service.store import accounts, runs
from grid.service.store.database import Database
from grid.service.store.tables import experiments
from grid.wire import ExperimentStatus

_log = logging.getLogger(__name__)


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
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing holds resources."""
        return not self._held

    async def open(self) -> None:
        """Go on with what an earlier service left active, and begin to start what is queued."""
        await self._executor.open(self)
        rows = await self._database.read(runs.active)
        given = {row.seq: self._executor.gpu_ids(row.id, row.attempt) for row in rows}
        # Those that were given GPUs keep them; the others had not been started yet, and get of what is left.
        for row in sorted(rows, key=lambda row: not given[row.seq]):
            await self._executor.adopt(self._hold(row, given[row.seq] or self._free_gpus()[: row.gpus]))
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

    async def cancel(self, which: sa.ColumnElement[bool]) -> None:
        """Record that experiments shall end, and begin to end those that have processes."""
        at = self._sources.now()

        def record(connection: Connection) -> tuple[list[Change], list[sa.Row[Any]]]:
            queued = which & (experiments.c.status == ExperimentStatus.QUEUED)
            reason = lifecycle.Reason.CANCELLED_BY_USER
            requested = which & experiments.c.status.in_(lifecycle.UNFINISHED)
            connection.execute(
                sa.update(experiments)
                .where(requested & experiments.c.cancel_requested_at.is_(None))
                .values(cancel_requested_at=at)
            )
            changed = lifecycle.change(connection, queued, ExperimentStatus.CANCELLED, at=at, reason=reason)
            active = which & experiments.c.status.in_(lifecycle.ACTIVE)
            rows = connection.execute(sa.select(experiments.c.id, experiments.c.attempt).where(active)).all()
            return changed, list(rows)

        changed, active = await self._database.write(record)
        self._announce(changed)
        for row in active:
            await self._executor.cancel(row.id, row.attempt)

    # What the executor tells

    async def on_started(self, experiment_seq: int, attempt: int, started_at: int) -> None:
        """The script's process exists."""
        which = (experiments.c.seq == experiment_seq) & (experiments.c.attempt == attempt)
        changed = await self._database.write(
            lambda connection: lifecycle.change(
                connection, which, ExperimentStatus.RUNNING, at=started_at, values={"started_at": started_at}
            )
        )
        self._announce(changed)

    async def on_ended(self, experiment_seq: int, attempt: int, ending: Ending) -> None:
        """No process of the attempt is left: its resources are free, and its end is recorded."""
        held = self._held.get(experiment_seq)
        if held is not None and held.attempt == attempt:
            del self._held[experiment_seq]
        at = self._sources.now()
        recorded = self._database.write(
            lambda connection: lifecycle.end(connection, experiment_seq, attempt, ending, at=at)
        )
        self.wake()
        self._announce(await recorded)

    # The queue

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._start_next():
                    pass
            except sa.exc.SQLAlchemyError:
                _log.exception("the queue could not be read; trying again")
                await asyncio.sleep(1)
                self._wake.set()

    async def _start_next(self) -> bool:
        """Start those at the head of the queue that fit; return whether there may be more of them."""
        free_cpus = self._cluster.resources.cpus - sum(held.cpus for held in self._held.values())
        free_gpus = self._free_gpus()
        if free_cpus <= 0:
            return False
        at = self._sources.now()

        def claim(connection: Connection) -> tuple[list[sa.Row[Any]], list[Change]]:
            if accounts.is_paused(connection, self._cluster.name):
                return [], []
            fitting, cpus, gpus = [], free_cpus, len(free_gpus)
            for row in runs.next_in_queue(connection, free_cpus):
                cpus, gpus = cpus - self._cpus(row), gpus - row.gpus
                if cpus < 0 or gpus < 0:
                    break  # nothing overtakes it: else it might wait for ever
                fitting.append(row)
            which = experiments.c.seq.in_([row.seq for row in fitting])
            return fitting, lifecycle.change(connection, which, ExperimentStatus.PENDING, at=at)

        claimed, changed = await self._database.write(claim)
        self._announce(changed)
        for row in claimed:
            job = self._hold(row, free_gpus[: row.gpus])
            del free_gpus[: row.gpus]
            await self._executor.start(job)
        return bool(claimed)

    def _free_gpus(self) -> list[int]:
        taken = {gpu for held in self._held.values() for gpu in held.gpu_ids}
        return [gpu for gpu in range(self._cluster.resources.gpus) if gpu not in taken]

    def _cpus(self, row: sa.Row[Any]) -> int:
        # A service that was started again with fewer CPUs must not wait for ever for more than there are.
        return min(row.cpus, self._cluster.resources.cpus)

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
            gpu_ids=held.gpu_ids,
        )

    def _announce(self, changed: list[Change]) -> None:
        self._changes.announce(change.run_seq for change in changed)
