"""Turns rows into what GraphQL answers with: plain dicts with the schema's field names, for default resolvers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import orjson

from grid.service.api.errors import ApiError
from grid.service.domain.catalogue import InstanceType
from grid.service.domain.cluster import RUNNERS
from grid.service.store import attempt_rows, experiment_rows, status_counts
from grid.service.store.database import Database
from grid.shared.wire import ErrorCode, ExperimentStatus, experiment_name

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Object = dict[str, Any]


def moment(microseconds: int | None) -> str | None:
    """Return a time as the scalar `DateTime` writes it."""
    if microseconds is None:
        return None
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


class Statuses:
    """The statuses of a page of runs: one statement reads all counts, and another, if names are selected, all names."""

    def __init__(self, database: Database, rows: Sequence[Row[Any]]) -> None:
        self._database = database
        self._rows = {row.seq: row for row in rows}
        # Tasks and not results: resolvers run at the same time, and all but the first wait for what that has begun.
        self._reading: dict[bool, asyncio.Task[dict[int, list[Object]]]] = {}

    async def of(self, run_seq: int, *, with_names: bool) -> Object:
        """Return the fields of a `RunStatus` of one of the runs; counts and names show the same moment."""
        if with_names not in self._reading:
            read = self._database.read(self._named if with_names else self._counted)
            self._reading[with_names] = asyncio.ensure_future(read)
        groups = (await self._reading[with_names])[run_seq]
        # The revision was read before the statuses: at worst a client asks once more than necessary.
        return {"revision": self._rows[run_seq].revision, "groups": groups}

    # Each returns the fields of the `StatusGroup`s of each run. Their names are made in the reader's thread as well.

    def _counted(self, connection: Connection) -> dict[int, list[Object]]:
        counts = status_counts.of_runs(connection, list(self._rows))
        return {
            run_seq: [{"status": status, "count": count} for status, count in groups]
            for run_seq, groups in counts.items()
        }

    def _named(self, connection: Connection) -> dict[int, list[Object]]:
        found = experiment_rows.indices_by_status(connection, list(self._rows))
        return {run_seq: _named_groups(self._rows[run_seq].name, groups) for run_seq, groups in found.items()}


def _named_groups(run_name: str, groups: dict[str, list[int]]) -> list[Object]:
    return [
        {"status": status, "count": len(indices), "names": [experiment_name(run_name, index) for index in indices]}
        for status, indices in groups.items()
    ]


class Attempts:
    """The ended attempts of a page of experiments, read in one statement when the first ones are requested."""

    def __init__(self, database: Database, seqs: Sequence[int]) -> None:
        self._database = database
        self._seqs = seqs
        self._reading: asyncio.Task[dict[int, list[Row[Any]]]] | None = None

    async def of(self, experiment_seq: int) -> list[Row[Any]]:
        """Return the ended attempts of one of these experiments."""
        if self._reading is None:
            read = self._database.read(lambda connection: attempt_rows.of_experiments(connection, self._seqs))
            self._reading = asyncio.ensure_future(read)
        return (await self._reading)[experiment_seq]


_UNKNOWN_SETTINGS = {"timeout": None, "maxRetries": 0, "autoResume": False}
"""What runs have that were started by an earlier version, which did not know these."""


def run_object(row: Row[Any], statuses: Statuses) -> Object:
    """Return the fields of a `Run` except its connections; those that are not selected may be null."""
    deleted = orjson.loads(row.deleted_indices)
    return {
        "seq": row.seq,
        "statuses": statuses,
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "scriptCommand": row.script_command,
        "user": {"id": row.user_id, "username": row.username},
        "cluster": row.cluster,
        "project": row.project,
        "commitSha": row.commit_sha,
        "createdAt": moment(row.created_at),
        "experimentCount": row.experiment_count - len(deleted),
        "deletedIndices": deleted,
        "settings": row.settings and {**_UNKNOWN_SETTINGS, **orjson.loads(row.settings)},
    }


def experiment_object(row: Row[Any], attempts: Attempts) -> Object:
    """Return the fields of an `Experiment` except those that come from its attempts."""
    # The command as a person would type it; the cluster decides which interpreter "python" is.
    runner = RUNNERS.get(PurePosixPath(row.script).suffix, "python")
    return {
        "seq": row.seq,
        "endings": attempts,
        "id": row.id,
        "name": experiment_name(row.run_name, row.index),
        "runId": row.run_id,
        "index": row.index,
        "status": row.status,
        "attempt": row.attempt,
        "reason": row.reason,
        "exitCode": row.exit_code,
        "signal": row.signal,
        "parameters": orjson.loads(row.parameters),
        "invocationCommand": shlex.join([runner, row.script, *orjson.loads(row.arguments)]),
        "user": {"id": row.user_id, "username": row.username},
        "project": row.project,
        "commitSha": row.commit_sha,
        "createdAt": moment(row.created_at),
        "startedRunningAt": moment(row.started_at),
        "finishedAt": moment(row.finished_at),
    }


def attempt_object(row: Row[Any]) -> Object:
    """Return the fields of an `Attempt`."""
    return {
        "number": row.number,
        "status": row.status,
        "reason": row.reason,
        "failure": failure_object(row),
        "startedRunningAt": moment(row.started_at),
        "finishedAt": moment(row.finished_at),
    }


def failure_object(row: Row[Any]) -> Object | None:
    """Return the fields of the `Failure` of an ended attempt; None if it succeeded."""
    if row.status == ExperimentStatus.SUCCEEDED:
        return None
    return {
        "reason": row.reason,
        "exitCode": row.exit_code,
        "signal": row.signal,
        "error": row.error,
        "lastLines": row.last_lines,
        "finalLine": row.final_line,
    }


def failure_group_object(run_name: str, indices: Sequence[int], example: Row[Any]) -> Object:
    """Return the fields of a `FailureGroup`."""
    return {
        "reason": example.reason,
        "finalLine": example.final_line,
        "count": len(indices),
        "names": [experiment_name(run_name, index) for index in indices],
        "example": failure_object(example),
    }


def instance_type_object(each: InstanceType) -> Object:
    """Return the fields of an `InstanceType`."""
    return {
        "name": each.name,
        "nickname": each.nickname,
        "cpus": each.cpus,
        "gpus": each.gpus,
        "memoryGib": each.memory_gib,
        "accelerator": each.accelerator,
        "onDemandUsdPerHour": each.on_demand_usd_per_hour,
        "spotUsdPerHour": each.spot_usd_per_hour,
    }


def page_object(
    rows: Sequence[Row[Any]], first: int, total: int, node: Callable[[Row[Any]], Object], key: str
) -> Object:
    """Return the fields of a connection; `rows` has one row more than the page if another page follows."""
    shown = rows[:first]
    return {
        "nodes": [node(row) for row in shown],
        "pageInfo": {
            "hasNextPage": len(rows) > first,
            "endCursor": _cursor(getattr(shown[-1], key)) if shown else None,
        },
        "totalCount": total,
    }


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode()


def place_of(cursor: str | None) -> int | None:
    """Return the place that a cursor of a page stands for."""
    if cursor is None:
        return None
    try:
        place = base64.urlsafe_b64decode(cursor.encode()).decode("ascii")
        if not place.isdecimal() or len(place) > 18:  # noqa: PLR2004 - fits into 64 bits
            raise ValueError
        return int(place)
    except (binascii.Error, ValueError):
        message = f"after={cursor[:80]!r} is not a cursor: pass the endCursor of the previous page"
        raise ApiError(ErrorCode.INVALID_ARGUMENT, message) from None


def read_page(  # noqa: PLR0913, PLR0917 - all that makes up a page
    connection: Connection, database: Database, run_seq: int, total: int, first: int, after: int | None
) -> Object:
    """Return a page of a run's experiments, read within one transaction."""
    rows = experiment_rows.page(connection, run_seq, first, after)
    attempts = Attempts(database, [row.seq for row in rows])
    return page_object(rows, first, total, lambda row: experiment_object(row, attempts), "index")


def cancellation_object(ended: list[str], pending: list[str], grace_seconds: float) -> Object:
    """Return the fields of a `Cancellation`."""
    return {"ended": ended, "pending": pending, "graceSeconds": grace_seconds}
