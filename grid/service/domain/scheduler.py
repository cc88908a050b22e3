"""Decides what may start now and on which resources, and records when an attempt starts or ends."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from grid.service.domain import data_links, lifecycle
from grid.service.domain.changes import Changes
from grid.service.domain.cluster import Cluster, Resources
from grid.service.domain.launching import Launch
from grid.service.domain.lifecycle import Change
from grid.service.executors.protocol import AttemptName, EarlierAttempt, Ending, Executor, Job, Written
from grid.service.results.looker import Looker
from grid.service.store import experiment_rows, queue_rows
from grid.service.store.database import Database
from grid.service.store.experiment_rows import Which
from grid.service.store.faults import DatabaseUnavailable
from grid.service.system import failpoints
from grid.service.system.world import World
from grid.shared.wire import ExperimentStatus

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_log = logging.getLogger(__name__)

_AFTER_FAULT = 1.0
"""Seconds until the queue is checked again after a fault."""


@dataclass(slots=True)
class _Held:
    """The resources that an active attempt holds."""

    cpus: int
    memory: int
    gpu_ids: tuple[str, ...]
    is_refused: bool = False
    """Whether the executor did not accept it, and must be asked again."""
    has_ended: bool = False
    """Whether its processes are gone and only the record is missing: it then holds no resources."""


@dataclass(slots=True)
class _Free:
    """The resources that no attempt holds."""

    cpus: int
    memory: int
    gpu_ids: list[str]


class Scheduler:
    """Starts experiments in the order of the queue, as far as the cluster's resources go."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that it works with
        self,
        database: Database,
        cluster: Cluster,
        executor: Executor,
        changes: Changes,
        world: World,
        looker: Looker,
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._executor = executor
        self._changes = changes
        self._world = world
        self._looker = looker
        self._held: dict[AttemptName, _Held] = {}
        # What the executor has reported and no transaction has recorded yet, in order.
        self._reports: list[Callable[[Connection], list[Change]]] = []
        self._wake = asyncio.Event()
        self._in_doubt = False
        self._recorded = asyncio.Event()
        self._starting = True
        self._turning = asyncio.Lock()
        # Attempts that were cancelled after their turn was recorded, and before they were handed over.
        self._cancelled: set[AttemptName] = set()
        # Attempts that the executor did not accept when it was last asked.
        self._refused: set[AttemptName] = set()
        self._loop: asyncio.Task[None] | None = None

    async def open(self, *, starting: bool = True) -> None:
        """Go on with what an earlier service left active, and, if `starting`, begin to start what is queued."""
        self._starting = starting
        self._database.call_in_doubt(self._look_again)
        await self._executor.open(self)
        await self._adopt()
        await self._forget_what_was_left()
        self._wake.set()
        self._loop = asyncio.create_task(self._run())

    async def _forget_what_was_left(self) -> None:
        """Have the evidence removed about attempts whose ends an earlier service has recorded."""
        others = await self._executor.others()
        # What no row mentions may be that of another database.
        known = await self._database.read(
            lambda connection: experiment_rows.known(connection, [attempt.experiment_id for attempt in others])
        )
        self._executor.forget([attempt for attempt in others if attempt.experiment_id in known])

    async def close(self) -> None:
        """Start nothing more; running attempts go on."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self._executor.close()

    async def stop_experiments(self) -> None:
        """Start nothing more, end everything that runs, and return when all ends are recorded."""
        self._starting = False
        async with self._turning:
            pass  # what was taken from the queue before is held now
        while self._held or self._reports:
            self._recorded.clear()
            for attempt, held in list(self._held.items()):
                if not held.has_ended:
                    await self._executor.stop(attempt)
            await self._recorded.wait()

    def wake(self) -> None:
        """Have the queue checked again."""
        self._wake.set()

    async def cancel(self, which: Which) -> None:
        """Record that experiments must end, and begin to end those that have processes."""
        at = self._world.now()

        def record(connection: Connection) -> tuple[list[Change], list[tuple[str, int]]]:
            experiment_rows.request_cancel(connection, which, at)
            active = experiment_rows.active_attempts(connection, which)
            return lifecycle.cancel_queued(connection, which, at=at), active

        await failpoints.reached_async("scheduler.cancel.before")
        changed, active = await self._database.write(record)
        await failpoints.reached_async("scheduler.cancel.after")
        self._announce(changed)
        for attempt in itertools.starmap(AttemptName, active):
            if attempt in self._held:
                await self._executor.cancel(attempt)
            elif self._turning.locked():
                self._cancelled.add(attempt)
            # Otherwise it has ended meanwhile, or it is adopted later, and its row says that it is cancelled.

    # What the executor reports

    def on_started(self, attempt: AttemptName, started_at: int) -> None:
        """Note that the script's process exists; the next turn records it."""
        if attempt not in self._held:
            return
        which, running, values = Which.attempt(*attempt), ExperimentStatus.RUNNING, {"started_at": started_at}
        self._reports.append(
            lambda connection: lifecycle.change(connection, which, running, at=started_at, values=values)
        )
        self.wake()

    def on_ended(self, attempt: AttemptName, ending: Ending) -> None:
        """Note that no process of the attempt is left: its resources are free, and the next turn records its end."""
        held = self._held.get(attempt)
        if held is None or held.has_ended:
            return
        held.has_ended = True
        at = self._world.now()
        self._reports.append(lambda connection: lifecycle.end(connection, attempt, ending, at=at))
        self.wake()

    # The queue

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._in_doubt:
                    # Give the fault time to pass, and then go by what the database says.
                    await asyncio.sleep(_AFTER_FAULT)
                    self._in_doubt = False
                    async with self._turning:
                        await self._adopt()
                    self._changes.announce_all()
                async with self._turning:
                    while await self._turn():
                        pass
            except DatabaseUnavailable:
                self._look_again()  # the log says what is wrong with it
            except Exception:  # noqa: BLE001 - whatever it is, the queue goes on after it
                _log.exception("the queue has met a fault; trying again")
                self._look_again()

    def _look_again(self) -> None:
        """Note that a commit (a start, a cancel, a turn) failed, or succeeded and its confirmation was lost."""
        self._in_doubt = True
        self.wake()

    async def _adopt(self) -> None:
        """Go on with every attempt that is active in the database and that the executor does not watch."""
        for row in await self._database.read(queue_rows.active):
            attempt = AttemptName(row.id, row.attempt)
            held = self._held.get(attempt)
            if held is not None and not held.is_refused:
                if row.cancel_requested_at is not None:
                    # A fault may have come after the cancel was recorded and before the executor was told.
                    await self._executor.cancel(attempt)
                continue
            await failpoints.reached_async("scheduler.adopt.before")
            was_running = row.status == ExperimentStatus.RUNNING
            adopt = functools.partial(self._executor.adopt, was_running=was_running, handed_over_at=row.turn_at)
            await self._give(adopt, row, [self._cluster.gpu_id(each) for each in orjson.loads(row.gpu_ids or "[]")])

    async def _turn(self) -> bool:
        """Record what was reported and start what fits, in one transaction; return whether there may be more to do."""
        reports = list(self._reports)
        ended = [attempt for attempt, held in self._held.items() if held.has_ended]
        holding = [held for held in self._held.values() if not held.has_ended]
        free = self._free(holding)
        if not reports and free.cpus <= 0:
            return False
        at = self._world.now()

        def write(connection: Connection) -> tuple[list[Change], list[tuple[Row[Any], list[str]]]]:
            changed = [change for report in reports for change in report(connection)]
            claimed = self._fitting(connection, free) if free.cpus > 0 else []
            for row, gpu_ids in claimed:
                which, values = Which.attempt(row.id, row.attempt), {"gpu_ids": orjson.dumps(gpu_ids).decode()}
                changed += lifecycle.change(connection, which, ExperimentStatus.PENDING, at=at, values=values)
            return changed, claimed

        await failpoints.reached_async("scheduler.turn.before")
        changed, claimed = await self._database.write(write)
        await failpoints.reached_async("scheduler.turn.after")
        del self._reports[: len(reports)]
        for attempt in ended:
            del self._held[attempt]
            self._looker.ends(attempt)
        self._executor.forget(ended)
        self._announce(changed)
        self._recorded.set()
        for row, gpu_ids in claimed:
            await failpoints.reached_async("scheduler.start.before")
            await self._give(self._executor.start, row, gpu_ids, is_new=True)
        self._cancelled.clear()
        return bool(claimed or self._reports)

    def _free(self, holding: list[_Held]) -> _Free:
        there, taken = self._cluster.resources, {gpu for held in holding for gpu in held.gpu_ids}
        return _Free(
            cpus=there.cpus - sum(held.cpus for held in holding) if self._starting else 0,
            memory=there.memory - sum(held.memory for held in holding),
            gpu_ids=[gpu for gpu in self._cluster.gpu_ids if gpu not in taken],
        )

    def _fitting(self, connection: Connection, free: _Free) -> list[tuple[Row[Any], list[str]]]:
        """Return the experiments at the head of the queue that fit, with the GPUs that each gets."""
        fitting = []
        cpus, memory, gpu_ids = free.cpus, free.memory, free.gpu_ids
        for row in queue_rows.next_in_queue(connection, self._cluster.name, cpus, self._cluster.resources.gpus):
            needed = self._needed(row)
            cpus -= needed.cpus
            memory -= needed.memory
            # One that claims no memory need not wait for it, even if there is less than what runs has claimed.
            if cpus < 0 or (needed.memory and memory < 0) or len(gpu_ids) < row.gpus:
                break  # nothing overtakes it, or it might wait for ever
            fitting.append((row, gpu_ids[: row.gpus]))
            gpu_ids = gpu_ids[row.gpus :]
        return fitting

    async def _give(
        self,
        executor: Callable[[Job], Awaitable[None]],
        row: Row[Any],
        gpu_ids: Sequence[str],
        *,
        is_new: bool = False,
    ) -> None:
        """Hand an attempt to the executor. If that does not accept it, it is adopted later.

        Whatever is wrong with one keeps no other from being handed over, and no service from starting.
        """
        attempt = AttemptName(row.id, row.attempt)
        job = self._job(attempt, row, gpu_ids)
        needed = self._needed(row)
        self._held[attempt] = _Held(needed.cpus, needed.memory, tuple(gpu_ids))
        self._looker.begins(Written(row.id, row.attempt, row.layout), row.run_seq, is_new=is_new)
        try:
            await executor(job)
        except Exception:  # noqa: BLE001 - as said above
            # It may run all the same: what it needs stays taken.
            self._held[attempt].is_refused = True
            if attempt not in self._refused:
                self._refused.add(attempt)
                _log.exception("%s-%d cannot be handed over now; trying again", *attempt)
            self._look_again()
        else:
            self._refused.discard(attempt)

    def _needed(self, row: Row[Any]) -> Resources:
        # A service that was restarted with less must not wait for ever for more than there is.
        there = self._cluster.resources
        return Resources(min(row.cpus, there.cpus), row.gpus, min(row.memory_bytes, there.memory))

    def _job(self, attempt: AttemptName, row: Row[Any], gpu_ids: Sequence[str]) -> Job:
        settings = orjson.loads(row.settings)
        launch = Launch.stored(row.launch, row.script)
        resumes = settings.get("autoResume", False) and row.begun_number is not None
        return Job(
            attempt=attempt,
            snapshot=row.snapshot,
            command=self._cluster.command(row, settings, launch),
            environment=self._cluster.environment(row, settings, launch, gpu_ids),
            folder=launch.folder,
            links=data_links.links(settings.get("data") or {}),
            memory_bytes=self._needed(row).memory if self._cluster.limits_memory else 0,
            timeout_seconds=settings.get("timeout"),
            layout=row.layout,
            resume=EarlierAttempt(row.begun_number, row.begun_layout) if resumes else None,
            is_cancelled=row.cancel_requested_at is not None or attempt in self._cancelled,
        )

    def _announce(self, changed: list[Change]) -> None:
        self._changes.announce(change.run_seq for change in changed)
