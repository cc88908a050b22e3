"""Sends the source code of a run to the service. How it is packed is decided in :mod:`grid.source.snapshot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grid.errors import PermissionDenied

if TYPE_CHECKING:
    from grid.session.session import Session
    from grid.source.snapshot import Snapshot


def send(source: Snapshot, session: Session) -> None:
    """Send source code to the service, where it does not have it."""
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
