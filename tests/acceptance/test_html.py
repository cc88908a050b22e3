"""What a notebook shows of runs, experiments and views: static HTML, what varies first, and never an exception."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import grid
from grid import Run
from grid.chain.endpoint import RetryPolicy
from grid.session import session as sessions
from tests.support.embedded import stop
from tests.support.experiments import grow_run
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

pytestmark = pytest.mark.usefixtures("session")

Start = Callable[..., Run]


class Page(HTMLParser):
    """HTML, read: what is shown at once, and what is shown after a click; it must be closed wherever it is opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.rows: list[list[str]] = []
        self.at_once = self.behind = ""
        self.feed(text)
        self.close()
        assert self.open == []
        assert self.names <= {"div", "b", "i", "ul", "li", "code", "details", "summary"} | {
            "table", "thead", "tbody", "tr", "th", "td",
        }, self.names  # fmt: skip

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, which may have no other attributes than these."""
        assert {name for name, _ in attrs} <= {"style", "class"}
        self.open.append(tag)
        self.names.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Note the end of what was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text, by where it is seen."""
        if "details" in self.open and "summary" not in self.open:
            self.behind += f"{data}\n"
        else:
            self.at_once += f"{data}\n"
        if "th" in self.open or "td" in self.open:
            self.rows[-1][-1] += data


def page_of(shown: Any) -> Page:
    """What a notebook shows of an object."""
    return Page(shown._repr_html_())


def ended(start: Start, *kinds: str, **options: Any) -> Run:
    """A run that has ended."""
    run = start(*kinds, **options)
    wait_for_run(run)
    return run


def test_run(start: Start) -> None:
    """Its experiments by what varies, with their statuses; constants and the rest behind a click."""
    run = ended(start, "fine", "quiet")
    page = page_of(run)
    assert page.rows[:3] == [
        ["", "status", "kind"],
        [f"{run.name}-exp0", "SUCCEEDED", "fine"],
        [f"{run.name}-exp1", "FAILED", "quiet"],
    ]
    assert f"Run {run.name}: \n2 experiments: 1 SUCCEEDED, 1 FAILED" in page.at_once
    assert "run.py" not in page.at_once
    assert ["Script", "run.py"] in page.rows
    assert ["user", run.user] in page.rows
    assert ["created_at", str(run.created_at)] in page.rows
    assert run.script_command in page.behind


def test_run_before_its_start(tmp_path: Path) -> None:
    """It says what was given, and how to see what it would be; nothing is asked."""
    script = make_project(tmp_path / "project", "print(1)")
    run = Run(entrypoint=str(script), script_args="--a '<b>'")
    with requests(sessions.current()) as sent:
        page = page_of(run)
    assert sent == [0]
    assert "not started: preview()" in page.at_once
    assert ["script_args", "--a '<b>'"] in page.rows


def test_experiment(start: Start) -> None:
    """What varies first, and its command behind a click; one that was got by its name shows all of its parameters."""
    run = ended(start, "fine", "quiet")
    experiment = run.experiments[f"{run.name}-exp1"]
    page = page_of(experiment)
    assert f"Experiment {experiment.name}: \nFAILED" in page.at_once
    assert page.rows[0] == ["kind", "quiet"]
    assert experiment.invocation_commands in page.behind
    assert page_of(grid.get_experiment_by_name(experiment.name)).rows[0] == ["kind", "quiet"]


def test_what_does_not_vary(start: Start, paused: None) -> None:
    """It is behind a click, unless nothing is known of what varies."""
    run = start("fine", "quiet", params={"depth": 5})
    for shown in (run, run.experiments, next(iter(run))):
        page = page_of(shown)
        assert "kind" in page.at_once
        assert "depth" not in page.at_once
        assert ["depth", "5"] in page.rows
    assert "kind" not in page_of(run.experiments).behind
    assert "depth" in page_of(grid.get_experiment_by_name(f"{run.name}-exp0")).at_once


def test_view_of_experiments(start: Start) -> None:
    """It is the table of the run."""
    run = ended(start, "fine", "quiet")
    assert page_of(run.experiments).rows[:3] == page_of(run).rows[:3]
    assert "2 experiments: " in page_of(run.experiments).at_once


def test_runs_and_artifacts(start: Start) -> None:
    """Each has a table of its own."""
    run = ended(start, "fine", text="open('out.txt', 'w').write('x' * 2000)", description="the <first>")
    first = page_of(grid.runs).rows
    assert first[0] == ["", "experiments", "status", "varying", "description", "created_at"]
    assert first[1] == [run.name, "1", "1 SUCCEEDED", "", "the <first>", str(run.created_at)]
    (experiment,) = run
    files = page_of(experiment.artifacts).rows
    assert files[0] == ["", "size", "modified_at", "sha256"]
    assert files[1][:2] == ["out.txt", "2,000"]


def test_what_is_shown_is_fresh(start: Start, paused: None) -> None:
    """The try to refresh finds what has changed since, as for the text."""
    run = start("fine", "quiet")
    held = Run(run.name)
    assert [row[1] for row in page_of(held).rows[1:3]] == ["QUEUED", "QUEUED"]
    run.cancel()
    for shown in (held, Run(run.name), held.experiments):
        assert [row[1] for row in page_of(shown).rows[1:3]] == ["CANCELLED", "CANCELLED"]


def test_a_run_that_was_listed(start: Start) -> None:
    """A page of its experiments is read, and its statuses are asked for unless they can no longer change."""
    run = ended(start, "fine", "quiet")
    listed = next(iter(grid.runs.values()))
    assert listed.name == run.name
    with requests(sessions.current()) as sent:
        page = page_of(listed)
    assert sent == [2]
    assert [row[1] for row in page.rows[1:3]] == ["SUCCEEDED", "FAILED"]
    done = ended(start, "fine")
    page_of(done)
    with requests(sessions.current()) as sent:
        page_of(done)
    assert sent == [0]


def test_everything_is_escaped(start: Start, paused: None) -> None:
    """Nothing that a user or a script has written becomes an element."""
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(1)>"
    run = start(evil, "b", description=evil[:100])
    (first, _) = run
    for shown in (run, first, run.experiments, grid.runs):
        text = shown._repr_html_()
        Page(text)
        assert "<script" not in text
        assert "<img" not in text
    assert evil in page_of(run).at_once


def test_large_run(start: Start, service: ServiceProcess) -> None:
    """Of many experiments the first are shown, and how many more there are."""
    run = grow_run(service, ended(start, "fine"), 3_000)
    page = page_of(run)
    assert len([row for row in page.rows if row[0].startswith(run.name)]) == 100
    assert "… and 2,900 more" in page.at_once
    assert "3,000 experiments: 3,000 SUCCEEDED" in page.at_once


def test_deleted_run(start: Start) -> None:
    """It is shown as it was last seen, with a word about that."""
    run = ended(start, "fine")
    (experiment,) = run
    rows = page_of(run).rows
    run.delete()
    page = page_of(run)
    assert page.rows == rows
    assert re.search(r"as it was last seen: .*no longer exists", page.at_once)
    assert page_of(experiment).rows


def test_service_that_has_gone(grid_home: Path, tmp_path: Path) -> None:
    """The last known state is shown, no service is started, and nothing is raised."""
    grid.login()
    run = grid.create_run(str(make_project(tmp_path / "project", "raise SystemExit(1)")))
    assert wait_for_run(run).keys() == {"FAILED"}
    (experiment,) = run
    before = page_of(run).rows, page_of(run.experiments).rows, page_of(experiment).rows
    stop(grid_home)
    sessions.current().policy = RetryPolicy(tries=1)
    assert (page_of(run).rows, page_of(run.experiments).rows, page_of(experiment).rows) == before
    assert "as it was last seen: " in page_of(run).at_once
    for shown in (grid.runs, experiment.artifacts):
        assert "could not be fetched: " in page_of(shown).at_once
    sessions.use(None)
    assert "not logged in" in page_of(grid.runs).at_once
