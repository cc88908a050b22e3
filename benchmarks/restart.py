"""Restarting a service that was killed, with 10,000 experiments in its store and some running."""

from __future__ import annotations

import subprocess
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import grid
from benchmarks.report import beside, line, timed
from grid.session import session as sessions
from grid.shared.wire import HEALTH_PATH
from tests.support.experiments import RECOUNT, database_of
from tests.support.projects import make_project
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_until

# Of every ten experiments, nine have ended, and one of these has failed.
_ENDED = """
UPDATE experiments SET status = iif("index" % 10 = 1, 'FAILED', 'SUCCEEDED'), reason = 'EXIT_CODE',
    exit_code = iif("index" % 10 = 1, 1, 0), started_at = created_at, finished_at = created_at
    WHERE status = 'QUEUED' AND "index" % 10 > 0;
INSERT INTO events (run_seq, number, experiment_seq, "index", attempt, status, is_queued_again, at)
    SELECT run_seq, 3 * "index" + place, seq, "index", 1, word, 0, created_at
    FROM experiments, (SELECT 1 AS place, 'PENDING' AS word UNION ALL SELECT 2, 'RUNNING') WHERE exit_code IS NOT NULL;
INSERT INTO events (run_seq, number, experiment_seq, "index", attempt, status, reason, is_queued_again, at)
    SELECT run_seq, 3 * "index" + 3, seq, "index", 1, status, reason, 0, created_at
    FROM experiments WHERE exit_code IS NOT NULL;
UPDATE revisions SET number = coalesce((SELECT max(number) FROM events WHERE events.run_seq = revisions.run_seq), 0);
INSERT INTO attempts (experiment_seq, number, status, reason, exit_code, last_lines, started_at, finished_at)
    SELECT seq, 1, status, reason, exit_code, '', started_at, finished_at FROM experiments WHERE exit_code IS NOT NULL;
"""


def killed(folder: Path, runs: int = 10, experiments: int = 1_000, pairs: int = 9) -> None:
    """Measure the time from the start of the process to an answer, beside an interpreter that imports the server."""
    script = make_project(folder / "project", "import time; time.sleep(1000)\n")
    with service_process(folder, "--cpus", "2", is_fresh=True) as service:
        sessions.use(service.session())
        running = grid.Run(entrypoint=str(script), script_args="--n '[0, 1]'", cpus=1)
        running.start()
        wait_until(lambda: running.status().keys() == {"RUNNING"}, "two experiments that run")
        grid.pause_cluster("local")
        for _ in range(runs):
            ended = grid.Run(entrypoint=str(script), script_args=f"--n 'range({experiments})'", cpus=1)
            ended.start()
        with database_of(service) as connection:
            connection.executescript(_ENDED + RECOUNT)
        bare = [sys.executable, "-c", "import grid.service.command.server"]
        measured = beside(lambda: again(service), timed(lambda: subprocess.run(bare, check=True, cwd=folder)), pairs)
        # The store looks as if the service itself had written it, and running experiments are still running.
        sessions.use(service.session())
        assert grid.Run(ended.name).status().keys() == {"QUEUED", "SUCCEEDED", "FAILED"}
        assert grid.Run(running.name).status().keys() == {"RUNNING"}
        grid.Run(running.name).cancel()
    line(
        f"starting again with {runs * experiments:,} experiments",
        f"{measured.our_median:.2f} s, worst {max(measured.ours):.2f}",
        f"importing the server {measured.their_median:.2f} s",
        measured,
        "1.5 s",
    )


def again(service: ServiceProcess) -> float:
    """Kill a service and start it again; return how many seconds that takes until it answers."""
    service.kill()
    begun = time.perf_counter()
    service.launch()
    service.wait_until_it_answers()
    host, port = service.endpoint.url.removeprefix("http://").split(":")
    asking = HTTPConnection(host, int(port))
    asking.request("GET", HEALTH_PATH)
    assert asking.getresponse().status == HTTPStatus.OK
    asking.close()
    return time.perf_counter() - begun
