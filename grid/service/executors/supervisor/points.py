"""The named points of these processes at which a test lets somebody die; nothing where none is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable


def _load() -> Callable[[str], None]:
    if "GRID_FAILPOINTS" not in os.environ:
        return lambda _: None
    # Larger than all the rest of what is imported, and needed by nobody else.
    from grid.service.system import failpoints  # noqa: PLC0415

    return failpoints.reached


reached = _load()
