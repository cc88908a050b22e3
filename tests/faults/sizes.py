"""How long the fault tests are: short within `make test`, long within `make soak`; and the seed of their randomness."""

from __future__ import annotations

import os

# Read when the tests are collected: while one runs, the developer's own environment is hidden.
_IS_LONG = os.environ.get("GRID_SOAK") == "1"
_SEED = int(os.environ.get("GRID_SEED", "20261122"))
_FIGURES = os.environ.get("GRID_FIGURES")


def size(short: int, long: int) -> int:
    """Return how many rounds to play: `GRID_SOAK=1` asks for the long version."""
    return long if _IS_LONG else short


def seed() -> int:
    """Return the seed of everything random: `GRID_SEED` repeats what a seed has found before."""
    return _SEED


def figure(text: str) -> None:
    """Keep a figure that a test has measured: `make soak` prints them all at its end."""
    print(text)
    if _FIGURES:
        with open(_FIGURES, "a", encoding="utf-8") as file:
            file.write(text + "\n")
