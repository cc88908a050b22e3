"""The calls of the walk-through with 1,000,000 experiments in the store, each beside the same call with 10,000."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grid
from benchmarks.report import beside, line, milliseconds, timed
from benchmarks.restart import again
from grid.session import session as sessions
from grid.session.session import Session
from tests.support.experiments import RECOUNT, database_of
from tests.support.projects import make_project
from tests.support.services import ServiceProcess, service_process

# Copies of a run that the service has written itself, each experiment with all that it leaves. Of ten, one has failed.
_FILL = """
CREATE TEMP TABLE numbers AS
    WITH RECURSIVE counted(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n + 1 < {most})
    SELECT n FROM counted;
INSERT INTO runs (id, name, key, experiment_count, user_id, cluster, snapshot, project, commit_sha, script,
        script_command, interpreter, settings, warnings, created_at)
    SELECT lower(hex(randomblob(16))), 'filling-' || n, lower(hex(randomblob(16))), {experiments}, user_id, cluster,
        snapshot, project, commit_sha, script, script_command, interpreter, settings, warnings, created_at
    FROM runs, numbers WHERE runs.seq = 1 AND n < {runs} ORDER BY n;
INSERT INTO experiments (id, run_seq, "index", status, reason, exit_code, attempt, arguments, parameters, cpus, gpus,
        created_at, started_at, finished_at)
    SELECT lower(hex(randomblob(16))), runs.seq, n, iif(n % 10 = 1, 'FAILED', 'SUCCEEDED'), 'EXIT_CODE', n % 10 = 1, 1,
        arguments, parameters, cpus, gpus, first.created_at, first.created_at, first.created_at
    FROM runs, numbers, (SELECT * FROM experiments WHERE seq = 1) AS first
    WHERE runs.seq > 1 AND n < {experiments} ORDER BY runs.seq, n;
INSERT INTO events (run_seq, number, experiment_seq, "index", attempt, status, is_queued_again, at)
    SELECT run_seq, 3 * "index" + place, seq, "index", 1, word, 0, created_at
    FROM experiments, (SELECT 1 AS place, 'PENDING' AS word UNION ALL SELECT 2, 'RUNNING') WHERE run_seq > 1;
INSERT INTO events (run_seq, number, experiment_seq, "index", attempt, status, reason, is_queued_again, at)
    SELECT run_seq, 3 * "index" + 3, seq, "index", 1, status, reason, 0, created_at FROM experiments WHERE run_seq > 1;
INSERT INTO revisions (run_seq, number) SELECT seq, 3 * experiment_count FROM runs WHERE seq > 1;
INSERT INTO attempts (experiment_seq, number, status, reason, exit_code, last_lines, started_at, finished_at)
    SELECT seq, 1, status, reason, exit_code, '', started_at, finished_at FROM experiments WHERE run_seq > 1;
INSERT INTO status_counts (run_seq, status, number)
    SELECT runs.seq, status, 0 FROM runs, (SELECT status FROM status_counts WHERE run_seq = 1) WHERE runs.seq > 1;
"""


@dataclass
class _Store:
    """A service with a filled store, and what the calls have started there."""

    service: ServiceProcess
    session: Session
    started: list[grid.Run] = field(default_factory=list)

    @property
    def run(self) -> grid.Run:
        return self.started[-1]


def grown(folder: Path, runs: int = 100, experiments: int = 10_000, share: int = 100, pairs: int = 15) -> None:
    """Measure each call with that many runs of that many experiments in the store, beside as many runs of fewer."""
    with ExitStack() as stack:
        large, small = (
            stack.enter_context(_filled(folder / name, runs, size))
            for name, size in (("large", experiments), ("small", experiments // share))
        )
        calls = {what: (call, pairs) for what, call in _calls(make_project(folder / "project", "print()")).items()}
        calls["again after a crash"] = (lambda store: again(store.service)), min(pairs, 5)
        for what, (call, times) in calls.items():
            ours, theirs = (timed(lambda call=call, store=store: _by(store, call)) for store in (large, small))
            ours()
            theirs()
            measured = beside(ours, theirs, times)
            line(
                f"{what}, {runs * experiments:,} stored",
                milliseconds(measured.our_median),
                f"{runs * experiments // share:,} stored {milliseconds(measured.their_median)}",
                measured,
                "2 x",
            )


def _by(store: _Store, call: Callable[[_Store], object]) -> None:
    sessions.use(store.session)
    call(store)


def _calls(script: Path) -> dict[str, Callable[[_Store], object]]:
    """Return what the walk-through does, and what else is done with a run, by how it is written."""

    def defined() -> grid.Run:
        return grid.Run(entrypoint=str(script), script_args="--n '[0, 1]'", cpus=1)

    def start(store: _Store) -> None:
        store.started.append(defined())
        store.run.start()

    def login(store: _Store) -> None:
        endpoint = store.service.endpoint
        grid.login(user_id=endpoint.user_id, api_key=endpoint.api_key, url=endpoint.url)

    return {
        "login()": login,
        "r.estimated_hourly_cost": lambda _: defined().estimated_hourly_cost,
        "r.start()": start,
        "repr(r)": lambda store: repr(store.run),
        "r.status()": lambda store: store.run.status(),
        "repr(r.experiments)": lambda store: repr(store.run.experiments),
        "list_runs()": lambda _: grid.list_runs(),
        "Run(name)": lambda store: grid.Run(store.run.name),
        "repr(grid.runs)": lambda _: repr(grid.runs),
        "get_experiment_by_name()": lambda store: grid.get_experiment_by_name(f"{store.run.name}-exp0"),
        "r.experiments[name].cancel()": lambda store: next(iter(store.run)).cancel(),
        "r.cancel()": lambda store: store.run.cancel(),
        "r.failures()": lambda store: store.run.failures(),
    }


@contextmanager
def _filled(folder: Path, runs: int, experiments: int) -> Iterator[_Store]:
    """Yield a service whose cluster is paused and whose store is filled."""
    script = make_project(folder / "project", "print()")
    with service_process(folder, "--cpus", "1") as service:
        sessions.use(service.session())
        grid.pause_cluster("local")
        grid.Run(entrypoint=str(script), script_args="--n 0", cpus=1).start()
        service.stop()
        with database_of(service) as connection:
            # As fast as possible: nobody else uses it, and if it is lost it is made again.
            for pragma in ("journal_mode=MEMORY", "synchronous=OFF", "cache_size=-200000"):
                connection.execute(f"PRAGMA {pragma}")
            fill = _FILL.format(runs=runs, experiments=experiments, most=max(runs, experiments))
            connection.executescript(f"BEGIN; {fill} {RECOUNT}; COMMIT;")
        service.start()
        yield _Store(service, service.session())
