"""What can be done with runs: preview, start, cancel, retry, delete. Resolvers are above it, statements below it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import orjson

from grid.service.domain import data_links, launching, lifecycle, sweeps
from grid.service.domain.accounts import Accounts, User
from grid.service.domain.catalogue import InstanceType
from grid.service.domain.changes import Changes
from grid.service.domain.cluster import Cluster, Resources
from grid.service.domain.deletions import Deletions
from grid.service.domain.errors import (
    ClusterMissing,
    ExperimentMissing,
    InvalidValue,
    NameTaken,
    NotOwner,
    RunMissing,
    SnapshotMissing,
    TooManyExperiments,
)
from grid.service.domain.names import run_name
from grid.service.domain.scheduler import Scheduler
from grid.service.domain.snapshots import Snapshots
from grid.service.store import experiment_rows, run_rows, snapshot_rows
from grid.service.store.database import Database
from grid.service.store.experiment_rows import Which
from grid.service.system.world import World
from grid.shared.wire import (
    EXPERIMENT_NAME,
    MAX_DESCRIPTION,
    MAX_SCRIPT_COMMAND,
    MAX_TIMEOUT_SECONDS,
    MEMORY_FORM,
    PARAMS_STYLES,
    RUN_NAME,
    VARIABLE_NAME,
    ExperimentStatus,
    experiment_name,
    memory_bytes,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
_KEY_FORM = "16 to 64 letters, digits, '-' and '_'"
_MAX_NAME = 200
_MAX_LENGTHS = {"project": 500, "commitSha": 64, "scriptCommand": MAX_SCRIPT_COMMAND, "script": 4_000}
_MAX_SETTING = 4_000
_PARAMS_STYLES = {word: style for style, word in PARAMS_STYLES.items()}
_NAME_TRIES = 20
_MAX_WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many experiments a run would have, what it would cost per hour, and what would differ from the request."""

    experiment_count: int
    hourly_cost: float
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Planned:
    """An experiment that a run would have: the words that its script would get, and its parameters."""

    arguments: tuple[str, ...]
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would be, and its first experiments."""

    experiment_count: int
    combination_count: float
    seed: int
    launch: launching.Launch
    shape: sweeps.Shape
    experiments: list[Planned]
    hourly_cost: float
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What settings come to, for whoever wants to know: an estimate, a preview, a start."""

    instance: InstanceType
    resources: Resources
    seed: int
    trials: Sequence[sweeps.Trial]
    hourly_cost: float
    warnings: list[str]

    @property
    def count(self) -> int:
        """How many experiments there are."""
        return len(self.trials)


@dataclass(frozen=True, slots=True)
class Named:
    """Identifies a run or an experiment by name, and optionally by owner and id."""

    name: str
    owner: str | None = None
    """The owner's name; None for the viewer's own."""
    id: str | None = None
    """If given, it excludes another run or experiment that has the name by now."""

    def means(self, row: Row[Any]) -> bool:
        """Return whether the row, which has the name, is the one that is meant."""
        return self.id is None or self.id == row.id


class Runs:
    """Everything that users can do with runs and their experiments."""

    def __init__(  # noqa: PLR0913, PLR0917 - it is called once, to wire everything together
        self,
        database: Database,
        cluster: Cluster,
        scheduler: Scheduler,
        snapshots: Snapshots,
        changes: Changes,
        world: World,
        accounts: Accounts,
        deletions: Deletions,
        *,
        max_experiments: int,
        honour_interpreter: bool,
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._scheduler = scheduler
        self._snapshots = snapshots
        self._changes = changes
        self._world = world
        self._accounts = accounts
        self._deletions = deletions
        self._max_experiments = max_experiments
        self._honour_interpreter = honour_interpreter

    async def estimate(self, settings: Mapping[str, Any]) -> Estimate:
        """Return what a run would be and cost; create nothing."""
        plan = await self._plan(settings)
        return Estimate(plan.count, plan.hourly_cost, plan.warnings)

    async def preview(self, user: User, given: Mapping[str, Any], first: int) -> Preview:
        """Return what `start` would make of the same settings, with its first experiments; create nothing."""
        settings, script = given["settings"], given["script"]
        name, size_bytes = given.get("name"), given.get("sizeBytes")
        _check_name(name)
        _check_interpreter(given.get("interpreter"))
        launching.check_script(settings["entrypoint"], script)
        plan = await self._plan(settings)
        # Without its source code: so links in it are not followed.
        launch = launching.launch_of(settings, script, None, _counts(plan.resources))
        shown = launching.shown_script(settings["entrypoint"], script)
        await asyncio.to_thread(self._cluster.check_launcher, launch, settings, self._interpreter(given), None)
        if size_bytes is not None:
            self._check_space(plan, size_bytes)
        if name:
            taken = await self._database.read(lambda connection: run_rows.taken_names(connection, user.id, [name]))
            if taken:
                raise NameTaken(name)

        def look() -> Preview:
            return Preview(
                plan.count,
                self._combinations(settings),
                plan.seed,
                launch,
                sweeps.shape(plan.trials),
                [Planned(each.arguments, _parameters(shown, each)) for each in plan.trials[:first]],
                plan.hourly_cost,
                plan.warnings,
            )

        # In a thread: each of up to 10,000 trials is drawn when it is looked at.
        return await asyncio.to_thread(look)

    async def start(self, user: User, given: Mapping[str, Any]) -> tuple[Row[Any], list[str]]:
        """Create a run and queue its experiments; return it, with warnings about what differs from the request.

        If a run was started with the same key, return that one, whatever else is asked for.
        """
        key = given["key"]
        if not _KEY.fullmatch(key):
            raise InvalidValue("key", key, _KEY_FORM)
        made = await self._database.read(lambda connection: run_rows.by_key(connection, user.id, key))
        if made is not None:
            return made, orjson.loads(made.warnings)
        settings = given["settings"]
        _check_run(given)
        plan = await self._plan(settings)
        if not await self._snapshots.may_use(user.id, given["snapshot"]):
            raise SnapshotMissing(given["snapshot"])
        if not self._snapshots.holds(given["snapshot"], given["script"]):
            raise InvalidValue("script", given["script"], "the path of a file in the snapshot")
        launch, about_data = await asyncio.to_thread(self._launch, given, plan.resources)
        self._check_space(plan, await self._snapshots.size(given["snapshot"]))
        at = self._world.now()
        run = {
            "id": self._world.new_id(),
            "user_id": user.id,
            "key": key,
            "description": given.get("description"),
            "cluster": self._cluster.name,
            "snapshot": given["snapshot"],
            "project": given["project"],
            "commit_sha": given["commitSha"],
            "script": given["script"],
            "script_command": given["scriptCommand"],
            "interpreter": self._interpreter(given),
            "launch": launch.text(),
            "settings": orjson.dumps(_settled(settings, plan.instance.name, plan.seed)).decode(),
            "warnings": orjson.dumps([*plan.warnings, *about_data]).decode(),
            "experiment_count": len(plan.trials),
            "created_at": at,
        }
        shown = launching.shown_script(settings["entrypoint"], given["script"])
        # In a thread: each of up to 10,000 trials is drawn when it is looked at.
        rows, varying = await asyncio.to_thread(self._rows, plan.trials, shown, plan.resources, at)
        run["varying"] = orjson.dumps(varying).decode()

        def write(connection: Connection) -> Row[Any]:
            # Looked up again where no other write can come between: two requests with one key make one run.
            made = run_rows.by_key(connection, user.id, key)
            if made is None:
                if not snapshot_rows.may_use(connection, user.id, given["snapshot"]):
                    # The last run that had it was deleted in the meantime, or its owner has left the team.
                    raise SnapshotMissing(given["snapshot"])
                name = self._free_name(connection, user, given.get("name") or "")
                made = run_rows.by_seq(connection, run_rows.insert(connection, {**run, "name": name}, rows))
            return made

        made = await self._database.write(write)
        self._scheduler.wake()
        return made, orjson.loads(made.warnings)

    async def cancel_run(self, user: User, which: Named, wait_seconds: float) -> tuple[list[str], list[str]]:
        """Cancel a run's unfinished experiments; return the names of those that have ended, and of the others."""
        reader = await self._accounts.readable(user, which.owner)
        run = None
        if reader is not None:
            run = await self._database.read(lambda connection: run_rows.by_name(connection, reader.id, which.name))
        if run is None or not which.means(run):
            raise RunMissing(which.name, which.id)
        _check_owner(user, run, "run", run.name)
        return await self._cancel(run.seq, run.name, Which.run(run.seq), wait_seconds)

    async def cancel_experiment(self, user: User, which: Named, wait_seconds: float) -> tuple[list[str], list[str]]:
        """Cancel one experiment; return its name in the first list if it has ended, else in the second."""
        reader = await self._accounts.readable(user, which.owner)
        row = None
        if reader is not None:
            row = await self._database.read(lambda connection: self.find_experiment(connection, reader, which.name))
        if row is None or not which.means(row):
            raise ExperimentMissing(which.name, which.id)
        _check_owner(user, row, "experiment", which.name)
        return await self._cancel(row.run_seq, row.run_name, Which.experiment(row.id), wait_seconds)

    async def retry(self, user: User, run_id: str, key: str) -> list[str]:
        """Queue the next attempts of a run's failed experiments; return the experiments' names.

        If a retry had the same key, return what that queued, and queue nothing.
        """
        if not _KEY.fullmatch(key):
            raise InvalidValue("key", key, _KEY_FORM)
        missing = RunMissing(run_id=run_id)
        run = await self._database.read(lambda connection: run_rows.by_id(connection, run_id))
        if run is None or not await self._accounts.may_read(user, run.user_id):
            raise missing
        _check_owner(user, run, "run", run.name)
        at = self._world.now()

        def write(connection: Connection) -> tuple[list[int], list[lifecycle.Change]]:
            queued = run_rows.retried(connection, run.seq, key)
            if queued is not None:
                return queued, []
            if run_rows.by_id(connection, run_id) is None:
                raise missing  # deleted meanwhile
            again = lifecycle.queue_again(connection, Which.run(run.seq), at=at)
            indices = sorted(index for index, _ in again)
            run_rows.insert_retry(connection, run.seq, key, indices, at)
            return indices, [change for _, change in again]

        indices, changed = await self._database.write(write)
        self._changes.announce(change.run_seq for change in changed)
        self._scheduler.wake()
        return [experiment_name(run.name, index) for index in indices]

    async def delete_run(self, user: User, run_id: str) -> bool:
        """Delete a run with everything that belongs to it; return whether there was one."""
        run = await self._database.read(lambda connection: run_rows.by_id(connection, run_id))
        if run is None or not await self._accounts.may_read(user, run.user_id):
            return False
        _check_owner(user, run, "run", run.name)
        deleted = await self._deletions.delete_run(run.id, run.name)
        self._changes.announce([run.seq])
        return deleted

    async def delete_experiment(self, user: User, experiment_id: str) -> bool:
        """Delete an experiment with everything that belongs to it; return whether there was one."""
        row = await self._database.read(lambda connection: experiment_rows.by_id(connection, experiment_id))
        if row is None or not await self._accounts.may_read(user, row.user_id):
            return False
        name = experiment_name(row.run_name, row.index)
        _check_owner(user, row, "experiment", name)
        deleted = await self._deletions.delete_experiment(row.id, name, at=self._world.now())
        self._changes.announce([row.run_seq])
        return deleted

    @staticmethod
    def find_experiment(connection: Connection, user: User, name: str) -> Row[Any] | None:
        """Return a user's experiment by its name, such as ``calm-noether-4136-exp0``; None if there is none."""
        parts = EXPERIMENT_NAME.fullmatch(name)
        if parts is None:
            return None
        return experiment_rows.by_index(connection, user.id, parts["run"], int(parts["index"]))

    # Cancelling

    async def _cancel(
        self, run_seq: int, run_name: str, which: Which, wait_seconds: float
    ) -> tuple[list[str], list[str]]:
        if not 0 <= wait_seconds <= _MAX_WAIT_SECONDS:
            raise InvalidValue("waitSeconds", wait_seconds, f"0 to {_MAX_WAIT_SECONDS:g}")
        await self._scheduler.cancel(which)
        deadline = asyncio.get_running_loop().time() + wait_seconds
        with self._changes.listen(run_seq) as changed:
            while True:
                changed.clear()
                ended, pending = await self._database.read(lambda connection: _ended(connection, which))
                remaining = deadline - asyncio.get_running_loop().time()
                if not pending or remaining <= 0:
                    return _names(run_name, ended), _names(run_name, pending)
                try:
                    await asyncio.wait_for(changed.wait(), remaining)
                except TimeoutError:
                    continue  # one last look

    # Planning: one way to the experiments, whoever wants to know about them

    async def _plan(self, settings: Mapping[str, Any]) -> _Plan:
        """Return what settings come to; refuse those that cannot be started."""
        _check_settings(settings)
        self._check_cluster(settings)
        instance, resources, warnings = self._cluster.check(settings)
        await asyncio.to_thread(self._cluster.check_data, settings)
        # Refused before anything is drawn: expanding a sweep beyond the limit would only waste memory.
        count = await asyncio.to_thread(self._count, settings)
        seed = settings["seed"] if settings.get("seed") is not None else self._world.below(2**31)
        expansion = await asyncio.to_thread(self._expand, settings, seed)
        cost = instance.hourly_cost(experiments=count, use_spot=settings["useSpot"])
        said = list(dict.fromkeys([*warnings, *launching.warnings_of(settings), *expansion.warnings]))
        return _Plan(instance, resources, seed, expansion.trials, cost, said)

    def _check_space(self, plan: _Plan, size_bytes: float) -> None:
        at_once = self._cluster.resources.holds(plan.resources)
        self._cluster.check_space(int(size_bytes), min(at_once, plan.count))

    def _check_cluster(self, settings: Mapping[str, Any]) -> None:
        if settings["cluster"] not in ("", self._cluster.name):
            raise ClusterMissing(settings["cluster"], self._cluster.name)

    def _interpreter(self, given: Mapping[str, Any]) -> str | None:
        return given.get("interpreter") if self._honour_interpreter else None

    def _launch(self, given: Mapping[str, Any], resources: Resources) -> tuple[launching.Launch, list[str]]:
        """Return how a run is started, with warnings about what its data takes the place of. It is for threads.

        Parameters
        ----------
        given
            The fields of ``StartRunInput``, whose snapshot and script are there.
        resources
            What each experiment gets.
        """
        settings, script, tree = given["settings"], given["script"], self._snapshots.tree(given["snapshot"])
        # Where the callers are somewhere else, so is what they have installed.
        paths = given["importPaths"] if self._honour_interpreter else ()
        launch = launching.launch_of(settings, script, tree, _counts(resources), paths)
        self._cluster.check_launcher(launch, settings, self._interpreter(given), tree)
        data = settings.get("data") or {}
        targets = data_links.links(data)
        return launch, [
            f"data: {path!r} of the source code is replaced by a link to {targets[path]}"
            for path in data_links.replaced(data, tree, script, launch.folder)
        ]

    def _count(self, settings: Mapping[str, Any]) -> int:
        count = sweeps.count(settings["scriptArgs"], **_sweep(settings))
        if count > self._max_experiments:
            raise TooManyExperiments(count, self._max_experiments)
        return count

    def _combinations(self, settings: Mapping[str, Any]) -> float:
        """Count what a random search takes some of: what any other strategy would take all of."""
        if settings["strategy"] != "RANDOM_SEARCH":
            return self._count(settings)
        every = {**_sweep(settings), "strategy": "grid_search", "num_trials": 0, "repeats": 1}
        return float(sweeps.count(settings["scriptArgs"], **every))

    def _expand(self, settings: Mapping[str, Any], seed: int) -> sweeps.Expansion:
        return sweeps.expand(settings["scriptArgs"], **_sweep(settings), seed=seed, limit=self._max_experiments)

    # Starting

    def _rows(
        self, trials: Sequence[sweeps.Trial], script: str, resources: Resources, at: int
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the rows of the experiments, and the names of the parameters that differ between these."""
        rows = []
        first: dict[str, str] | None = None
        different: set[str] = set()
        names: dict[str, None] = {}
        for index, trial in enumerate(trials):
            parameters = trial.parameters
            first = parameters if first is None else first
            names.update(dict.fromkeys(parameters))
            # An argument may be left out of an experiment.
            different.update(name for name, value in parameters.items() if value != first.get(name))
            different.update(first.keys() - parameters.keys())
            rows.append(
                {
                    "id": self._world.new_id(),
                    "index": index,
                    "status": ExperimentStatus.QUEUED.value,
                    "attempt": 1,
                    "arguments": orjson.dumps(trial.arguments).decode(),
                    "parameters": orjson.dumps(_parameters(script, trial)).decode(),
                    "cpus": resources.cpus,
                    "gpus": resources.gpus,
                    "memory_bytes": resources.memory,
                    "created_at": at,
                }
            )
        return rows, [name for name in names if name in different]

    def _free_name(self, connection: Connection, user: User, wanted: str) -> str:
        names = [wanted] if wanted else [run_name(self._world.below) for _ in range(_NAME_TRIES)]
        taken = run_rows.taken_names(connection, user.id, names)
        for name in names:
            if name not in taken:
                return name
        if wanted:
            raise NameTaken(wanted)
        return f"{names[0]}-{self._world.below(2**31)}"


def _counts(resources: Resources) -> dict[str, int]:
    return {"cpus": resources.cpus, "gpus": resources.gpus}


def _parameters(script: str, trial: sweeps.Trial) -> dict[str, str]:
    return {"Script": script, **trial.parameters}


def _names(run_name: str, indices: list[int]) -> list[str]:
    return [experiment_name(run_name, index) for index in indices]


def _ended(connection: Connection, which: Which) -> tuple[list[int], list[int]]:
    ended: list[int] = []
    pending: list[int] = []
    for index, status in experiment_rows.statuses(connection, which):
        (ended if status.is_terminal else pending).append(index)
    return ended, pending


def _sweep(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what experiments are made of, besides the script's arguments as text."""
    return {
        "strategy": settings["strategy"].lower(),
        "num_trials": settings["numTrials"],
        "params": settings["params"],
        "params_style": _PARAMS_STYLES[settings["paramsStyle"]],
        "repeats": settings["repeats"],
    }


def _settled(settings: Mapping[str, Any], instance_type: str, seed: int) -> dict[str, Any]:
    """The settings as they are stored: with the values that were left open, and without what only matters at start."""
    kept = {name: value for name, value in settings.items() if name not in ("cluster", "actions")}
    return {
        **kept,
        "instanceType": instance_type,
        "seed": seed,
        "timeout": settings.get("timeout"),
        "environment": settings.get("environment") or {},
        "data": settings.get("data") or {},
    }


def _check_settings(settings: Mapping[str, Any]) -> None:
    _check_texts(settings)
    launching.check_settings(settings)
    data_links.links(settings.get("data") or {})
    for name in ("cpus", "gpus", "numTrials", "maxRetries"):
        if settings[name] < 0:
            raise InvalidValue(name, settings[name], "0 or more")
    _check_sweep(settings)
    timeout = settings.get("timeout")
    if timeout is not None and not 0 < timeout <= MAX_TIMEOUT_SECONDS:
        raise InvalidValue("timeout", timeout, f"more than 0 and at most {MAX_TIMEOUT_SECONDS} seconds")
    for name in settings.get("environment") or {}:
        if not VARIABLE_NAME.fullmatch(name):
            raise InvalidValue("environment", name, "names of letters, digits and '_', not beginning with a digit")
    for name in settings.get("inheritedVariables") or ():
        if name not in (settings.get("environment") or {}):
            raise InvalidValue("inheritedVariables", name, "the name of a variable in environment")
    if any("\0" in value for value in (settings["scriptArgs"], *(settings.get("environment") or {}).values())):
        raise InvalidValue("scriptArgs and environment", "\0", "text without null characters")


def _check_sweep(settings: Mapping[str, Any]) -> None:
    if settings["strategy"] == "RANDOM_SEARCH" and settings["numTrials"] < 1:
        raise InvalidValue("numTrials", settings["numTrials"], "1 or more for a random search")
    if settings.get("seed") is not None and settings["seed"] < 0:
        raise InvalidValue("seed", settings["seed"], "0 or more")
    if settings["repeats"] < 1:
        raise InvalidValue("repeats", settings["repeats"], "1 or more")


def _check_texts(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if isinstance(value, str) and name not in ("scriptArgs", "params") and len(value) > _MAX_SETTING:
            raise InvalidValue(name, f"{len(value)} characters", f"at most {_MAX_SETTING}")
    if settings["memory"] and not memory_bytes(settings["memory"]):
        raise InvalidValue("memory", settings["memory"], MEMORY_FORM)


def _check_run(given: Mapping[str, Any]) -> None:
    description = given.get("description")
    _check_name(given.get("name"))
    if description is not None and len(description) > MAX_DESCRIPTION:
        raise InvalidValue("description", f"{len(description)} characters", f"at most {MAX_DESCRIPTION}")
    launching.check_script(given["settings"]["entrypoint"], given["script"])
    launching.check_import_paths(given["importPaths"])
    for field, most in _MAX_LENGTHS.items():
        if len(given[field]) > most:
            raise InvalidValue(field, f"{len(given[field])} characters", f"at most {most}")
    _check_interpreter(given.get("interpreter"))


def _check_interpreter(interpreter: str | None) -> None:
    if interpreter is not None and (not PurePosixPath(interpreter).is_absolute() or "\0" in interpreter):
        raise InvalidValue("interpreter", interpreter, "an absolute path")


def _check_name(name: str | None) -> None:
    if name and (len(name) > _MAX_NAME or not RUN_NAME.fullmatch(name)):
        wanted = (
            "lower-case letters, digits and inner '-', beginning with a letter and ending in a letter or digit, "
            f"at most {_MAX_NAME}"
        )
        raise InvalidValue("name", name, wanted)


def _check_owner(user: User, row: Row[Any], kind: str, name: str) -> None:
    if row.user_id != user.id:
        raise NotOwner(kind, name, row.username)
