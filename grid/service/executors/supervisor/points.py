"""The named points of these processes at which a test lets somebody die; nothing where none is asked for.

``failpoints.py`` of the service says what they do. It is loaded by its path, for to the spawner Grid is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def _load() -> Callable[[str], None]:
    if "GRID_FAILPOINTS" not in os.environ:
        return lambda _: None
    import runpy  # noqa: PLC0415 - nobody else needs it

    service = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    function: Callable[[str], None] = runpy.run_path(f"{service}/system/failpoints.py")["reached"]
    return function


reached = _load()
