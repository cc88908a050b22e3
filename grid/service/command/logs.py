"""Where a service's log goes."""

from __future__ import annotations

import logging
import logging.handlers
import os
import shutil
from pathlib import Path
from typing import Any

from grid.shared import homes


def log_to(file: Path | None) -> None:
    """Write the log to a file, which is set aside whenever it becomes long; to stderr if there is none.

    Parameters
    ----------
    file
        The log of the embedded service, which is also where its stderr, and that of its other processes, goes.
    """
    handlers: list[logging.Handler] | None = None
    if file is not None:
        # Opened by the first line: until then the home may be gone.
        rotating = _SharedFileHandler(file, maxBytes=homes.MAX_LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
        rotating.rotator = _set_aside
        handlers = [rotating]
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=handlers)
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _SharedFileHandler(logging.handlers.RotatingFileHandler):
    """Writes to a log that others write to as well."""

    def shouldRollover(self, record: logging.LogRecord) -> Any:  # noqa: N802 - the library's word
        """Return whether the log is long; since Python 3.13 the library goes by what this process has written."""
        if self.stream is not None:
            self.stream.seek(0, os.SEEK_END)
        return super().shouldRollover(record)


def _set_aside(log: str, aside: str) -> None:
    """Copy a log, and empty it. Renamed it could not be: its other writers would follow it, out of sight.

    Keeper, spawner and supervisors have it open for appending, so that they go on at its new end. What one of them
    writes between the two steps is lost; they hardly write at all.
    """
    try:
        shutil.copy(log, aside)
    finally:
        os.truncate(log, 0)  # even if the disk is full: that makes room
