"""Sends a run to the service: its source code, unless the service has it already, and then its definition."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grid.definition.run_definition import script_command, to_settings_input
from grid.errors import GridWarning, PermissionDenied
from grid.session.run_source import find_run_source
from grid.source.left_out import LeftOut, left_out
from grid.source.snapshot import pack_source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grid.definition.run_definition import RunDefinition
    from grid.models import PlannedRun, StartedRun
    from grid.session.session import Session
    from grid.source.snapshot import Snapshot


class Said:
    """Warnings of one start, from wherever they come: each is shown once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def warn(self, messages: Iterable[str], stacklevel: int) -> None:
        """Show those that were not shown yet, as if the caller that many levels above this one had them."""
        for message in messages:
            if message not in self._said:
                self._said.add(message)
                warnings.warn(message, GridWarning, stacklevel=stacklevel + 1)


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a run would be: what the service says, and what is known here alone."""

    plan: PlannedRun
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    """Of both."""


def look_ahead(definition: RunDefinition, seed: int, session: Session, *, first: int) -> Prospect:
    """Ask what `send_run` would make of the same definition and seed; send no source code, and create nothing.

    Parameters
    ----------
    definition
        With the values of all variables.
    first
        How many of its experiments to return.

    Raises
    ------
    SourceError, InvalidArgument
        If the source code cannot be packed, or is nothing that Grid should start.
    GridError
        If the service would refuse it.
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    settings = _settings(definition, seed)
    found = find_run_source(definition, runs_here=session.interpreter is not None)
    source = found.source
    if settings["workingDir"] not in {"root", "script"}:
        # No source code is sent in which the service could follow a link to it.
        settings["workingDir"] = f"./{found.folder}" if found.folder else "root"
    given: dict[str, Any] = {
        "settings": settings,
        "script": source.script,
        "name": definition.name or None,
        "sizeBytes": float(sum(source.files.values())),
        "interpreter": session.interpreter,
        "first": first,
    }
    plan = session.execute(models.PreviewRun, **given).preview
    said = dict.fromkeys((*found.told(), *plan.warnings))
    return Prospect(plan, tuple(left_out(source)), tuple(said))


def send_run(  # noqa: PLR0913 - all that makes up a start
    definition: RunDefinition, seed: int, key: str, session: Session, *, first: int, said: Said
) -> StartedRun:
    """Send the source code of a run and start it; the same key starts the same run once.

    Parameters
    ----------
    seed
        What its draws come from, if the definition does not say it.
    first
        How many of its experiments to return.
    said
        Shows what the user should know before anything is sent, to the caller's caller.

    Raises
    ------
    SourceError, InvalidArgument
        If the source code cannot be packed, or is nothing that Grid should start.
    GridError
        If the service refuses it; nothing was created.
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    settings = _settings(definition, seed)
    found = find_run_source(definition, runs_here=session.interpreter is not None)
    # Asked before it is packed: what the service refuses must not cost an upload.
    session.execute(models.Estimate, settings=settings)
    with pack_source(found.source) as source:
        said.warn(found.told(source), stacklevel=3)
        _send_source(source, session)
        given = {
            "key": key,
            "name": definition.name or None,
            "description": definition.description,
            "settings": settings,
            "snapshot": source.digest,
            "script": source.script,
            "importPaths": list(found.import_paths),
            "project": source.project,
            "commitSha": source.commit_sha,
            "scriptCommand": script_command(definition),
            "interpreter": session.interpreter,
        }
        return session.execute(models.StartRun, input=given, first=first).start_run


def _settings(definition: RunDefinition, seed: int) -> dict[str, Any]:
    return {"seed": seed, **to_settings_input(definition)}


def _send_source(source: Snapshot, session: Session) -> None:
    """Send source code to the service, unless it has it already."""
    from grid import models  # noqa: PLC0415 - not before the first call

    announced = {"digest": source.digest, "sizeBytes": source.size_bytes}
    for is_last in (False, True):
        upload = session.execute(models.CreateSnapshot, input=announced).create_snapshot
        if upload.upload_path is None:
            return
        try:
            session.upload(upload.upload_path, source.archive, source.size_bytes)
        except PermissionDenied:
            # The address has expired: an upload over a bad line may take that long.
            if is_last:
                raise
        else:
            return
