"""How many requests each way to read a run costs: one for a page or a group, never one for each experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import grid
from grid.session import session as sessions
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.waiting import wait_for_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("session")


SCRIPT = """
import argparse
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--code", type=int)
sys.exit(parser.parse_known_args()[0].code)
"""


def cost(look: Callable[[], Any]) -> int:
    """Return how many requests a call sends."""
    with requests(sessions.current()) as sent:
        look()
    return sent[0]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script that ends with the code that it is given."""
    return make_project(tmp_path / "project", SCRIPT)


def queued(script: Path, count: int) -> grid.Run:
    """Return a run of that many experiments that do not start."""
    return grid.create_run(str(script), script_args=f"--trial 'range({count})'", cpus=1)


@pytest.mark.usefixtures("paused")
def test_run_of_500_is_loaded_with_one_request(script: Path) -> None:
    """A run comes with all its experiments if they fit on a page."""
    name = queued(script, 500).name
    loaded: list[grid.Run] = []

    assert cost(lambda: loaded.append(grid.Run(name))) == 1
    assert cost(lambda: [experiment.parameters for experiment in loaded[0]]) == 0
    assert cost(lambda: repr(loaded[0].experiments)) == 1


@pytest.mark.usefixtures("paused")
def test_run_of_many_pages_costs_a_request_for_each(script: Path) -> None:
    """To read all of 1,200 experiments costs three pages; to read their names and states, one request."""
    name = queued(script, 1_200).name
    run = grid.Run(name)

    assert cost(lambda: (list(run.experiments), len(run.experiments), len(run))) == 0
    assert cost(lambda: (f"{name}-exp1199" in run.experiments, f"{name}-exp1200" in run.experiments, name in run)) == 0
    assert cost(run.status) == 1
    assert cost(lambda: repr(run)) == 1
    assert cost(lambda: run.experiments[f"{name}-exp1199"]) == 1
    assert cost(lambda: run.experiments[f"{name}-exp1199"]) == 0
    assert cost(lambda: run.experiments[f"{name}-exp499"]) == 0
    assert cost(lambda: [experiment.parameters for experiment in run.experiments.values()]) == 2
    assert cost(lambda: [experiment.parameters for experiment in run]) == 0
    assert cost(lambda: repr(run.experiments)) == 3
    assert cost(run.experiments[f"{name}-exp7"].status) == 1
    assert repr(run.experiments).count("status=QUEUED") == 1_200


@pytest.mark.usefixtures("paused")
def test_all_of_1000_are_loaded_with_a_request_for_each_page(script: Path) -> None:
    """Loading a run and each of its 1,000 experiments takes two requests."""
    name = queued(script, 1_000).name

    assert cost(lambda: [experiment.parameters for experiment in grid.Run(name)]) == 2


@pytest.mark.usefixtures("paused")
def test_runs_are_listed_with_one_request(script: Path) -> None:
    """The names of all runs come on one page, the runs themselves on another."""
    name = queued(script, 1).name

    assert cost(grid.list_runs) == 1
    assert grid.list_runs()[0] == name
    assert cost(lambda: list(iter(grid.runs))) == 1
    assert cost(lambda: repr(grid.runs)) == 1
    assert cost(lambda: len(grid.runs)) == 1
    assert cost(lambda: [run.status for run in iter(grid.runs.values())]) == 1
    assert cost(lambda: name in grid.runs) == 1
    assert cost(lambda: grid.runs[name]) == 1


def looks(run: grid.Run) -> dict[str, int]:
    """Return what each way to read a run costs."""
    first = run.experiments[f"{run.name}-exp0"]
    return {
        "status()": cost(run.status),
        "repr(run)": cost(lambda: repr(run)),
        "repr(experiments)": cost(lambda: repr(run.experiments)),
        "experiment.status()": cost(first.status),
        "repr(experiment)": cost(lambda: repr(first)),
        "finished_at": cost(lambda: first.finished_at),
    }


@pytest.mark.usefixtures("paused")
def test_cancelled_run_costs_nothing_after_it_was_read(script: Path) -> None:
    """What is cancelled is final: read once, it is never asked for again."""
    run = queued(script, 600)
    run.cancel()
    assert run.status().keys() == {"CANCELLED"}
    assert repr(run.experiments).count("status=CANCELLED") == 600

    assert set(looks(run).values()) == {0}


def test_succeeded_run_costs_nothing_after_it_was_read(script: Path) -> None:
    """What has succeeded is final: a loaded run of it costs nothing at all."""
    started = grid.create_run(str(script), script_args="--code 0", repeats=2, cpus=1)
    wait_for_run(started)

    assert set(looks(grid.Run(started.name)).values()) == {0}


def test_failed_run_costs_one_status_request(script: Path) -> None:
    """A failed experiment can come back: one request asks whether any has, and nothing else is asked for."""
    started = grid.create_run(str(script), script_args="--code '[1, 0]'", cpus=1)
    wait_for_run(started)
    run = grid.Run(started.name)
    assert run.status().keys() == {"SUCCEEDED", "FAILED"}
    second = run.experiments[f"{run.name}-exp1"]

    assert looks(run) == {
        "status()": 1,
        "repr(run)": 1,
        "repr(experiments)": 1,
        "experiment.status()": 1,
        "repr(experiment)": 1,
        "finished_at": 0,
    }
    assert cost(lambda: (second.status(), repr(second))) == 0
