"""Tests of what varies in a run: the parameters that differ between its experiments, in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid import Run
from grid.session.session import Session

Start = Callable[..., Run]


@pytest.mark.parametrize(
    ("arguments", "options", "varying"),
    [
        ("", {}, ()),
        ("--lr 1 --depth 2", {}, ()),
        ("--lr '[1, 2]' --depth 2 --seed 'range(2)' positional", {}, ("lr", "seed")),
        ("'[1, 2]' --b '[1, 2]' --a '[1, 2]'", {}, ("arg0", "b", "a")),
        ("", {"params": [{"a": 1, "b": 2}, {"a": 1, "c": 3}]}, ("b", "c")),
        ("", {"params": {"a": [None, 1], "b": [True, True]}}, ("a",)),
        ("--a 1", {"repeats": 2}, ("repeat",)),
        ("--lr '[3, 3]' --flag --n '[1, 2]'", {}, ("n",)),
        ("--lr '[1, 2]' --lr 5 --n '[1, 2]'", {}, ("n",)),
        ("--lr '[1, 2]' --n '[1, 2]'", {"strategy": "none"}, ()),
        ("--lr '[1, 2]' --n '[1, 2]'", {"strategy": "random_search", "num_trials": 1}, ()),
    ],
)
def test_what_differs(
    session: Session, start: Start, arguments: str, options: dict[str, Any], varying: tuple[str, ...]
) -> None:
    """A parameter varies if at least two experiments have different values of it, however it is written."""
    run = start("", arguments, **options)
    assert run.varying == varying == Run(run.name).varying
    values = [tuple(each.parameters.get(name) for name in varying) for each in run]
    assert all(len(set(column)) > 1 for column in zip(*values, strict=True))


def test_before_the_start(session: Session, tmp_path: Path) -> None:
    """A run that is only described has no experiments that could differ."""
    script = tmp_path / "run.py"
    script.touch()
    assert Run(entrypoint=str(script), script_args="--lr '[1, 2]'").varying == ()


def test_it_stays(session: Session, start: Start) -> None:
    """What varies does not depend on which experiments are left."""
    run = start("", "--lr '[1, 2]' --n 0")
    run.cancel()
    next(iter(run)).delete()
    assert Run(run.name).varying == ("lr",)
