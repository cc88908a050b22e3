"""The files that experiments have made: pages of them, one of them, their digests and addresses."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Mapping
from typing import Any

from ariadne import ObjectType

from grid.service.api.context import Info
from grid.service.api.errors import ApiError
from grid.service.api.projections import Object, moment
from grid.service.api.selections import selects
from grid.service.executors.protocol import Written
from grid.service.results.artifacts import Artifact, Attempt, etag_of
from grid.shared.wire import ErrorCode, ExperimentStatus

_experiment = ObjectType("Experiment")
_artifact = ObjectType("Artifact")

BINDABLES = (_experiment, _artifact)

_MAX_WAIT = 20.0


@_experiment.field("artifacts")
async def _artifacts(
    experiment: Mapping[str, Any], info: Info, first: int, attempt: int | None = None, after: str | None = None
) -> Object:
    which, place = await _attempt(experiment, attempt), _path_of(after)
    page = await info.context.service.artifacts.page(
        which, info.context.user.id, first, place, with_digests=selects(info, "sha256")
    )
    return {
        "attempt": which.written.number,
        "nodes": [_object(each) for each in page.artifacts],
        "pageInfo": {"hasNextPage": page.has_more, "endCursor": page.end and _cursor(page.end)},
    }


@_experiment.field("artifact")
async def _one_artifact(
    experiment: Mapping[str, Any], info: Info, path: str, attempt: int | None = None
) -> Object | None:
    which = await _attempt(experiment, attempt)
    found = await info.context.service.artifacts.find(which, info.context.user.id, path)
    return found and _object(found)


@_experiment.field("bundlePath")
async def _bundle_path(experiment: Mapping[str, Any], info: Info, attempt: int | None = None) -> str:
    which = await _attempt(experiment, attempt)
    path: str = info.context.service.artifacts.bundle(which, info.context.user.id)
    return path


@_artifact.field("sha256")
def _sha256(artifact: Object, info: Info, waitSeconds: float) -> str | Awaitable[str | None] | None:  # noqa: N803
    if not 0 <= waitSeconds <= _MAX_WAIT:
        message = f"waitSeconds={waitSeconds:g} is not allowed: expected 0 to {_MAX_WAIT:g}"
        raise ApiError(ErrorCode.INVALID_ARGUMENT, message, {"argument": "waitSeconds"})
    known: Artifact = artifact["known"]
    if known.sha256 is not None or not waitSeconds:  # so that a page of a thousand waits for nothing
        return known.sha256
    waited: Awaitable[str | None] = info.context.service.artifacts.sha256(known, waitSeconds)
    return waited


def _object(artifact: Artifact) -> Object:
    state = artifact.state
    return {
        "known": artifact,
        "path": state.path,
        "size": state.size,
        "modifiedAt": moment(state.modified_at),
        "etag": etag_of(state),
        "downloadPath": artifact.download,
    }


async def _attempt(experiment: Mapping[str, Any], number: int | None) -> Attempt:
    """Return the attempt of that number, or the current one."""
    current = experiment["attempt"]
    if number is None or number == current:
        written = Written(experiment["id"], current, experiment["layout"], experiment["startedAt"])
        return Attempt(written, experiment["snapshot"], ExperimentStatus(experiment["status"]).is_terminal)
    for ended in await experiment["endings"].of(experiment["seq"]):
        if ended["number"] == number:
            written = Written(experiment["id"], number, ended["layout"], ended["startedAt"])
            return Attempt(written, experiment["snapshot"], has_ended=True)
    message = f"attempt={number}: the experiment {experiment['name']!r} has no such attempt; its attempts are 1"
    message += f" to {current}" if current > 1 else ""
    raise ApiError(ErrorCode.INVALID_ARGUMENT, message, {"argument": "attempt"})


def _cursor(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode()).decode()


def _path_of(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        return base64.b64decode(cursor, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        message = f"after={cursor[:80]!r} is not a cursor: pass the endCursor of the previous page"
        raise ApiError(ErrorCode.INVALID_ARGUMENT, message, {"argument": "after"}) from None
