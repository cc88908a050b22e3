"""Starting scripts on a service, and what the service keeps of them: its files and database, read past its code."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from grid import Run
from grid.errors import GridWarning
from grid.experiment import Experiment
from grid.service.store import run_rows
from grid.service.store.tables import clusters, runs, snapshots, users
from grid.session import session as sessions
from grid.shared.wire import ExperimentStatus
from tests.support.requests import ask
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_until

FACTS = "query($name: String!) { experimentByName(name: $name) { status reason exitCode signal startedRunningAt } }"

RECOUNT = """
UPDATE status_counts SET number = (
    SELECT count(*) FROM experiments
    WHERE experiments.run_seq = status_counts.run_seq AND experiments.status = status_counts.status
)
"""
"""Counts every run's experiments again: for those whose statuses were written past the service."""


def starter(folder: Path) -> Callable[..., Run]:
    """Return a function that starts runs of scripts, each in a folder of its own below this one."""
    numbers = iter(range(1_000_000))

    def start(
        text: str,
        arguments: str = "",
        *,
        script: str = "run.py",
        files: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Run:
        project = folder / f"project-{next(numbers)}"
        project.mkdir()
        for name, content in files.items():
            (project / name).write_text(content)
        (project / script).write_text(text)
        run = Run(entrypoint=str(project / script), script_args=arguments, localdir=True, **{"cpus": 1, **options})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GridWarning)
            run.start()
        return run

    return start


def restart(service: ServiceProcess, run: Run, *options: str) -> Run:
    """Start a service again and log in to it; return the run as it is there."""
    service.start(*options)
    sessions.use(service.session())
    return Run(run.name)


def wait_until_ready(service: ServiceProcess, *experiments: Experiment) -> None:
    """Wait until the scripts of these experiments have printed that they are ready."""
    for each in experiments:
        wait_until(lambda each=each: "ready" in output_of(service, each), "a script")


def only(run: Run) -> Experiment:
    """The only experiment of a run."""
    (experiment,) = run
    return experiment


def folder_of(service: ServiceProcess, experiment: Experiment, attempt: int = 1) -> Path:
    """The folder of an experiment's attempt."""
    return service.home / "experiments" / experiment.id / f"attempt-{attempt}"


def record_of(service: ServiceProcess, experiment: Experiment, attempt: int = 1) -> Path:
    """The folder of the evidence about an experiment's attempt, until its end is recorded."""
    return service.home / "records" / f"{experiment.id}-{attempt}"


def work_of(service: ServiceProcess, experiment: Experiment, attempt: int = 1) -> Path:
    """The working copy of an experiment's attempt."""
    return folder_of(service, experiment, attempt) / "room" / "work"


def output_of(service: ServiceProcess, experiment: Experiment, attempt: int = 1) -> str:
    """What an attempt of an experiment has written so far."""
    file = folder_of(service, experiment, attempt) / "output"
    return file.read_text() if file.exists() else ""


def facts_of(service: ServiceProcess, experiment: Experiment) -> dict[str, Any]:
    """What the service says of an experiment's end, beyond what the client shows."""
    return ask(service.endpoint, FACTS, name=experiment.name)["data"]["experimentByName"]


def events_of(service: ServiceProcess, experiment: Experiment) -> list[str]:
    """The statuses that an experiment has gone through, according to the events."""
    with database_of(service) as connection:
        query = (
            "SELECT events.status FROM events JOIN experiments ON experiments.seq = events.experiment_seq "
            "WHERE experiments.id = ? ORDER BY events.seq"
        )
        return [status for (status,) in connection.execute(query, [experiment.id])]


def lose(service: ServiceProcess, experiment: Experiment, attempt: int) -> None:
    """Kill the supervisor of an attempt, once its script has started."""
    record = record_of(service, experiment, attempt)
    wait_until(lambda: os.path.lexists(record / "started"), "the script")
    os.kill(int(os.readlink(record / "claim").split()[0]), signal.SIGKILL)


@contextmanager
def database_of(service: ServiceProcess) -> Iterator[sqlite3.Connection]:
    """Yield the database of a service, past the service."""
    connection = sqlite3.connect(service.home / "grid.sqlite3", timeout=30)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def grow_run(service: ServiceProcess, run: Run, count: int) -> Run:
    """Give an ended run this many experiments, copies of its first, past the service; return it reloaded."""
    with database_of(service) as connection:
        (run_seq,) = connection.execute("SELECT seq FROM runs WHERE id = ?", [run.id]).fetchone()
        first = connection.execute('SELECT * FROM experiments WHERE run_seq = ? AND "index" = 0', [run_seq])
        columns = [column for column, *_ in first.description]
        row = dict(zip(columns, first.fetchone(), strict=True))
        places = ", ".join("?" * len(columns))
        copies = [
            tuple({**row, "seq": None, "id": f"{row['id']}-{index}", "index": index}.values())
            for index in range(len(run), count)
        ]
        connection.executemany(f"INSERT INTO experiments VALUES ({places})", copies)  # noqa: S608
        connection.execute("UPDATE runs SET experiment_count = ? WHERE seq = ?", [count, run_seq])
        connection.execute(RECOUNT)
    return Run(run.name)


def pids_in(text: str) -> dict[str, int]:
    """Read the processes that a script has printed: a JSON object a line, from names to pids."""
    pids: dict[str, int] = {}
    for line in text.splitlines():
        pids |= json.loads(line)
    return pids


def insert_run(connection: Connection, *statuses: ExperimentStatus, **values: Any) -> list[str]:
    """Insert a run with an experiment of each status, past the code that decides about statuses; return their ids."""
    number = connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one()
    for table, row in (
        (users, {"id": "u", "name": "u", "created_at": 0}),
        (clusters, {"name": "local", "paused": False}),
        (snapshots, {"digest": "d", "size_bytes": 1, "created_at": 0}),
    ):
        connection.execute(sa.insert(table).prefix_with("OR IGNORE").values(row))
    run = {column.name: "x" for column in runs.c if not (column.nullable or column.server_default)}
    del run["seq"]
    run |= {"id": f"r{number}", "name": f"r{number}", "key": f"r{number}", "user_id": "u", "cluster": "local"}
    run |= {"snapshot": "d", "settings": "{}", "warnings": "[]", "experiment_count": len(statuses), "created_at": 0}
    experiment = {"attempt": 1, "arguments": "[]", "parameters": "{}", "cpus": 1, "gpus": 0, "created_at": 0, **values}
    rows = [
        {"id": f"r{number}e{index}", "index": index, "status": status.value, **experiment}
        for index, status in enumerate(statuses)
    ]
    run_rows.insert(connection, run, rows)
    return [row["id"] for row in rows]
