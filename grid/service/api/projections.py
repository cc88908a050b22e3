"""Turns rows into what GraphQL answers with, for default resolvers: plain dicts with the schema's field names.

Experiments, of which a page has a thousand, are held by column.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from grid.service.api.columns import Columns, Stored
from grid.service.api.errors import ApiError
from grid.service.domain.catalogue import InstanceType
from grid.service.domain.events import Piece
from grid.service.domain.forecast import Forecasts
from grid.service.domain.launching import Launch
from grid.service.domain.runs import Preview
from grid.service.results.pages import Page
from grid.service.store import attempt_rows, experiment_rows, status_counts
from grid.service.store.database import Database
from grid.service.store.event_rows import DELETED
from grid.shared.masking import masked
from grid.shared.wire import ErrorCode, ExperimentStatus, experiment_name

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = 60_000_000

Object = dict[str, Any]

# A JSON list of words that `shlex.quote` leaves as they are. None of them has a quote or a backslash in it.
_BETWEEN = '","'
_are_plain = re.compile(rf'\["[\w@%+=:,./-]+(?:{_BETWEEN}[\w@%+=:,./-]+)*"\]', re.ASCII).fullmatch


def moment(microseconds: int | None) -> str | None:
    """Return a time as the scalar `DateTime` writes it."""
    if microseconds is None:
        return None
    minute, within = divmod(microseconds, _MINUTE)
    digits = str(100_000_000 + within)  # a 1 that keeps the zeros, two digits of seconds and six of microseconds
    return f"{_minute(minute)}:{digits[1:3]}.{digits[3:]}+00:00"


@functools.lru_cache(maxsize=4_096)
def _minute(number: int) -> str:
    return (_EPOCH + timedelta(minutes=number)).isoformat(timespec="minutes")[:16]


class Statuses:
    """The statuses of a page of runs, with or without names; one statement reads those of all when one is requested.

    Forecasts, if wanted, are made of each run by itself: so they cost much, and are not asked for of a page.
    """

    def __init__(
        self, database: Database, rows: Sequence[Row[Any]], *, with_names: bool, forecasts: Forecasts | None = None
    ) -> None:
        self._database = database
        self._rows = {row.seq: row for row in rows}
        self._forecasts = forecasts
        self._read = self._named if with_names else self._counted
        # A task and not a result: resolvers run at the same time, and all but the first wait for what that has begun.
        self._reading: asyncio.Task[dict[int, Object]] | None = None

    async def of(self, run_seq: int) -> Object:
        """Return the fields of a `RunStatus` of one of the runs; counts and names show the same moment."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._database.read(self._all))
        return (await self._reading)[run_seq]

    def _all(self, connection: Connection) -> dict[int, Object]:
        return {
            # The revision was read before the statuses: at worst a client asks once more than necessary.
            run_seq: {
                "revision": self._rows[run_seq].revision,
                "groups": groups,
                "forecast": self._forecast(connection, run_seq, groups),
            }
            for run_seq, groups in self._read(connection).items()
        }

    def _forecast(self, connection: Connection, run_seq: int, groups: Sequence[Object]) -> Object | None:
        counts = {ExperimentStatus(group["status"]): group["count"] for group in groups}
        if self._forecasts is None or all(status.is_terminal for status in counts):
            return None
        found = self._forecasts.of_run(connection, run_seq, counts.get(ExperimentStatus.QUEUED, 0))
        return None if found is None else {"low": found.low, "high": found.high}

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
        self._reading: asyncio.Task[dict[int, list[Object]]] | None = None

    async def of(self, experiment_seq: int) -> list[Object]:
        """Return the fields of the `Attempt`s of one of these experiments that have ended."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._database.read(self._read))
        return (await self._reading)[experiment_seq]

    def _read(self, connection: Connection) -> dict[int, list[Object]]:
        found = attempt_rows.of_experiments(connection, self._seqs)
        return {seq: [attempt_object(row) for row in rows] for seq, rows in found.items()}


_UNKNOWN_SETTINGS: Object = {
    "timeout": None,
    "maxRetries": 0,
    "autoResume": False,
    "params": "",
    "paramsStyle": "FLAG_VALUE",
    "repeats": 1,
    "inheritedVariables": [],
    "workingDir": "root",
    "launcher": "",
    "data": {},
}
"""What runs have that were started by an earlier version, which did not know these."""


def _settings(row: Row[Any], viewer_id: str) -> Object:
    settings = {**_UNKNOWN_SETTINGS, **orjson.loads(row.settings)}
    if row.user_id != viewer_id:
        settings["environment"] = masked(settings.get("environment") or {}, settings["inheritedVariables"])
    return settings


def run_object(row: Row[Any], statuses: Statuses, viewer_id: str) -> Object:
    """Return the fields of a `Run` except its connections, as a viewer may see them; null where not selected."""
    deleted = orjson.loads(row.deleted_indices)
    return {
        "seq": row.seq,
        "statuses": statuses,
        "script": row.script,
        "launch": row.launch,
        "interpreter": row.interpreter,
        "created_at": row.created_at,
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
        "varying": orjson.loads(row.varying),
        "settings": row.settings and _settings(row, viewer_id),
    }


def experiment_object(row: Row[Any], attempts: Attempts) -> Mapping[str, Any]:
    """Return the fields of an `Experiment` except those that come from its attempts."""
    return _experiments({name: [value] for name, value in zip(row._fields, row, strict=True)}, attempts)[0]


def _experiments(stored: Stored, attempts: Attempts) -> Columns:
    return Columns({**stored, "attempts": [attempts] * len(stored["seq"])}, _EXPERIMENT)


def _stored(column: str) -> Callable[[Stored], Sequence[Any]]:
    return lambda stored: stored[column]


def _moments(column: str) -> Callable[[Stored], Sequence[Any]]:
    def compute(stored: Stored) -> list[str | None]:
        given = stored[column]
        if len(set(given)) == 1:  # all experiments of a run are created at the same moment
            return [moment(given[0])] * len(given)
        return list(map(moment, given))

    return compute


def _names(stored: Stored) -> list[str]:
    return [experiment_name(*each) for each in zip(stored["run_name"], stored["index"], strict=True)]


def _parameters(stored: Stored) -> list[orjson.Fragment]:
    # They are stored as the JSON that is sent.
    return list(map(orjson.Fragment, stored["parameters"]))


def _commands(stored: Stored) -> list[str]:
    quoted, launches = _Quoted(), _Launches()
    columns = (stored[name] for name in ("launch", "script", "index", "arguments"))
    return [
        _command(launches[launch, script], index, arguments, quoted)
        for launch, script, index, arguments in zip(*columns, strict=True)
    ]


def _command(start: str | Launch, index: int, arguments: str, quoted: _Quoted) -> str:
    """Return a command as a person would type it; the cluster decides which interpreter "python" is."""
    begun = start if isinstance(start, str) else shlex.join(start.shown(index))
    if _are_plain(arguments):
        return f"{begun} {arguments[2:-2].replace(_BETWEEN, ' ')}"
    return " ".join([begun, *map(quoted.__getitem__, orjson.loads(arguments))])


class _Launches(dict[tuple[str, str], "str | Launch"]):
    """How runs are started: as the beginning of a command where that is the same for all of its experiments."""

    def __missing__(self, stored: tuple[str, str]) -> str | Launch:
        launch = Launch.stored(*stored)
        start = self[stored] = launch if "{index}" in stored[0] else shlex.join(launch.shown(0))
        return start


def preview_object(preview: Preview) -> Object:
    """Return the fields of a `Preview`."""
    quoted, launch = _Quoted(), preview.launch
    return {
        "experimentCount": preview.experiment_count,
        "seed": preview.seed,
        "combinationCount": preview.combination_count,
        "sweep": [{"name": each.name, "count": each.count, "axis": each.axis} for each in preview.shape.swept],
        "axes": preview.shape.axes,
        "constantCount": preview.shape.constant_count,
        "experiments": [
            {
                "parameters": each.parameters,
                "invocationCommand": _command(launch, index, orjson.dumps(each.arguments).decode(), quoted),
            }
            for index, each in enumerate(preview.experiments)
        ],
        "hourlyCost": preview.hourly_cost,
        "warnings": preview.warnings,
    }


class _Quoted(dict[str, str]):
    """Words as a shell takes them. The experiments of a run have most of theirs in common."""

    def __missing__(self, word: str) -> str:
        quoted = self[word] = shlex.quote(word)
        return quoted


def _users(stored: Stored) -> list[Object]:
    known = {
        id_: {"id": id_, "username": name} for id_, name in zip(stored["user_id"], stored["username"], strict=True)
    }
    return [known[each] for each in stored["user_id"]]


_EXPERIMENT: Mapping[str, Callable[[Stored], Sequence[Any]]] = {
    "seq": _stored("seq"),
    "endings": _stored("attempts"),
    "layout": _stored("layout"),
    "script": _stored("script"),
    "launch": _stored("launch"),
    "interpreter": _stored("interpreter"),
    "created_at": _stored("created_at"),
    "id": _stored("id"),
    "name": _names,
    "runId": _stored("run_id"),
    "index": _stored("index"),
    "status": _stored("status"),
    "attempt": _stored("attempt"),
    "snapshot": _stored("snapshot"),
    "startedAt": _stored("started_at"),
    "reason": _stored("reason"),
    "exitCode": _stored("exit_code"),
    "signal": _stored("signal"),
    "parameters": _parameters,
    "invocationCommand": _commands,
    "user": _users,
    "project": _stored("project"),
    "commitSha": _stored("commit_sha"),
    "createdAt": _moments("created_at"),
    "startedRunningAt": _moments("started_at"),
    "finishedAt": _moments("finished_at"),
}


def attempt_object(row: Row[Any]) -> Object:
    """Return the fields of an `Attempt`."""
    return {
        "number": row.number,
        "layout": row.layout,
        "startedAt": row.started_at,
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


def events_object(piece: Piece) -> Object:
    """Return the fields of a `RunEvents`."""
    return {
        "revision": piece.revision,
        "events": [
            {
                "number": event.number,
                "at": moment(event.at),
                "experimentId": event.experiment_id,
                "name": experiment_name(piece.run_name, event.index),
                "attempt": event.attempt,
                "status": None if event.status == DELETED else event.status,
                "reason": event.reason,
                "isQueuedAgain": event.is_queued_again,
            }
            for event in piece.events
        ],
        "isEnd": piece.is_end,
    }


def log_page_object(experiment_id: str | None, name: str, attempt: int, page: Page) -> Object:
    """Return the fields of a `LogPage`."""
    return {
        "experimentId": experiment_id,
        "name": name,
        "attempt": attempt,
        "number": page.number,
        "count": page.count,
        "text": page.text,
        "times": [
            {"number": number, "at": moment(at), "isApproximate": is_approximate}
            for number, at, is_approximate in page.times
        ],
        "isEnd": page.is_end,
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
    last = getattr(shown[-1], key) if shown else None
    return _page([node(row) for row in shown], total, last, has_more=len(rows) > first)


def _page(nodes: Sequence[Mapping[str, Any]], total: int, last: int | None, *, has_more: bool) -> Object:
    cursor = None if last is None else _cursor(last)
    return {"nodes": nodes, "pageInfo": {"hasNextPage": has_more, "endCursor": cursor}, "totalCount": total}


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
    columns = experiment_rows.page(connection, run_seq, first, after)
    has_more = len(columns["seq"]) > first
    shown = {name: values[:first] for name, values in columns.items()} if has_more else columns
    experiments = _experiments(shown, Attempts(database, shown["seq"]))
    last = shown["index"][-1] if shown["index"] else None
    return _page(experiments, total, last, has_more=has_more)


def cancellation_object(ended: list[str], pending: list[str], grace_seconds: float) -> Object:
    """Return the fields of a `Cancellation`."""
    return {"ended": ended, "pending": pending, "graceSeconds": grace_seconds}
