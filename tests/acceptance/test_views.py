"""The two views are mappings, live ones: of a run's experiments, and of all runs."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING

import pytest

import grid
from grid.errors import ExperimentNotFound, RunNotFound
from tests.support import make_project, wait_for_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from grid.session import Session

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


def test_experiments_are_a_mapping_in_index_order(run: grid.Run) -> None:
    """Keys, values and items are those of a mapping, and exp10 comes after exp9."""
    names = [f"{run.name}-exp{index}" for index in range(12)]

    assert isinstance(run.experiments, Mapping)
    assert list(run.experiments) == names
    assert list(reversed(list(run.experiments.keys()))) == names[::-1]
    assert [experiment.name for experiment in run.experiments.values()] == names
    assert [(key, experiment.name) for key, experiment in run.experiments.items()] == list(
        zip(names, names, strict=True)
    )
    assert [experiment.parameters["trial"] for experiment in run] == [str(index) for index in range(12)]
    assert isinstance(run.experiments.keys(), KeysView)
    assert isinstance(run.experiments.values(), ValuesView)
    assert isinstance(run.experiments.items(), ItemsView)


def test_experiments_can_be_asked_for(run: grid.Run) -> None:
    """Length, membership and `get` are those of the run and of the view alike."""
    name = f"{run.name}-exp11"

    assert len(run.experiments) == len(run) == 12
    assert name in run.experiments
    assert name in run
    for stranger in (
        f"{run.name}-exp12",
        f"{run.name}-exp011",
        f"{run.name}-exp-1",
        f"{run.name}-exp",
        "exp0",
        "",
        3,
        None,
    ):
        assert stranger not in run.experiments
        assert stranger not in run
        assert run.experiments.get(stranger) is None  # type: ignore[call-overload]
    assert run.experiments.get(name) is run.experiments[name]
    assert bool(run)


def test_unknown_experiment_is_a_key_error_that_names_close_ones(run: grid.Run) -> None:
    """A slip in a name is answered with the names it may have been meant to be."""
    with pytest.raises(KeyError) as caught:
        run.experiments[f"{run.name}-ex1"]

    assert isinstance(caught.value, ExperimentNotFound)
    assert f"{run.name}-ex1" in str(caught.value)
    assert f"{run.name}-exp1" in str(caught.value).partition("near it:")[2]
    with pytest.raises(ExperimentNotFound, match="no experiment 7"):
        run.experiments[7]  # type: ignore[index]


def test_experiments_equal_what_they_hold(run: grid.Run) -> None:
    """A view equals a dict of the same names and experiments, and nothing with others."""
    assert run.experiments == run.experiments
    assert run.experiments == dict(run.experiments)
    assert run.experiments != {}
    assert run.experiments != dict(list(run.experiments.items())[1:])


def test_experiments_cannot_be_changed(run: grid.Run) -> None:
    """A view is for looking."""
    with pytest.raises(TypeError):
        run.experiments["a"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        del run.experiments[f"{run.name}-exp0"]  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        run.experiments[f"{run.name}-exp0"].parameters["trial"] = "1"  # type: ignore[index]


def test_experiments_are_live(run: grid.Run) -> None:
    """A view that was held before the run went on shows how it is now."""
    experiments = run.experiments
    first = experiments[f"{run.name}-exp0"]
    assert repr(experiments).count("status=QUEUED") == 12

    first.cancel()

    assert first.status() == "CANCELLED"
    assert repr(experiments).count("status=CANCELLED") == 1
    assert experiments[first.name] is first
    grid.resume_cluster("local")
    wait_for_run(run)
    assert repr(experiments).count("status=SUCCEEDED") == 11
    assert grid.get_experiment_by_id(first.id).name == grid.get_experiment_by_name(first.name).name == first.name


def test_experiments_of_a_run_that_is_not_started(script: Path) -> None:
    """Before the start there are none."""
    run = grid.Run(entrypoint=str(script), script_args="--trial '[1, 2]'")

    assert dict(run.experiments) == {}
    assert repr(run.experiments) == "{}"
    assert (len(run), list(run), run.status()) == (0, [], {})
    assert bool(run)


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
    """A run that came from the view of all runs fetches its experiments when they are looked at."""
    held = next(value for value in grid.runs.values() if value.name == run.name)

    assert len(held) == 12
    assert held.experiments[f"{run.name}-exp11"].parameters["trial"] == "11"
    assert held.status() == {"QUEUED": list(run.experiments)}


def test_unknown_run_is_a_key_error_that_names_close_ones(run: grid.Run) -> None:
    """A slip in a run's name is answered with the name it may have been meant to be, wherever runs are looked up."""
    slip = run.name + "0"
    for look in (lambda: grid.runs[slip], lambda: grid.Run(slip), lambda: grid.get_run(slip)):
        with pytest.raises(KeyError) as caught:
            look()
        assert isinstance(caught.value, RunNotFound)
        assert repr(slip) in str(caught.value)
        assert run.name in str(caught.value).partition("near it:")[2]
