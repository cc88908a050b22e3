"""What users write, for mypy alone: it is checked as strictly as their own code would be, and never executed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, ItemsView, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import grid
from grid import (
    Experiment,
    GridError,
    GridWarning,
    LogLine,
    LogPrinted,
    Run,
    cancel_experiment,
    cancel_run,
    create_run,
    errors,
    get_build_logs,
    get_experiment_by_id,
    get_experiment_by_name,
    get_experiment_logs,
    get_instance_types,
    get_run,
    list_clusters,
    list_runs,
    login,
    models,
    pause_cluster,
    resume_cluster,
    runs,
    schema_path,
)
from grid.shared.wire import Reason


def walk_through() -> list[str]:
    """Define a run, start it and look at it."""
    login()
    login(user_id="ada", api_key="key", url="https://grid.example.org")
    run = Run(
        entrypoint="train.py",
        script_args="--lr '[0.1, 0.01]'",
        description=None,
        strategy="random_search",
        num_trials=2,
        instance_type="t2.xlarge",
        use_spot=True,
        cpus=3,
        seed=1,
        timeout=3600,
        max_retries=2,
        auto_resume=True,
        params={"hidden": [(64, 64), (8, 8)], "lr": 0.1},
        params_style="--k=v",
        repeats=3,
        working_dir="script",
        environment=["HF_TOKEN"],
        launcher="uv run",
        data={"data": Path("sets"), "../more": "/sets"},
    )
    run.environment = {"MODE": "offline"}
    run.description = "before the start it can be changed"
    run.cpus = 2
    assert_type(run.estimated_hourly_cost, float)
    assert_type(run.preview(n=3), grid.Preview)
    assert_type(run.preview().experiments[0].parameters, dict[str, str])
    run.start()
    assert_type(run.status(), "defaultdict[str, list[str]]")
    assert_type(run.id, "str | None")
    assert_type(run.created_at, "datetime | None")
    assert_type(run.name, str)
    assert_type(run.seed, "int | None")
    assert_type(run.localdir, bool)
    assert_type(run.timeout, "float | None")
    assert_type(run.max_retries, int)
    assert_type(run.auto_resume, bool)
    config: dict[str, Any] = run.grid_config
    print(config["compute"]["train"]["cpus"])
    assert_type(run.script_command, str)
    assert_type(len(run) + len(run.experiments), int)
    if "a-exp0" in run and run:
        assert_type(iter(run), Iterator[Experiment])
    return [experiment.name for experiment in run]


def mappings(run: Run) -> None:
    """Both views are mappings."""
    experiments: Mapping[str, Experiment] = run.experiments
    all_runs: Mapping[str, Run] = runs
    assert_type(run.experiments["a-exp0"], Experiment)
    assert_type(experiments.get("a-exp0"), "Experiment | None")
    assert_type(all_runs["a"].user, str)
    assert_type(runs.items(), ItemsView[str, Run])
    for name, each in runs.items():
        assert_type(name, str)
        assert_type(each, Run)


def experiment_of(name: str) -> Experiment:
    """Look at an experiment, cancel it, and find it again."""
    experiment = get_experiment_by_name(name)
    assert_type(experiment.status(), str)
    assert_type(experiment.created_at, datetime)
    assert_type(experiment.started_running_at, "datetime | None")
    assert_type(experiment.finished_at, "datetime | None")
    assert_type(experiment.parameters, Mapping[str, str])
    assert_type(experiment.invocation_commands + experiment.github_id + experiment.commit_sha + experiment.user, str)
    assert_type(experiment.cancel(), str)
    assert_type(cancel_experiment(name), str)
    return get_experiment_by_id(experiment.id)


def what_failed(run: Run) -> str:
    """Read what has failed, run it again, and delete what is no longer wanted."""
    for group in run.failures():
        assert_type(group, models.FailureGroup)
        assert_type(group.reason, Reason)
        assert_type(group.names, tuple[str, ...])
        assert_type(group.final_line, "str | None")
        assert_type(group.example, models.Failure)
        experiment = run.experiments[group.names[0]]
        assert_type(experiment.attempt, int)
        failure = experiment.failure
        if failure is not None:
            assert_type(failure.last_lines, str)
            assert_type(failure.exit_code, "int | None")
            if failure.reason == "OUT_OF_MEMORY":
                experiment.delete()
    assert_type(run.retry(), "list[str]")
    try:
        run.delete()
    except errors.NotEnded as error:
        return str(error)
    return f"{run.name} is gone"


def logs_of(run: Run, experiment: Experiment) -> Iterator[LogLine]:
    """Read what was printed, from several places."""
    assert_type(experiment.logs(), Iterator[str])
    assert_type(experiment.logs(None, follow=True, attempt=1), Iterator[str])
    assert_type(run.logs(20, since=timedelta(minutes=5)), Iterator[str])
    assert_type(run.build_logs(n_lines=3), Iterator[str])
    assert_type(experiment.build_logs(), Iterator[str])
    assert_type(get_experiment_logs("a-exp0"), Iterator[str])
    assert_type(get_build_logs(run_name="a"), Iterator[str])
    assert_type(get_build_logs(exp_name="a-exp0"), Iterator[str])
    for line in experiment.log_lines(since=1_000):
        assert_type(line.number, int)
        assert_type(line.time, datetime)
        assert_type(line.message + str(line), str)
        assert_type(line.is_approximate, bool)
    for event in run.watch(logs=True):
        if isinstance(event, LogPrinted):
            assert_type(event.experiment + event.message, str)
            assert_type(event.time, datetime)
            assert_type(event.attempt + event.number, int)
    assert_type(grid.aio.logs(experiment, follow=True), AsyncIterator[str])
    return experiment.log_lines(since=datetime.now(UTC))


def functions() -> Path:
    """Every function of the interface."""
    assert_type(create_run("train.py", script_args="--lr 1", cpus=1, localdir=True), Run)
    assert_type(create_run("train.py", timeout=0.5, max_retries=1, auto_resume=False), Run)
    assert_type(get_run("a"), Run)
    assert_type(cancel_run("a"), "list[str]")
    assert_type(list_runs(), "list[str]")
    for cluster in list_clusters():
        pause_cluster(cluster.name)
        resume_cluster(cluster.name)
        assert_type(cluster.cpus, int)
        assert_type([each.on_demand_usd_per_hour for each in get_instance_types(cluster.name)], "list[float]")
    assert_type(grid.__version__, str)
    return schema_path()


def files(run: Run) -> Path:
    """What experiments leave behind, as a mapping and as files."""
    for experiment in run:
        assert_type(list(experiment.artifacts), "list[str]")
        for artifact in experiment.artifacts.of(attempt=1).values():
            assert_type((artifact.size, artifact.sha256), "tuple[int, str | None]")
            with artifact.open() as file:
                assert_type(file.read(), bytes)
            artifact.download(Path("out"))
        assert_type(experiment.download_artifacts("out", match=r"\.pt$", attempt=2), "list[Path]")
    return run.download_artifacts(Path("out"), progress=False)[0]


def failures(run: Run) -> str | list[str]:
    """Each error is caught by its own name, by the tree's root, or as the built-in that it is."""
    try:
        run.start()
    except errors.SweepError as error:
        return str(error)
    except (errors.NotFound, errors.RequestTimeout) as error:
        problem: KeyError | TimeoutError = error
        return repr(problem)
    except GridError as error:
        return str(error)
    warning: type[UserWarning] = GridWarning
    return [warning.__name__]


def mistakes(run: Run) -> None:
    """What mypy has to refuse: each of these lines would be an unused comment if it did not."""
    Run(entrypont="train.py")  # type: ignore[call-arg]
    Run(entrypoint="train.py", cpus="3")  # type: ignore[arg-type]
    create_run("train.py", clusters="local")  # type: ignore[call-arg]
    create_run("train.py", seed="1")  # type: ignore[arg-type]
    create_run("train.py", timeout="1 h")  # type: ignore[arg-type]
    run.logs("all")  # type: ignore[arg-type]
    run.cpus = "3"  # type: ignore[assignment]
    run.id = "a"  # type: ignore[misc]
    run.experiments["a-exp0"] = None  # type: ignore[index]
    grid.list_run()  # type: ignore[attr-defined]
    wrong: dict[str, int] = run.status()  # type: ignore[assignment]
    assert isinstance(wrong, defaultdict)
