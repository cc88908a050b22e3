"""Sends a run to the service: its source code, unless the service has it already, and then its definition."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from grid.definition.run_definition import script_command, to_settings_input
from grid.definition.surroundings import surprises
from grid.errors import GridWarning, PermissionDenied
from grid.session.run_source import find_run_source
from grid.source.snapshot import pack_source

if TYPE_CHECKING:
    from grid.definition.run_definition import RunDefinition
    from grid.models import StartedRun
    from grid.session.session import Session
    from grid.source.snapshot import Snapshot


def send_run(definition: RunDefinition, key: str, session: Session, *, first: int) -> StartedRun:
    """Send the source code of a run and start it; the same key starts the same run once.

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
        If the service refuses it; nothing was created.
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    settings = to_settings_input(definition)
    found = find_run_source(definition)
    # Asked before it is packed: what the service refuses must not cost an upload.
    session.execute(models.Estimate, settings=settings)
    with pack_source(found.source) as source:
        for warning in (*found.told(source), *surprises(definition, source.script)):
            warnings.warn(warning, GridWarning, stacklevel=3)
        _send_source(source, session)
        given = {
            "key": key,
            "name": definition.name or None,
            "description": definition.description,
            "settings": settings,
            "snapshot": source.digest,
            "script": source.script,
            "project": source.project,
            "commitSha": source.commit_sha,
            "scriptCommand": script_command(definition),
            "interpreter": session.interpreter,
        }
        return session.execute(models.StartRun, input=given, first=first).start_run


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
