"""The view of a run's experiments is a live mapping, in the order of their indices."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING

import pytest

import grid
from grid.errors import ExperimentNotFound
from grid.session import session as sessions
from tests.support.experiments import grow_run
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

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
    """A slip in a name is answered with the names that may have been meant."""
    with pytest.raises(KeyError) as caught:
        run.experiments[f"{run.name}-ex1"]

    assert isinstance(caught.value, ExperimentNotFound)
    assert f"{run.name}-ex1" in str(caught.value)
    assert f"{run.name}-exp1" in str(caught.value).partition("did you mean")[2]
    with pytest.raises(ExperimentNotFound, match="no experiment 7"):
        run.experiments[7]  # type: ignore[index]


def test_experiments_equal_what_they_hold(run: grid.Run) -> None:
    """A view equals a dict of the same names and experiments, and nothing with others."""
    assert run.experiments == run.experiments
    assert run.experiments == dict(run.experiments)
    assert run.experiments != {}
    assert run.experiments != dict(list(run.experiments.items())[1:])


def test_experiments_cannot_be_changed(run: grid.Run) -> None:
    """A view is read-only."""
    with pytest.raises(TypeError):
        run.experiments["a"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        del run.experiments[f"{run.name}-exp0"]  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        run.experiments[f"{run.name}-exp0"].parameters["trial"] = "1"  # type: ignore[index]


def test_experiments_are_live(run: grid.Run) -> None:
    """A view that was obtained earlier shows how the run is now."""
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


@pytest.fixture
def failed(tmp_path: Path) -> Iterator[grid.Run]:
    """A run of five experiments that have failed."""
    script = make_project(tmp_path / "failing", "raise SystemExit(1)")
    started = grid.create_run(str(script), script_args="--trial 'range(5)'", cpus=1)
    wait_for_run(started)
    yield started
    started.delete()


def test_hole_in_the_experiments(failed: grid.Run) -> None:
    """A deleted experiment is missing everywhere, at once; the others keep their names and what they hold."""
    names = list(failed.experiments)
    left = [name for name in names if name != names[2]]
    gone = failed.experiments[names[2]]

    gone.delete()

    for run in (failed, grid.Run(failed.name)):
        assert list(run.experiments) == left
        assert [each.name for each in run] == left
        assert [each.parameters["trial"] for each in run.experiments.values()] == ["0", "1", "3", "4"]
        assert (len(run), len(run.experiments)) == (4, 4)
        assert names[2] not in run
        assert names[2] not in run.experiments
        assert run.experiments.get(names[2]) is None
        with pytest.raises(ExperimentNotFound, match=names[2]):
            run.experiments[names[2]]
        assert run.experiments[names[3]].parameters["trial"] == "3"
        assert run.status() == {"FAILED": left}
        assert f"'{names[2]}'" not in repr(run.experiments)
        assert repr(run.experiments).count("status=FAILED") == 4
        assert "num_experiments=4,\n    status={'FAILED': 4}," in repr(run)
    with pytest.raises(ExperimentNotFound, match="no longer exists"):
        gone.status()
    assert next(value for value in grid.runs.values() if value.name == failed.name).experiments.keys() == set(left)


def test_hole_that_another_has_made(failed: grid.Run) -> None:
    """A client that holds the run sees what was deleted elsewhere when it next reads the status, or all of the run."""
    by_status, by_repr, other = failed, grid.Run(failed.name), grid.Run(failed.name)
    names = list(failed.experiments)
    for name in (names[0], names[4]):
        other.experiments[name].delete()
    assert len(by_status) == len(by_repr) == 5

    assert by_status.status() == {"FAILED": names[1:4]}
    repr(by_repr.experiments)

    for run in (by_status, by_repr, other):
        assert list(run.experiments) == names[1:4]
        assert len(run) == 3
    grid.get_experiment_by_name(names[2]).delete()
    assert by_status.status() == {"FAILED": [names[1], names[3]]}
    assert other.retry() == [names[1], names[3]]
    wait_for_run(other)


def test_holes_across_pages(service: ServiceProcess, failed: grid.Run) -> None:
    """Holes anywhere in a run of many pages shift no name and cost no request that a run without them would not."""
    held = grow_run(service, failed, 1_600)
    name = f"{failed.name}-exp"
    holes = {0, 3, 499, 500, 501, 999, 1_200, 1_599}
    for hole in holes:
        grid.get_experiment_by_name(f"{name}{hole}").delete()
    left = [f"{name}{index}" for index in range(1_600) if index not in holes]
    assert len(held) == 1_600
    held.status()

    for run in (held, grid.Run(failed.name)):
        assert list(run.experiments) == left
        assert len(run) == 1_592
        assert run.experiments[f"{name}1598"].name == f"{name}1598"
        assert run.experiments[f"{name}502"].name == f"{name}502"
        assert [each.name for each in run] == left
        with requests(sessions.current()) as sent:
            assert repr(run.experiments).count("status=FAILED") == 1_592
            assert [each.name for each in run.experiments.values()] == left
        assert sent == [1]  # whether anything has changed
        for hole in holes:
            assert f"{name}{hole}" not in run.experiments
    # One more, in front of all that was read: the pages shift under it, and nothing is seen twice or missed.
    grid.get_experiment_by_name(f"{name}1").delete()
    assert repr(held.experiments).count("status=FAILED") == 1_591
    assert [each.name for each in held] == [each for each in left if each != f"{name}1"]


def test_experiments_of_a_run_that_is_not_started(script: Path) -> None:
    """Before the start there are no experiments."""
    run = grid.Run(entrypoint=str(script), script_args="--trial '[1, 2]'")

    assert dict(run.experiments) == {}
    assert repr(run.experiments) == "{}"
    assert (len(run), list(run), run.status()) == (0, [], {})
    assert bool(run)
