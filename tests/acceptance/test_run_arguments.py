"""What a run may be described with: what is refused, by whom, what is warned about, and until when it can be set."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import grid
from grid import Run, errors
from grid.definition.arguments import ARGUMENTS
from grid.errors import InvalidArgument, SourceError
from grid.session import session as sessions
from grid.session.session import Session
from tests.support.experiments import only, output_of
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.services import ServiceProcess, service_process
from tests.support.source_trees import git, write
from tests.support.waiting import wait_for_run


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script that is committed, in the current folder."""
    make_project(tmp_path / "project", "")
    monkeypatch.chdir(tmp_path / "project")
    return "run.py"


# Arguments

LONG = "a" * 201


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "entrypoint.*name"),
        ({"name": "Run"}, "lower-case letters, digits and inner '-'.*'Run'"),
        ({"name": "1st"}, "starting with a letter"),
        ({"name": "run-"}, "ending in a letter or digit"),
        ({"name": "a_b", "entrypoint": "run.py"}, "lower-case.*'a_b'"),
        ({"name": "fine", "script_args": "--a 1"}, "script_args.*entrypoint="),
        ({"entrypoint": "gone.py"}, "'gone.py' does not exist"),
        ({"entrypoint": "run.txt"}, r"\.py, \.sh or \.jl.*'run.txt'"),
        ({"entrypoint": "run.py", "description": LONG}, "at most 200 characters, not 201"),
        ({"entrypoint": "run.py", "strategy": "grid"}, "'grid_search', 'random_search', 'zip' or 'none', not 'grid'"),
        ({"entrypoint": "run.py", "strategy": "random_search"}, "num_trials of 1 or more"),
        ({"entrypoint": "run.py", "strategy": "random_search", "num_trials": -1}, "num_trials"),
        ({"entrypoint": "run.py", "framework": "jax"}, "'lightning', 'torch', 'tensorflow', 'julia' or 'torchelastic'"),
        ({"entrypoint": "run.py", "cpus": -1}, "cpus must be a whole number"),
        ({"entrypoint": "run.py", "cpus": 1.5}, "cpus must be a whole number"),
        ({"entrypoint": "run.py", "gpus": "two"}, "gpus must be a whole number.*'two'"),
        ({"entrypoint": "run.py", "num_trials": True}, "num_trials must be a whole number"),
        ({"entrypoint": "run.py", "seed": -1}, "seed must be a whole number"),
        ({"entrypoint": "run.py", "use_spot": "yes"}, "use_spot must be True or False"),
        ({"entrypoint": "run.py", "localdir": 1}, "localdir must be True or False"),
        ({"entrypoint": "run.py", "instance_type": ""}, r"instance_type.*get_instance_types\(\)"),
        ({"entrypoint": "run.py", "script_args": "--a 'open"}, "script_args has a quote that is never closed.*quote"),
        ({"entrypoint": "run.py", "script_args": ["--a", "1"]}, r"script_args must be one string.*shlex\.join"),
        ({"entrypoint": "run.py", "config_file": "gone.yml"}, "gone.yml"),
        ({"entrypoint": "-m run.py"}, "name a module behind -m.*'run' behind -m"),
        ({"entrypoint": "run.py", "repeats": 0}, "repeats must be a whole number from 1 to 2147483647, not 0"),
        ({"entrypoint": "run.py", "params_style": "-k v"}, "params_style must be '--k v', '--k=v' or 'k=v'"),
        ({"entrypoint": "run.py", "params": "lr=1"}, "params must be a dict"),
        ({"entrypoint": "run.py", "working_dir": "../up"}, 'working_dir must be "root", "script".*\'../up\''),
        ({"entrypoint": "run.py", "environment": "HF_TOKEN"}, "environment must be a dict.*put it into a list"),
        ({"entrypoint": "run.py", "environment": ["GRID_REPEAT"]}, "GRID_REPEAT is set by Grid"),
        ({"entrypoint": "run.py", "launcher": "torchrun {rank}"}, "launcher has {rank}.*{cpus}, {gpus}, {index}"),
        ({"entrypoint": "run.py", "launcher": "a", "framework": "torchelastic"}, "torchelastic.*leave one of them out"),
        ({"entrypoint": "run.py", "data": {"/data": "/data"}}, "'/data' must be relative"),
    ],
)
def test_argument_that_is_refused_before_anything_is_sent(
    session: Session, arguments: dict[str, Any], words: str
) -> None:
    """The constructor refuses what can never be right, with what is allowed, and sends nothing."""
    with requests(session) as sent, pytest.raises(errors.InvalidArgument, match=words) as caught:
        grid.Run(**arguments)

    assert sent == [0]
    assert isinstance(caught.value, ValueError)


REFUSED_BY_THE_CLUSTER = [
    ({"instance_type": "t2.xlrge"}, errors.InvalidArgument, "t2.xlrge.*close matches:.*t2.xlarge"),
    ({"cluster": "moon"}, errors.ClusterNotFound, "'moon'.*'local'"),
    ({"dockerfile": "Dockerfile"}, errors.Unsupported, "dockerfile='Dockerfile'"),
    ({"datastore_name": "images"}, errors.Unsupported, "datastore_name='images'"),
    ({"datastore_version": "2"}, errors.Unsupported, "datastore_version='2'"),
    ({"datastore_mount_dir": "/images"}, errors.Unsupported, "datastore_mount_dir"),
    ({"gpus": 1}, errors.Unsupported, "1 GPUs; this machine has 0"),
    ({"instance_type": "p3.2xlarge"}, errors.Unsupported, "GPUs; this machine has 0"),
    ({"script_args": "--a 'uniform(1e-3)'"}, errors.SweepError, "--a"),
    ({"script_args": "--a 1 --bad '[1, 2'"}, errors.SweepError, "--bad"),
    ({"script_args": "--empty 'range(0)'"}, errors.SweepError, "--empty"),
    ({"script_args": "--lr 'normal(0, 1)'"}, errors.SweepError, r"--lr.*normal\(0, 1, "),
    ({"script_args": "--lr 'uniform(0, 1, 1.5)'"}, errors.SweepError, "--lr"),
    ({"script_args": "--a 'range(200)' --b 'range(200)'"}, errors.LimitExceeded, "40,000.*10,000"),
    ({"script_args": "--a 'range(1000000)' --b 'range(1000000)'"}, errors.LimitExceeded, "10,000"),
]


@pytest.fixture(scope="module")
def machine_without_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that takes this machine for a small one, whatever it is."""
    with service_process(tmp_path_factory.mktemp("small"), "--cpus", "2", "--gpus", "0", "--grace", "1") as running:
        yield running


@pytest.mark.parametrize(("arguments", "kind", "words"), REFUSED_BY_THE_CLUSTER)
def test_argument_that_the_cluster_refuses(
    machine_without_gpus: ServiceProcess,
    script: str,
    arguments: dict[str, Any],
    kind: type[errors.GridError],
    words: str,
) -> None:
    """Estimate and start refuse what the cluster cannot do; then there is no run, and no source code was uploaded."""
    sessions.use(machine_without_gpus.session())
    before = grid.list_runs()
    run = grid.Run(entrypoint=script, **arguments)

    with pytest.raises(kind, match=words):
        _ = run.estimated_hourly_cost
    with pytest.raises(kind, match=words):
        run.start()

    assert grid.list_runs() == before
    assert (run.id, run.name, run.status()) == (None, "", {})
    assert list((machine_without_gpus.home / "incoming").iterdir()) == []


def test_refused_run_can_be_put_right(machine_without_gpus: ServiceProcess, script: str) -> None:
    """After a refusal the argument can be set, and the same run can be started."""
    sessions.use(machine_without_gpus.session())
    run = grid.Run(entrypoint=script, script_args="--a '[1, 2'")
    with pytest.raises(errors.SweepError):
        run.start()

    run.script_args = "--a '[1, 2]'"
    run.start()

    assert wait_for_run(run) == {"SUCCEEDED": [f"{run.name}-exp0", f"{run.name}-exp1"]}


def test_cpus_are_clamped_with_a_warning(machine_without_gpus: ServiceProcess, script: str) -> None:
    """More CPUs than the machine has are not refused: a warning says what each experiment gets."""
    sessions.use(machine_without_gpus.session())
    run = grid.Run(entrypoint=script, cpus=64)

    with pytest.warns(grid.GridWarning, match="64 CPUs; this machine has 2"):
        run.start()

    assert wait_for_run(run).keys() == {"SUCCEEDED"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"use_spot": True}, "use_spot"),
        ({"memory": "16G"}, "memory"),
        ({"scratch_size": "10G"}, "scratch_size"),
        ({"scratch_mount_path": "/scratch"}, "scratch_mount_path"),
        ({"dependency_file": "requirements.txt"}, "dependency_file='requirements.txt'"),
    ],
)
def test_what_is_not_honoured_is_said(
    machine_without_gpus: ServiceProcess, script: str, arguments: dict[str, Any], words: str
) -> None:
    """An argument that the local cluster does not act on is warned about at the start, never silently ignored."""
    sessions.use(machine_without_gpus.session())

    with pytest.warns(grid.GridWarning, match=words):
        run = grid.create_run(script, cpus=1, **arguments)

    assert wait_for_run(run).keys() == {"SUCCEEDED"}


def test_nothing_to_say_is_not_said(machine_without_gpus: ServiceProcess, script: str) -> None:
    """A run that is done exactly as asked for causes no warning."""
    sessions.use(machine_without_gpus.session())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = grid.create_run(script, cpus=1)

    wait_for_run(run)


# Source code


@pytest.mark.usefixtures("session")
def test_script_outside_any_repository(tmp_path: Path) -> None:
    """A script outside any repository is refused with a message that names localdir=True, which then works."""
    (tmp_path / "loose").mkdir()
    entrypoint = tmp_path / "loose" / "run.py"
    entrypoint.write_text("")
    before = grid.list_runs()
    run = grid.Run(entrypoint=str(entrypoint))

    with pytest.raises(errors.SourceError, match="localdir=True"):
        run.start()

    assert grid.list_runs() == before
    run.localdir = True
    run.start()
    assert wait_for_run(run).keys() == {"SUCCEEDED"}


@pytest.mark.usefixtures("session")
def test_script_that_is_not_committed(script: str) -> None:
    """A script that is not in HEAD is refused with a message that names localdir=True."""
    Path("new.py").write_text("")
    before = grid.list_runs()

    with pytest.raises(errors.SourceError, match="localdir=True"):
        grid.create_run("new.py")

    assert grid.list_runs() == before


@pytest.mark.usefixtures("session")
def test_changes_that_are_not_committed_are_listed(script: str) -> None:
    """What was changed since HEAD is not run, and a warning names the file."""
    Path(script).write_text("raise SystemExit(1)")

    with pytest.warns(grid.GridWarning, match=script):
        run = grid.create_run(script)

    assert wait_for_run(run).keys() == {"SUCCEEDED"}


# The configuration file


@pytest.mark.usefixtures("session")
def test_what_is_given_wins_over_the_file_even_as_the_default(script: str) -> None:
    """An argument whose default was given explicitly is not filled from the file; one that was not given is."""
    Path("run.yml").write_text("compute: {train: {cpus: 3, use_spot: true, framework: torch}}")

    run = grid.Run(entrypoint=script, config_file="run.yml", cpus=0, framework="lightning")

    assert (run.cpus, run.use_spot, run.framework) == (0, True, "lightning")


# Before and after the start

NEW_VALUES: dict[str, Any] = {
    "name": "other",
    "entrypoint": "other.py",
    "script_args": "--a 1",
    "description": "words",
    "strategy": "none",
    "num_trials": 3,
    "framework": "torch",
    "dependency_file": "requirements.txt",
    "instance_type": "t2.large",
    "use_spot": True,
    "cpus": 1,
    "gpus": 1,
    "memory": "4G",
    "datastore_name": "images",
    "datastore_version": "2",
    "datastore_mount_dir": "/images",
    "scratch_size": "1G",
    "scratch_mount_path": "/scratch",
    "localdir": True,
    "dockerfile": "Dockerfile",
    "config_file": "",
    "cluster": "local",
    "seed": 7,
    "timeout": 1.5,
    "max_retries": 1,
    "auto_resume": True,
    "params": {"lr": [0.1, 0.2], "hidden": (64, 64)},
    "params_style": "--k=v",
    "repeats": 2,
    "working_dir": "script",
    "environment": {"MODE": "offline"},
    "launcher": "uv run",
    "data": {"data": "/data"},
}


def test_every_argument_can_be_set_until_the_start(session: Session, script: str) -> None:
    """Each argument can be set before the start, unless the value is wrong; after the start none can be set."""
    assert NEW_VALUES.keys() == set(ARGUMENTS)
    run, described = grid.Run(entrypoint=script), grid.Run(entrypoint=script)
    run.start()

    for name, value in NEW_VALUES.items():
        setattr(described, name, value)
        assert getattr(described, name) == value
        before = getattr(run, name)
        with pytest.raises(errors.RunStarted, match=name) as caught:
            setattr(run, name, value)
        assert isinstance(caught.value, AttributeError)
        assert getattr(run, name) == before
    with pytest.raises(errors.InvalidArgument, match="strategy"):
        described.strategy = "guess"
    assert described.strategy == "none"
    with pytest.raises(AttributeError):
        described.colour = "blue"  # type: ignore[attr-defined]
    wait_for_run(run)


@pytest.mark.usefixtures("session")
def test_started_run_cannot_be_started_again(script: str) -> None:
    """A second start is refused and starts nothing; so is the start of a run that was loaded."""
    run = grid.create_run(script)
    before = grid.list_runs()

    for started in (run, grid.Run(run.name)):
        with pytest.raises(errors.RunStarted, match=run.name):
            started.start()

    assert grid.list_runs() == before
    wait_for_run(run)


@pytest.mark.usefixtures("session")
def test_run_that_is_not_started_has_nothing_to_cancel(script: str) -> None:
    """Cancelling a run before its start is an error that says so."""
    with pytest.raises(errors.RunNotStarted, match="not been started"):
        grid.Run(entrypoint=script).cancel()


Start = Callable[..., Run]


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "60"},
        {"timeout": True},
        {"max_retries": -1},
        {"max_retries": 1.0},
        {"max_retries": False},
        {"auto_resume": "yes"},
    ],
)
def test_wrong_arguments(session: Session, wrong: dict[str, object]) -> None:
    """What is not allowed is refused at once, with the argument's name, however the run is defined."""
    (name,) = wrong
    for define in (lambda: Run(entrypoint=__file__, **wrong), lambda: grid.create_run(__file__, **wrong)):
        with pytest.raises(InvalidArgument, match=name):
            define()
    run = Run(entrypoint=__file__)
    with pytest.raises(InvalidArgument, match=name):
        setattr(run, name, wrong[name])


def test_arguments_come_back(start: Start) -> None:
    """A loaded run has the arguments that it was started with, and they can no longer be changed."""
    run = start("fine", timeout=60, max_retries=2, auto_resume=True)
    loaded = Run(run.name)
    for each in (run, loaded):
        assert (each.timeout, each.max_retries, each.auto_resume) == (60, 2, True)
        assert "--timeout 60 --max_retries 2 --auto_resume" in each.script_command
        train = each.grid_config["compute"]["train"]
        assert (train["timeout"], train["max_retries"], train["auto_resume"]) == (60, 2, True)
        with pytest.raises(AttributeError, match="max_retries"):
            each.max_retries = 3
    plain = start("fine")
    assert not {"timeout", "max_retries"} & plain.grid_config["compute"]["train"].keys()


OF_SCRIPTS: dict[str, Any] = {
    "params": {"lr": [0.1, 1e-05], "name": "it's", "hidden": [(64, 64), (8, 8)], "fast": True},
    "params_style": "--k=v",
    "strategy": "zip",
    "repeats": 2,
    "working_dir": "script",
    "environment": ["MODE=a b", "TEAM", "HF_TOKEN=mellon"],
    "launcher": f"{shlex.quote(sys.executable)} -u",
}


def test_how_a_script_runs_comes_back(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says how a script runs is in the loaded run and in its command line, and its configuration says it again."""
    monkeypatch.setenv("TEAM", "mellon")
    run = start("fine", text="", data={"../data": tmp_path}, **OF_SCRIPTS)
    for each in (run, Run(run.name)):
        kept = {name: getattr(each, name) for name in OF_SCRIPTS}
        assert kept == {**OF_SCRIPTS, "environment": {"MODE": "a b", "TEAM": "mellon", "HF_TOKEN": "mellon"}}
        assert each.data == {"../data": str(tmp_path)}
        (line,) = shlex.split("'grid run --entrypoint " + each.script_command)
        words = shlex.split(line)
        options = words[words.index("--params") : words.index(run.entrypoint, 4)]
        params = (
            '{"lr": [0.1, 1e-05], "name": "it\'s", "hidden": [{"words": [64, 64]}, {"words": [8, 8]}], "fast": true}'
        )
        assert options == [
            *("--params", params),
            *("--params_style", "--k=v", "--repeats", "2", "--working_dir", "script", "--environment", "MODE=a b"),
            *("--environment", "TEAM", "--environment", "HF_TOKEN", "--launcher", OF_SCRIPTS["launcher"]),
            *("--data", f"../data={tmp_path}"),
        ]
        assert "mellon" not in each.script_command + repr(each) + repr(each._state.record)
        (tmp_path / "run.yml").write_text(yaml.safe_dump(each.grid_config))
        again = Run(entrypoint=run.entrypoint, config_file=str(tmp_path / "run.yml"))
        assert {name: getattr(again, name) for name in OF_SCRIPTS} == OF_SCRIPTS
        assert again.data == run.data
        assert again.grid_config == each.grid_config


def test_variables_reach_the_script(
    service: ServiceProcess, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script has the run's own variables, those of the file among them, and the caller's that are named."""
    file = tmp_path / "run.yml"
    file.write_text("compute: {train: {environment: {TIME: 12:30:45, NUMBER: 010, MODE: file, GONE: null}}}")
    monkeypatch.setenv("HF_TOKEN", "mellon")
    monkeypatch.setenv("OTHER", "mellon")
    expected = {"TIME": "12:30:45", "NUMBER": "010", "MODE": "given", "HF_TOKEN": "mellon", "OTHER": None, "GONE": None}
    text = f"import os\nprint({{name: os.environ.get(name) for name in {list(expected)}}})"
    run = start("fine", text=text, environment=["MODE=given", "HF_TOKEN"], config_file=file)
    wait_for_run(run)
    assert output_of(service, only(run)) == f"{expected}\n"


def test_a_variable_that_is_not_there(session: Session, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may name a variable that is not set yet; its start says which one is missing, and sends nothing."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    run = grid.Run(entrypoint=script, environment=["HF_TOKEN"])
    assert run.environment == ["HF_TOKEN"]
    assert run.estimated_hourly_cost > 0
    with requests(session) as sent, pytest.raises(InvalidArgument, match="HF_TOKEN is not set in your environment"):
        run.start()
    assert sent == [0]
    assert run.id is None
    monkeypatch.setenv("HF_TOKEN", "mellon")
    run.start()
    assert run.environment == {"HF_TOKEN": "mellon"}
    wait_for_run(run)


def test_variables_of_the_caller_that_are_not_passed(
    session: Session, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start names in one line, without values, those of the caller's variables that scripts often need and lack."""
    monkeypatch.setenv("WANDB_API_KEY", "mellon")
    monkeypatch.setenv("PYTHONPATH", "/mellon")
    with pytest.warns(grid.GridWarning) as said:
        run = grid.create_run(script, cpus=1)
    (line,) = [str(each.message) for each in said]
    assert line.startswith("PYTHONPATH, WANDB_API_KEY are set in your environment")
    assert 'environment=["PYTHONPATH", "WANDB_API_KEY"]' in line
    assert "mellon" not in line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        passing = grid.create_run(script, cpus=1, environment=["WANDB_API_KEY", "PYTHONPATH=src"])
    for each in (run, passing):
        wait_for_run(each)


@pytest.mark.usefixtures("session")
def test_script_that_starts_elsewhere(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts a script from its own folder is told that it starts in the root, unless the run says which it is."""
    write(Path(), training__train_dot_py="")
    git(Path(), "add", ".")
    git(Path(), "commit", "-q", "-m", "second")
    monkeypatch.chdir("training")
    with pytest.warns(grid.GridWarning, match=r"starts in the root of the source code, and not in training, where you"):
        run = grid.create_run("train.py", cpus=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = grid.create_run("train.py", cpus=1, working_dir="root")
    for each in (run, said):
        wait_for_run(each)


def test_arguments_are_given_by_name(session: Session) -> None:
    """The arguments that came later are keyword-only: the order of the others stays as it was."""
    values = [
        "",
        __file__,
        "",
        None,
        "grid_search",
        0,
        "lightning",
        "",
        "t2.medium",
        False,
        0,
        0,
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    values += [False, "", "", ""]
    assert Run(*values).seed is None
    with pytest.raises(TypeError, match="positional"):
        Run(*values, None)
    with pytest.raises(SourceError):
        Run("", "no-such-script.py", timeout=1)
