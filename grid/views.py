"""What runs, experiments and their mapping views share: how each is shown, and the message for an unknown name."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from grid.errors import GridError
from grid.shared.wire import MAX_PAGE_SIZE

if TYPE_CHECKING:
    from grid.definition.run_definition import RunDefinition
    from grid.models import ArtifactRecord, ExperimentRecord
    from grid.run_state import RunState
    from grid.session.session import Session

EXPERIMENTS_PAGE = 500
"""How many experiments one request reads."""

REPR_SECONDS = 2.0
"""How many seconds a repr may spend on fetching the current state."""

AT_ONCE_SECONDS = 0.5
"""How many seconds may pass until somebody who has pressed Ctrl-C is told what goes on."""

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def describe_run(definition: RunDefinition, state: RunState) -> str:
    """Return the repr of a run, from what is known here."""
    fields = described(definition, state)
    return "\n".join(["Run(", *(f"    {name}={value}," for name, value in fields.items()), ")"])


def described(definition: RunDefinition, state: RunState) -> dict[str, object]:
    """Return what is shown of a run, by name, from what is known here."""
    return {
        "name": definition.name,
        "description": f'"{definition.description}"',
        "script_command": state.record.script_command if state.record else "",
        "num_experiments": len(state.indices),
        "status": status_counts(state),
        "user": state.user,
        "created_at": state.record.created_at if state.record else None,
        "cluster": definition.cluster,
    }


def status_counts(state: RunState) -> dict[str, int]:
    """Return how many experiments of a run have each status, as it was last seen."""
    if state.status is not None:
        return {word: len(names) for word, names in state.status.items()}
    if state.record is not None:
        return {group.status.value: group.count for group in state.record.status.groups}
    return {}


def describe_experiment(record: ExperimentRecord) -> str:
    """Return the repr of an experiment, from what is known here."""
    fields = {
        "name": record.name,
        "status": record.status,
        "project": f"{record.project} @ {record.commit_sha}",
        "parameters": record.parameters,
        "invocation_command": record.invocation_command,
        "user": record.user.username,
        "created_at": _without_offset(record.created_at),
        "started_running_at": _without_offset(record.started_running_at or _NEVER),
        "finished_at": _without_offset(record.finished_at or _NEVER),
    }
    return "\n".join(["Experiment(,", *(f"    {name}={value}," for name, value in fields.items()), ")"])


def describe_artifact(record: ArtifactRecord, sha256: str | None) -> str:
    """Return the repr of an artifact, from what is known here."""
    fields = {
        "path": repr(record.path),
        "size": int(record.size),
        "modified_at": _without_offset(record.modified_at),
    }
    if sha256 is not None:
        fields["sha256"] = sha256
    return f"Artifact({', '.join(f'{name}={value}' for name, value in fields.items())})"


def _without_offset(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def describe_mapping(entries: Iterable[tuple[str, str]], remark: str = "") -> str:
    """Return the repr of a view: the names, what they stand for, and a remark after them."""
    lines = ["{"]
    for name, text in entries:
        first, *rest = text.splitlines()
        lines += [f"    {name!r}: {first}", *(f"    {line}" for line in rest)]
        lines[-1] += ","
    if len(lines) > 1:
        lines[-1] = lines[-1].removesuffix(",")
    if remark:
        lines.append(f"    # {remark}")
    return "\n".join([*lines, "}"]) if len(lines) > 1 else "{}"


def no_such(kind: str, name: object, where: str, names: Iterable[str]) -> str:
    """Return the message that nothing has a name, with the names that are similar."""
    near = difflib.get_close_matches(str(name), list(iter(names)), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no {kind} {name!r} in {where}{hint}"


def names_of_runs(session: Session) -> Iterator[str]:
    """Yield the names of all runs of the logged-in user, newest first, with one request per page."""
    from grid import models  # noqa: PLC0415 - not before the first call

    after = None
    while True:
        page = session.execute(models.RunNames, first=MAX_PAGE_SIZE, after=after).runs
        yield from (node.name for node in page.nodes)
        if not page.page_info.has_next_page:
            return
        after = page.page_info.end_cursor


def try_refresh(refresh: Callable[[], object]) -> GridError | None:
    """Refresh what a repr will show; return an error instead of raising it."""
    try:
        refresh()
    except GridError as error:
        return error
    return None


def remaining(deadline: float) -> float:
    """Return the seconds until a monotonic time, as a time-out."""
    # A time-out of zero would mean that there is no time-out.
    return max(deadline - time.monotonic(), 0.001)
