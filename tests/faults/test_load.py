"""Many clients at once, while the machine is busy with experiments: all are answered, and what they see is true."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import grid
from grid.session import session as sessions
from tests.faults.sizes import figure, size
from tests.support.environments import clean_environment
from tests.support.experiments import database_of
from tests.support.services import service_process

PROCESSES = 5

# Each thread is a client with a session and connections of its own: it loads the run as `Run(name)` does, lists the
# runs, and polls the status and an experiment of its own choice twice a second, as the examples do, until all has
# ended. In the end it prints what it has seen.
CLIENTS = """
import json, sys, threading, time
from grid import errors, models
from grid.chain.endpoint import Endpoint
from grid.experiment import Experiment
from grid.session.session import Session

url, user_id, api_key, name, first, count = sys.argv[1:]
ORDER = ["QUEUED", "PENDING", "RUNNING", "SUCCEEDED"]
seconds, faults, finals, lock = [], [], [], threading.Lock()

class Client:
    def __init__(self, number):
        self.number = number
        self.seen = {}
        self.mine = []
        self.session = Session(Endpoint(url, user_id, api_key), is_embedded=False)

    def ask(self, model, **variables):
        begun = time.perf_counter()
        answer = self.session.execute(model, **variables)
        self.mine.append(time.perf_counter() - begun)
        return answer

    def see(self, experiment, status):
        before = self.seen.get(experiment, "QUEUED")
        if ORDER.index(status) < ORDER.index(before):
            raise AssertionError(f"{experiment} went from {before} to {status}")
        self.seen[experiment] = status

    def work(self):
        revision = -1
        while True:
            run = self.ask(models.GetRun, name=name, owner=None, first=500).run
            for record in run.experiments.nodes:
                self.see(record.name, record.status.value)
            if name not in [node.name for node in self.ask(models.RunNames, first=1000, after=None).runs.nodes]:
                raise AssertionError("the run is not listed")
            for _ in range(5):
                status = self.ask(models.GetRunStatus, name=name, owner=None).run.status
                if status.revision < revision:
                    raise AssertionError(f"revision {status.revision} came after {revision}")
                revision = status.revision
                for group in status.groups:
                    for experiment in group.names:
                        self.see(experiment, group.status.value)
                if len(self.seen) != len(run.experiments.nodes):
                    raise AssertionError(f"{len(self.seen)} experiments were seen")
                time.sleep(0.5)
            record = run.experiments.nodes[self.number % len(run.experiments.nodes)]
            self.see(record.name, self.ask(models.GetExperiment, id=record.id).experiment.status.value)
            if set(self.seen.values()) == {"SUCCEEDED"}:
                return

def serve(number):
    try:
        client = Client(number)
        client.ask(models.Clusters)
        logged_in.wait(120)
        client.work()
    except Exception as error:
        with lock:
            faults.append(f"{type(error).__name__}: {error}")
    else:
        with lock:
            seconds.extend(client.mine)
            finals.append(client.seen)

logged_in = threading.Barrier(int(count) + 1)
threads = [threading.Thread(target=serve, args=(int(first) + number,)) for number in range(int(count))]
for thread in threads:
    thread.start()
logged_in.wait(120)
print("logged in", flush=True)
for thread in threads:
    thread.join()
print(json.dumps({"seconds": seconds, "faults": faults, "finals": finals}))
"""


@pytest.mark.timeout(600)
def test_many_clients_look_on(tmp_path: Path) -> None:
    """Every request of every client is answered, no status goes back, and in the end all see what the database says."""
    clients, experiments = size(10, 50), size(16, 200)
    each, rest = divmod(clients, PROCESSES)
    assert not rest
    entrypoint = tmp_path / "train.py"
    entrypoint.write_text("import time; time.sleep(0.2)")
    with service_process(tmp_path, "--cpus", "2") as service, ExitStack() as stack:
        sessions.use(service.session())
        grid.pause_cluster("local")
        run = grid.create_run(str(entrypoint), script_args=f"--x 'range({experiments})'", localdir=True, cpus=1)
        endpoint = service.endpoint
        where = [endpoint.url, endpoint.user_id, endpoint.api_key, run.name]
        begun = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLIENTS, *where, str(number * each), str(each)],
                    env=clean_environment(tmp_path),
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(PROCESSES)
        ]
        for process in begun:
            assert process.stdout is not None
            assert process.stdout.readline() == "logged in\n"
        grid.resume_cluster("local")
        told: list[dict[str, Any]] = [json.loads(process.communicate(timeout=500)[0]) for process in begun]
        with database_of(service) as connection:
            statuses = dict(
                connection.execute(
                    "SELECT runs.name || '-exp' || experiments.\"index\", experiments.status "
                    "FROM experiments JOIN runs ON runs.seq = experiments.run_seq"
                )
            )

    assert [fault for one in told for fault in one["faults"]] == []
    finals = [final for one in told for final in one["finals"]]
    assert finals == [statuses] * clients
    assert min(len(one["seconds"]) for one in told) > 5 * each  # they were watching, and did not only see the end
    assert statuses == {f"{run.name}-exp{index}": "SUCCEEDED" for index in range(experiments)}
    seconds = sorted(second for one in told for second in one["seconds"])
    figure(
        f"{clients} clients, {experiments} experiments on 2 CPUs, {len(seconds)} requests: "
        f"p50 {_at(seconds, 0.5):.0f} ms, p99 {_at(seconds, 0.99):.0f} ms, longest {seconds[-1] * 1000:.0f} ms"
    )


def _at(seconds: list[float], share: float) -> float:
    return seconds[min(int(len(seconds) * share), len(seconds) - 1)] * 1000
