"""Expanding script arguments in one line, and the messages for wrong values: for the tests of the sweep grammar."""

from __future__ import annotations

import shlex

import pytest

from grid.service.domain.sweeps import Expansion, SweepError, count, expand


def grid(script_args: str, seed: int = 1) -> Expansion:
    """Expand as a grid search."""
    return expand(script_args, strategy="grid_search", num_trials=0, seed=seed)


def search(script_args: str, num_trials: int, seed: int = 1) -> Expansion:
    """Expand as a random search."""
    return expand(script_args, strategy="random_search", num_trials=num_trials, seed=seed)


def values(text: str, seed: int = 1) -> list[str]:
    """Expand one flag with this value, and return what the script gets."""
    return [trial.arguments[1] for trial in grid(f"--x {shlex.quote(text)}", seed).trials]


def refusal(text: str, flag: str = "--x") -> str:
    """Return the message that refuses this value, by expanding and by counting."""
    script_args = f"{flag} {shlex.quote(text)}"
    with pytest.raises(SweepError) as expanding:
        grid(script_args)
    with pytest.raises(SweepError) as counting:
        count(script_args, strategy="grid_search", num_trials=0, limit=10_000)
    assert str(counting.value) == str(expanding.value)
    assert expanding.value.flag == counting.value.flag == flag
    assert flag in str(expanding.value)
    assert text[:60] in str(expanding.value)
    return str(expanding.value)
