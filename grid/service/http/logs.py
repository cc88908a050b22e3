"""Bounds the log of the server below the application, which reports what anybody who can connect makes it report."""

from __future__ import annotations

import logging

from grid.service.system.repeats import Repeats

__all__ = ["limit_logs"]

_LOGGERS = ("uvicorn.error", "asyncio")
"""uvicorn's complains about requests that are not HTTP, asyncio's if the process has no descriptor left to accept."""


def limit_logs() -> None:
    """Log one line a minute of each kind, with the number of those that were left out since the one before."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


class _OnceAMinute(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._repeats = Repeats(1)

    def filter(self, record: logging.LogRecord) -> bool:
        # asyncio's messages go on with the addresses of objects.
        kind = str(record.msg).partition("\n")[0]
        left_out = self._repeats.note((record.name, record.levelno, kind))
        if left_out:
            record.msg, record.args = (
                f"{record.getMessage()} (and {left_out:,} more since the last line of this kind)",
                (),
            )
        return left_out is not None


_FILTER = _OnceAMinute()
