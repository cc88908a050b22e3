"""Saying what is waited for: nobody should look at a prompt that does nothing and not know why."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS = 3.0


@contextmanager
def told(what: str | Callable[[], str]) -> Iterator[None]:
    """Say on stderr what is waited for, if the `with` block takes more than a few seconds.

    Parameters
    ----------
    what
        Ends the sentence "still waiting for"; or returns what does, as things are then.
    """

    def tell() -> None:
        if sys.stderr is not None:  # a program without a terminal may have none
            sys.stderr.write(f"grid: still waiting for {what if isinstance(what, str) else what()}\n")
            sys.stderr.flush()

    timer = threading.Timer(_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
