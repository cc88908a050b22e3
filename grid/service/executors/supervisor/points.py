"""The failpoints of these processes: named points at which a test makes a process die; otherwise they do nothing."""

from __future__ import annotations

import os
from collections.abc import Callable


def _load() -> Callable[[str], None]:
    if "GRID_FAILPOINTS" not in os.environ:
        return lambda _: None
    # Imported only for tests: it is larger than everything else that is imported here.
    from grid.service.system import failpoints  # noqa: PLC0415

    return failpoints.reached


reached = _load()
