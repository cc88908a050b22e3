"""The service is killed at random moments while a run goes on, and started again, over and over."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from grid import Run
from grid.chain.endpoint import RetryPolicy
from grid.experiment import Experiment
from grid.session import session as sessions
from tests.faults.judge import judge
from tests.faults.ledger import VARIED, entries, have_ended, rows
from tests.faults.sizes import figure, seed, size
from tests.support.experiments import starter
from tests.support.followers import Follower
from tests.support.log_projects import messages
from tests.support.services import ServiceProcess, free_port, service_process
from tests.support.waiting import wait_for_run, wait_until

EXPERIMENTS = size(16, 200)
KILLS = size(4, 50)
LONGEST = size(4, 20) / 10
"""The longest duration of an experiment, in seconds."""
CPUS = size(2, 4)
"""As few as are needed for the experiments to last as long as the kills."""


PATIENT = RetryPolicy(first_wait=0.05, max_wait=0.5, tries=1000, deadline=120)
"""Nobody who follows gives up, however often and however long there is no service."""


def label_of(experiment: Experiment) -> str:
    """What stands before the lines of an experiment in the logs of its run."""
    return f"index={experiment.parameters['index']}"


def kill_at_a_moment(service: ServiceProcess, draw: random.Random) -> None:
    """Kill a service that was just launched: while it starts and recovers, or a little later."""
    moment = draw.uniform(0, 1)
    if draw.random() < 0.5:
        service.wait_until_it_answers()
    try:
        service.process.wait(moment)
    except subprocess.TimeoutExpired:
        service.kill()
    else:
        raise AssertionError(f"the service ended by itself:\n{service.log.read_text()}")


@pytest.mark.timeout(size(180, 1800))
@pytest.mark.parametrize("round_number", range(size(1, 20)))
def test_killed_at_random_moments(tmp_path: Path, round_number: int) -> None:
    """Whenever the service dies, each experiment runs once, each record is true, and no line is lost."""
    print(f"seed {seed()}, round {round_number}")
    draw = random.Random(f"{seed()} {round_number}")
    ledger = tmp_path / "ledger"
    begun = time.monotonic()
    # Always at the same place, so that whoever follows finds it again.
    with service_process(tmp_path, "--grace", "1", "--cpus", str(CPUS), "--port", str(free_port())) as service:
        sessions.use(service.session(PATIENT))
        indices = list(range(EXPERIMENTS))
        run = starter(tmp_path)(VARIED, f"{ledger} {draw.random()} {LONGEST} --index '{indices}'")
        followers = {each.id: Follower(each.logs(None, follow=True)) for each in run}
        of_run = Follower(run.logs(None, follow=True))
        early = 0
        for _ in range(KILLS):
            kill_at_a_moment(service, draw)
            early += not have_ended(service.home)
            service.launch()
        service.wait_until_it_answers()
        wait_until(lambda: have_ended(service.home), "the end of every experiment", 120)
        sessions.use(service.session())
        counted = {status: len(names) for status, names in wait_for_run(Run(run.name)).items()}
        logs = {experiment: messages(follower.all()) for experiment, follower in followers.items()}
        experiments = {label_of(each): each.id for each in run}
        logs_of_run: dict[str, list[str]] = {experiment: [] for experiment in logs}
        for line in of_run.all():
            label, _, text = line.partition(" | ")
            logs_of_run[experiments[label.rstrip()]] += messages([text])
        service.stop()
        assert judge(service.home, ledger, logs=logs) == []
        assert logs_of_run == logs
        # It would have seen a line that is missing, and one that is told twice.
        one, lines = next(iter(logs.items()))
        assert judge(service.home, ledger, logs={**logs, one: lines[1:]}) != []
        assert judge(service.home, ledger, logs={**logs, one: [*lines[:1], *lines]}) != []
        assert sum(counted.values()) == EXPERIMENTS
        recorded = [row["status"] for row in rows(service.home, "SELECT status FROM experiments")]
        assert counted == {status: recorded.count(status) for status in set(recorded)}
        # The machine lost nothing: every experiment reached its end, and only once.
        assert len([entry for entry in entries(ledger) if entry.event == "started"]) == EXPERIMENTS
    lines = sum(entry.detail for entry in entries(ledger) if entry.event == "printed")
    figure(
        f"kill loop: {EXPERIMENTS} experiments, {KILLS} kills ({early} before the end), {counted}, {lines} lines, "
        f"{time.monotonic() - begun:.0f} s"
    )
