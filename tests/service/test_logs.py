"""Logs as the API tells them: pages of an experiment's, a run's as they are printed, attempt by attempt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from grid import Run
from grid.shared.wire import experiment_name
from tests.support.experiments import only
from tests.support.logs import Told, following, page_of, text_of
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

Start = Callable[..., Run]

STEPS = """\
import os, sys, time
for step in range(3):
    print("step", step, sys.argv[2:], flush=True)
    while not os.path.exists(f"{sys.argv[1]}{step}"): time.sleep(0.01)
print("unfinished", end="")
"""


def test_log_of_an_ended_experiment(service: ServiceProcess, start: Start) -> None:
    """All of it, with when it was printed; an unfinished line is a line once the attempt has ended."""
    run = start("print('one'); print('two'); print('three', end='')")
    wait_for_run(run)
    page = page_of(service.endpoint, only(run).id)
    assert page["text"] == "one\ntwo\nthree\n"
    assert (page["number"], page["count"], page["isEnd"], page["attempt"]) == (1, 3, True, 1)
    assert page["name"] == experiment_name(run.name, 0)
    assert [time["isApproximate"] for time in page["times"]] == [False]


def test_following(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """Each line comes when it is printed, and the end comes after the last of them."""
    run = start(STEPS, str(tmp_path / "go"))
    with following(service.endpoint, run.id) as pages:
        told = Told()
        for step in range(3):
            page = next(pages)
            told.hear(page)
            assert page["text"] == f"step {step} []\n"
            assert not page["isEnd"]
            (tmp_path / f"go{step}").touch()
        last = next(pages)
        told.hear(last)
        assert (last["text"], last["isEnd"]) == ("unfinished\n", True)
        assert not list(pages)
    assert text_of(service.endpoint, only(run).id) == told.texts[only(run).id, 1]
