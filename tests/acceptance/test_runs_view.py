"""The view of all runs is a live mapping, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

import grid
from grid.errors import RunNotFound
from tests.support.projects import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from grid.session.session import Session


pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script that ends at once."""
    return make_project(tmp_path / "project", "")


@pytest.fixture
def run(script: Path, session: Session) -> Iterator[grid.Run]:
    """A run of twelve experiments that do not start."""
    grid.pause_cluster("local")
    started = grid.create_run(str(script), script_args="--trial 'range(12)'")
    yield started
    started.cancel()
    grid.resume_cluster("local")


def test_runs_are_a_mapping_newest_first(run: grid.Run, script: Path) -> None:
    """Names come newest first, and values and items belong to them."""
    newer = grid.create_run(str(script), description="the newer one")
    newer.cancel()

    assert isinstance(grid.runs, Mapping)
    assert list(grid.runs)[:2] == [newer.name, run.name]
    assert list(grid.runs) == grid.list_runs()
    assert len(grid.runs) == len(grid.list_runs())
    assert [value.name for value in grid.runs.values()] == grid.list_runs()
    assert [(name, value.name) for name, value in grid.runs.items()] == [(name, name) for name in grid.list_runs()]
    assert next(iter(grid.runs.values())).description == "the newer one"
    assert run.name in grid.runs
    assert "no-such-run" not in grid.runs
    assert 3 not in grid.runs
    assert grid.runs[run.name].id == run.id
    assert grid.runs.get("no-such-run") is None
    shown = repr(grid.runs)
    assert shown.startswith(f"{{\n    '{newer.name}': Run(\n        name={newer.name},\n")
    assert f"\n    '{run.name}': Run(\n        name={run.name},\n" in shown


def test_values_of_all_runs_have_their_experiments(run: grid.Run) -> None:
    """A run that came from the view of all runs fetches its experiments when they are first read."""
    held = next(value for value in grid.runs.values() if value.name == run.name)

    assert len(held) == 12
    assert held.experiments[f"{run.name}-exp11"].parameters["trial"] == "11"
    assert held.status() == {"QUEUED": list(run.experiments)}


def test_unknown_run_is_a_key_error_that_names_close_ones(run: grid.Run) -> None:
    """A slip in a run's name is answered with the name that may have been meant, wherever runs are looked up."""
    slip = run.name + "0"
    for look in (lambda: grid.runs[slip], lambda: grid.Run(slip), lambda: grid.get_run(slip)):
        with pytest.raises(KeyError) as caught:
            look()
        assert isinstance(caught.value, RunNotFound)
        assert repr(slip) in str(caught.value)
        assert run.name in str(caught.value).partition("did you mean")[2]
