"""Previews: what is shown is what runs, nothing is created, and whatever `start()` would refuse is refused alike."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import grid
from grid import Run
from grid.chain.endpoint import RetryPolicy
from grid.errors import (
    ClusterNotFound,
    ConnectionFailed,
    GridError,
    GridWarning,
    InvalidArgument,
    LimitExceeded,
    NameTaken,
    RunStarted,
    SourceError,
    SweepError,
    Unsupported,
)
from grid.preview import Preview
from grid.session import session as sessions
from tests.faults.proxy import Fault, Proxy, once
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.services import ServiceProcess

pytestmark = pytest.mark.usefixtures("session", "paused")

DRAWS = "--lr 'uniform(0, 1, 2)' --n 'randint(0, 1000000, 3)' --depth 5"

Describe = Callable[..., Run]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Describe a run of a script in a folder, without starting it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)")

    def describe(script_args: str = DRAWS, **options: Any) -> Run:
        given = {"entrypoint": str(folder / "train.py"), "localdir": True, "cpus": 1, **options}
        return Run(script_args=script_args, **given)

    return describe


def commit(folder: Path) -> None:
    """Commit everything that there is in a repository."""
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for words in (["add", "-A"], [*identity, "commit", "-q", "-m", "more"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def started(run: Run) -> Run:
    """Start a run, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GridWarning)
        run.start()
    return run


def parameters_of(experiments: Any) -> list[dict[str, str]]:
    """The parameters of experiments, planned or real."""
    return [dict(each.parameters) for each in experiments]


# What it shows is what runs


def test_start_runs_what_was_shown(describe: Describe) -> None:
    """The draws, the combinations and the commands of a start are those of the preview before it."""
    run = describe()
    preview = run.preview()
    started(run)
    assert parameters_of(preview.experiments) == parameters_of(run)
    assert preview.commands == tuple(each.invocation_commands for each in run)
    assert preview.experiment_count == len(run) == 6
    assert preview.varying == run.varying == ("lr", "n")


def test_a_search_runs_what_was_shown(describe: Describe) -> None:
    """So do the combinations that are chosen at random."""
    run = describe("--a 'range(100)' --b 'range(100)'", strategy="random_search", num_trials=5)
    preview = run.preview()
    assert preview.shape == "a × b: 5 of 10,000"
    assert parameters_of(started(run)) == parameters_of(preview.experiments)


@pytest.mark.parametrize(("folder", "seen"), [("link", "s.py"), ("deep/up", "s.py"), ("deep/root", "sub/s.py")])
def test_links_to_the_working_folder(tmp_path: Path, describe: Describe, folder: str, seen: str) -> None:
    """A link to the folder in which the script starts is followed, and the command is the one that runs."""
    project = tmp_path / "project"
    for each in ("sub", "deep", "root"):
        (project / each).mkdir()
        (project / each / "s.py").touch()
    for link, target in (("link", "sub"), ("deep/up", "../sub"), ("deep/root", "..")):
        (project / link).symlink_to(target)
    make_project(project, "")
    run = describe("", entrypoint=str(project / "sub" / "s.py"), localdir=False, working_dir=folder)
    preview = run.preview()
    assert preview.commands == (f"python {seen}",)
    assert preview.commands == tuple(each.invocation_commands for each in started(run))


def test_a_folder_that_is_called_root(tmp_path: Path, describe: Describe) -> None:
    """It is that folder, and not the root."""
    project = tmp_path / "project"
    (project / "root").mkdir()
    (project / "root" / "s.py").touch()
    run = describe("", working_dir="./root")
    assert run.preview().commands == ("python ../train.py",)
    assert [each.invocation_commands for each in started(run)] == ["python ../train.py"]


def test_previews_of_a_run_are_the_same(describe: Describe) -> None:
    """Looking again changes nothing; another run has other draws."""
    run = describe()
    assert run.preview() == run.preview()
    assert run.preview() != describe().preview()


def test_the_draws_stay_when_something_else_is_changed(describe: Describe) -> None:
    """A changed argument keeps the draws of all others."""
    run = describe()
    before = run.preview().experiments
    run.instance_type = "t2.xlarge"
    run.script_args = f"{DRAWS} --batch '[8, 16]'"
    after = run.preview().experiments
    assert [after[2 * index].parameters["lr"] for index in range(3)] == [before[0].parameters["lr"]] * 3
    assert parameters_of(after[:10]) == parameters_of(started(run))[:10]


def test_a_seed_that_is_set_wins(describe: Describe) -> None:
    """The draws are those of the seed from then on; None means new ones."""
    run = describe()
    before = run.preview()
    run.seed = 7
    assert run.preview() == describe(seed=7).preview() != before
    run.seed = None
    assert run.preview() not in (before, describe(seed=7).preview())
    run.seed = 7
    assert parameters_of(started(run)) == parameters_of(describe(seed=7).preview().experiments)


def test_the_seed_is_private_until_the_start(describe: Describe) -> None:
    """Neither the run nor its command line has a seed that nobody gave; the service has the one that was used."""
    run = describe()
    run.preview()
    assert run.seed is None
    assert run.grid_config["hyper_params"]["settings"]["strategy_options"].get("seed") is None
    started(run)
    assert "--seed" not in run.script_command
    again = describe(seed=run.seed)
    assert parameters_of(again.preview().experiments) == parameters_of(run)


def test_a_start_whose_answer_was_lost(
    describe: Describe, service: ServiceProcess, session: sessions.Session, tmp_path: Path
) -> None:
    """The run that was made is the one that a preview shows, and that the next start returns."""
    with Proxy(service.endpoint.url) as proxy:
        proxy.plan = once("StartRun", Fault.BEFORE_ANSWER)
        endpoint = dataclasses.replace(service.endpoint, url=proxy.url)
        sessions.use(sessions.Session(endpoint, is_embedded=False, policy=RetryPolicy(tries=1)))
        try:
            run = describe()
            with pytest.raises(ConnectionFailed):
                started(run)
            made = next(iter(grid.runs.values()))
            assert str(tmp_path) in made.entrypoint
            assert parameters_of(run.preview().experiments) == parameters_of(made)
            assert started(run).name == made.name
        finally:
            sessions.use(session)


# What is in it


def test_what_is_in_it(describe: Describe) -> None:
    """The number of experiments, the shape, what varies, what does not, the commands, and the price."""
    run = describe(
        "--learning_rate '[0.1, 0.01]' --compile --n_layer '[2, 4, 6]' --epochs 10", instance_type="t2.xlarge"
    )
    preview = run.preview(4)
    assert (preview.experiment_count, len(preview.experiments)) == (6, 4)
    assert preview.shape == "learning_rate × n_layer: 2 × 3"
    assert preview.varying == ("learning_rate", "n_layer")
    assert preview.constant_count == 2
    assert preview.commands[3] == "python train.py --learning_rate 0.01 --compile --n_layer 2 --epochs 10"
    assert preview.experiments[0].parameters == {
        "Script": "train.py", "learning_rate": "0.1", "compile": "True", "n_layer": "2", "epochs": "10",
    }  # fmt: skip
    assert preview.estimated_hourly_cost == run.estimated_hourly_cost > 0
    assert (preview.left_out, preview.warnings) == ((), ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        preview.shape = ""  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "options", "shape"),
    [
        ("", {}, ""),
        ("--a 1", {}, ""),
        ("--a '[1, 2]'", {}, "a: 2"),
        ("--a '[1, 2, 3]' --b '[4, 5, 6]'", {"strategy": "zip"}, "(a, b): 3"),
        ("--c 'range(4)'", {"params": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}, "c × (a, b): 4 × 2"),
        ("--a '[1, 2]'", {"repeats": 5}, "a × repeat: 2 × 5"),
        ("--a '[1, 1, 2]'", {}, "a: 2, so that only 2 differ in their parameters"),
        ("--a '[1, 2]' --a 3 --b '[1, 2]'", {}, "b: 2, so that only 2 differ in their parameters"),
        ("--a 'range(6)' --b 'range(8)'", {"strategy": "random_search", "num_trials": 10}, "a × b: 10 of 48"),
        ("--a 'range(6)'", {"strategy": "random_search", "num_trials": 1}, "1 of 6"),
        ("--a 'range(6)'", {"strategy": "random_search", "num_trials": 3, "repeats": 2}, "a: 3 of 6, 2 times each"),
        ("--a 'range(3)' --b 'range(2)'", {"strategy": "random_search", "num_trials": 6}, "a × b: 3 × 2"),
        ("--a '[1, 2]'", {"strategy": "none"}, ""),
    ],
)
def test_shapes(describe: Describe, arguments: str, options: dict[str, Any], shape: str) -> None:
    """What is combined with what, and how many values each has, whatever the strategy."""
    assert describe(arguments, **options).preview().shape == shape


def test_the_same_parameters_are_not_said_to_be_the_same(describe: Describe) -> None:
    """Of a repeated name the parameter is the last, so the parameters may be the same where the commands differ."""
    preview = describe("--a '[1, 2]' --a 3").preview()
    assert repr(preview).startswith("Preview: 2 experiments, all with the same parameters\n")
    assert preview.commands == ("python train.py --a 1 --a 3", "python train.py --a 2 --a 3")


def test_what_is_not_part_of_the_run(describe: Describe, tmp_path: Path) -> None:
    """It lists what lies beside the script and is not sent."""
    (tmp_path / "project" / ".gitignore").write_text("data/\n")
    (tmp_path / "project" / "data").mkdir()
    (tmp_path / "project" / "data" / "train.bin").write_bytes(bytes(3_000))
    preview = describe().preview()
    assert [str(each) for each in preview.left_out] == ["data/ (3 kB)"]
    assert "not part of the run: data/ (3 kB)" in repr(preview)


def test_warnings_of_both_sides(tmp_path: Path) -> None:
    """What the client knows, what the cluster says and what the sweep says are in it, each once, and at the start."""
    script = make_project(tmp_path / "project", "print(1)", "train.py")
    script.write_text("print(2)")
    run = Run(entrypoint=str(script), script_args="--a '[1, 1]'", cpus=1, use_spot=True)
    preview = run.preview()
    first, second, third = preview.warnings
    assert first == "uncommitted changes are not part of the run: train.py"
    assert second.startswith("use_spot only changes the estimate")
    assert third.startswith("1 of the 2 experiments is the same as an earlier one")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        run.start()
    assert [str(each.message) for each in shown] == [first, second, third]
    assert {each.category for each in shown} == {GridWarning}
    assert {each.filename for each in shown} == {__file__}


def test_what_the_caller_has(describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that experiments would not get, and a folder where they do not start, are in it as well."""
    monkeypatch.setenv("WANDB_PROJECT", "secret-project")
    run = describe("--a 1")
    (warning,) = run.preview().warnings
    assert warning.startswith("WANDB_PROJECT is set in your environment")
    assert "secret-project" not in repr(run.preview()) + run.preview()._repr_html_()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        run.start()
    assert [str(each.message) for each in shown] == [warning]
    assert describe("--a 1", environment=["WANDB_PROJECT"]).preview().warnings == ()


def test_a_variable_that_is_missing(describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before the start, as at the start; what it has is never shown."""
    monkeypatch.delenv("MY_TOKEN", raising=False)
    run = describe("--a 1", environment=["MY_TOKEN"])
    with pytest.raises(InvalidArgument, match="MY_TOKEN") as previewing:
        run.preview()
    with pytest.raises(InvalidArgument) as starting:
        started(run)
    assert str(previewing.value) == str(starting.value)
    monkeypatch.setenv("MY_TOKEN", "hidden-value")
    assert "hidden-value" not in repr(run.preview()) + run.preview()._repr_html_()


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({"working_dir": "script"}, "python train.py --a 1"),
        ({"working_dir": "code"}, "python train.py --a 1"),
        ({"entrypoint": "-m code.train"}, "python -m code.train --a 1"),
        ({"launcher": "env NUMBER={index} python -u"}, "env NUMBER=1 python -u code/train.py --a 2"),
        ({}, "python code/train.py --a 1"),
    ],
)
def test_commands_are_those_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], command: str
) -> None:
    """Folders, modules and launchers are in the commands as they are in those of the experiments."""
    make_project(tmp_path / "project" / "code", "print(1)", "train.py")
    shutil.move(tmp_path / "project" / "code" / ".git", tmp_path / "project" / ".git")
    (tmp_path / "project" / "code" / "__init__.py").touch()
    commit(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    run = Run(script_args="--a '[1, 2]'", cpus=1, **{"entrypoint": "code/train.py", **options})
    preview = run.preview()
    assert command in preview.commands
    assert preview.commands == tuple(each.invocation_commands for each in started(run))
    assert parameters_of(preview.experiments) == parameters_of(run)


def test_data_that_takes_the_place_of_something(describe: Describe, tmp_path: Path) -> None:
    """It is warned of before the start as at the start, once."""
    (tmp_path / "project" / "data").mkdir()
    (tmp_path / "project" / "data" / "small.txt").touch()
    run = describe("--a 1", data={"data": str(tmp_path), "other": str(tmp_path)})
    (warning,) = run.preview().warnings
    assert warning == f"data: 'data' of the source code is replaced by a link to {tmp_path}"
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        run.start()
    assert [str(each.message) for each in shown] == [warning]


# Nothing is created


def test_nothing_is_created(describe: Describe, service: ServiceProcess, tmp_path: Path) -> None:
    """No run, no snapshot and no file, neither here nor there; one request tells all of it."""
    run = describe()
    before = len(grid.runs), files_of(service.home), files_of(tmp_path)
    with requests(sessions.current()) as sent:
        run.preview()
    assert sent == [1]
    assert (len(grid.runs), files_of(service.home), files_of(tmp_path)) == before
    assert (run.id, run.name, len(run), run.status()) == (None, "", 0, {})
    assert run.seed is None


def files_of(folder: Path) -> list[str]:
    """Every file below a folder but those of the database, which is written to while nothing changes."""
    return sorted(str(path) for path in folder.rglob("*") if not path.name.startswith("grid.sqlite3"))


# Refusals


@pytest.mark.parametrize("n", [0, -1, 1001, 1.5, True, "3", None])
def test_n_is_checked(describe: Describe, n: Any) -> None:
    """A number of experiments from 1 to 1,000, and the message says so."""
    with requests(sessions.current()) as sent, pytest.raises(InvalidArgument, match=r"n .* from 1 to 1,000.* not "):
        describe().preview(n)
    assert sent == [0]


def test_after_the_start(describe: Describe) -> None:
    """There is nothing to preview then, and the error says what to use."""
    run = started(describe())
    for held in (run, Run(run.name)):
        with pytest.raises(RunStarted, match=r"has been started.*`experiments`.*`varying`"):
            held.preview()


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ("--lr 'uniform(1)'", {}, SweepError),
        ("--lr '[]'", {}, SweepError),
        ("--n 'range(10001)'", {}, LimitExceeded),
        ("", {"gpus": 99}, Unsupported),
        ("", {"dockerfile": "Dockerfile"}, Unsupported),
        ("", {"instance_type": "t2.xlarg"}, InvalidArgument),
        ("", {"cluster": "elsewhere"}, ClusterNotFound),
        ("", {"name": "taken"}, NameTaken),
        ("", {"localdir": False}, SourceError),
        ("", {"working_dir": "nowhere"}, InvalidArgument),
        ("", {"data": {"train.py": "/"}}, InvalidArgument),
        ("", {"data": {"train.py/x": "/"}}, InvalidArgument),
        ("", {"data": {"x": "/not/there"}}, InvalidArgument),
        ("", {"launcher": "no-such-program -n 2"}, Unsupported),
        ("", {"entrypoint": "-m not.there"}, SourceError),
    ],
)
def test_it_refuses_what_a_start_refuses(
    describe: Describe, arguments: str, options: dict[str, Any], error: type[GridError]
) -> None:
    """With the same error and the same message."""
    if "name" in options:
        started(describe("", **options))
    run = describe(arguments, **options)
    with pytest.raises(error) as previewing:
        run.preview()
    with pytest.raises(error) as starting:
        started(run)
    assert str(previewing.value) == str(starting.value)
    assert type(previewing.value) is type(starting.value)


def test_a_script_that_is_gone(describe: Describe, tmp_path: Path) -> None:
    """What has changed since the run was described counts, as at the start."""
    run = describe()
    shutil.rmtree(tmp_path / "project")
    with pytest.raises(SourceError, match="does not exist"):
        run.preview()


def test_a_script_that_was_not_committed(tmp_path: Path) -> None:
    """It is refused before the start as well."""
    make_project(tmp_path / "project", "print(1)")
    (tmp_path / "project" / "other.py").write_text("print(1)")
    with pytest.raises(SourceError, match="is not in the commit at HEAD"):
        Run(entrypoint=str(tmp_path / "project" / "other.py")).preview()


# How it shows itself


def test_text(describe: Describe) -> None:
    """What varies comes first, in columns; then the command, and what is said once."""
    run = describe("--learning_rate '[0.1, 0.01]' --n_layer '[2, 4, 6]' --epochs 10 --compile")
    assert repr(run.preview(4)) == str(run.preview(4)) == (
        "Preview: 6 experiments, learning_rate × n_layer: 2 × 3\n"
        "\n"
        "      learning_rate  n_layer  command\n"
        "exp0  0.1            2        python train.py --learning_rate 0.1 --n_layer 2 --epochs 10 --compile\n"
        "exp1  0.1            4        python train.py --learning_rate 0.1 --n_layer 4 --epochs 10 --compile\n"
        "exp2  0.1            6        python train.py --learning_rate 0.1 --n_layer 6 --epochs 10 --compile\n"
        "exp3  0.01           2        python train.py --learning_rate 0.01 --n_layer 2 --epochs 10 --compile\n"
        "… and 2 more\n"
        "\n"
        "2 other arguments, which do not vary\n"
        "0.30 US dollars per hour for all experiments at once"
    )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"use_spot": True, "dependency_file": "r" * 300}])
@pytest.mark.parametrize(
    "arguments",
    [
        "",
        f"--text {'x' * 500}",
        f"--a '[1, 2]' --text {'x' * 100}",
        " ".join(f"--parameter_{number} '[1, 2]'" for number in range(8)),
        " ".join(f"--{'parameter' * 3}_{number} '[1, 2]'" for number in range(8)),
        f"--{'n' * 200} '[1, 2]'",
        f'--a \'["{"x" * 300}", "{"y" * 300}"]\'',
        "--a '[\"one\\ntwo\", \"\\x1b[31m\"]' --b 'a\nb'",
    ],
)
def test_text_fits(describe: Describe, arguments: str, options: dict[str, Any]) -> None:
    """Whatever the arguments are, no line is longer than 120 characters, and none says what it is not."""
    preview = describe(arguments, **options).preview()
    lines = repr(preview).split("\n")
    assert max(map(len, lines)) <= 120
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if line.startswith("exp0 ")]) in {1, 2}
    if preview.experiment_count > 10:
        assert f"… and {preview.experiment_count - 10} more" in lines


def test_html(describe: Describe) -> None:
    """A static table: what varies first, what does not behind a click, everything escaped, no scripts."""
    run = describe("--text '<script>alert(1)</script>' --a '[\"<b>\", \"&\"]' --cost '$5'")
    shown = run.preview(1)._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "&lt;b&gt;" in shown
    assert "mathjax_ignore" in shown
    assert "… and 1 more" in shown
    before, _, after = shown.partition("<details>")
    assert ">a</th>" in before
    assert ">cost</th>" in after
    assert ">cost</th>" not in before
    assert ">a</th>" not in after
    assert "2 other arguments, which do not vary" in after


def test_html_of_warnings(describe: Describe) -> None:
    """They are in it, as is the price."""
    preview = describe("--a '[1, 1]'", use_spot=True).preview()
    shown = preview._repr_html_()
    assert shown.count("<li>") == len(preview.warnings) == 2
    assert "US dollars per hour" in shown


def test_type(describe: Describe) -> None:
    """It is what `grid.Preview` is."""
    assert isinstance(describe().preview(), Preview)
    assert grid.Preview is Preview
