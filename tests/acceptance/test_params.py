"""`params` and sweeps against a real service: what scripts really get is what `parameters` and the commands say."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import grid
from grid import Experiment, GridWarning, Run, errors, sweep
from grid.session.session import Session
from tests.support.waiting import wait_for_run

SCRIPT = "import json, sys\nprint(json.dumps(sys.argv[1:]))\n"

Start = Callable[..., Run]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script that prints what it was given, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("run.py").write_text(SCRIPT)
    return "run.py"


def printed(experiment: Experiment) -> list[str]:
    """What a script was given, as it printed it."""
    (line,) = experiment.log_lines()
    words: list[str] = json.loads(line.message)
    return words


def finished(script: str, script_args: str = "", **options: Any) -> Run:
    """Start a run, wait for it, and hold what the scripts got to what the run says of it; return the run."""
    run = Run(entrypoint=script, script_args=script_args, localdir=True, cpus=1, **options)
    run.start()
    assert wait_for_run(run).keys() == {"SUCCEEDED"}
    for experiment in run.experiments.values():
        got = printed(experiment)
        assert shlex.split(experiment.invocation_commands) == ["python", "run.py", *got]
    return run


def got(run: Run) -> list[list[str]]:
    """What each script was given, in the order of the experiments."""
    return [printed(experiment) for experiment in run.experiments.values()]


def parameters(run: Run) -> list[dict[str, str]]:
    """The parameters of each experiment, without the script."""
    return [
        {name: value for name, value in experiment.parameters.items() if name != "Script"}
        for experiment in run.experiments.values()
    ]


@pytest.mark.usefixtures("session")
def test_every_kind_of_value(script: str) -> None:
    """Each kind of value reaches the script as it is said, and the loaded run has the `params` that were given."""
    params: dict[str, Any] = {
        "lr": [0.1, np.float64(1e-05)],
        "hidden": [(64, 64), (128,)],
        "fast": True,
        "slow": False,
        "left_out": None,
        "note": 'it\'s "so" $HOME\n☃',
        "layers": [[64, 64]],
        "-n": 3,
        "path": Path("a/b"),
    }
    run = finished(script, "train --seed 7 -- rest", params=params)

    always = ["--fast", "--note", params["note"], "--layers", "[64, 64]", "-n", "3", "--path", "a/b", "--", "rest"]
    assert got(run) == [
        ["train", "--seed", "7", "--lr", lr, "--hidden", *hidden, *always]
        for lr in ("0.1", "1e-05")
        for hidden in (["64", "64"], ["128"])
    ]
    assert list(parameters(run)[0].items()) == [
        *(("arg0", "train"), ("seed", "7"), ("lr", "0.1"), ("hidden", "64 64"), ("fast", "True"), ("slow", "False")),
        *(("note", params["note"]), ("layers", "[64, 64]"), ("n", "3"), ("path", "a/b"), ("arg1", "--")),
        ("arg2", "rest"),
    ]
    loaded = Run(run.name)
    assert loaded.params == run.params == {**params, "path": "a/b"}
    assert loaded.params["hidden"] == [(64, 64), (128,)]
    assert run.varying == loaded.varying == ("lr", "hidden")


@pytest.mark.usefixtures("session")
def test_sweeps_as_objects(script: str) -> None:
    """Draws as objects are those of the same text, and come back as the objects that they were."""
    params = {"lr": sweep.loguniform(1e-5, 1e-1, 3), "tied": sweep.switch("--no-tied"), "seed": range(1)}
    run = finished(script, params=params, seed=5)
    text = finished(script, "--lr 'loguniform(1e-05, 0.1, 3)' --tied 'switch(--no-tied)' --seed 'range(1)'", seed=5)

    assert got(run) == got(text)
    assert parameters(run) == parameters(text)
    assert [words[2] for words in got(run)] == ["--tied", "--no-tied"] * 3
    assert [each["tied"] for each in parameters(run)] == ["True", "False"] * 3
    loaded = Run(run.name)
    assert loaded.params == params
    assert repr(loaded.params) == (
        "{'lr': sweep.loguniform(1e-05, 0.1, 3), 'tied': sweep.switch('--no-tied'), 'seed': range(0, 1)}"
    )


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("--k v", ["--lr", "0.1", "--tied"]),
        ("--k=v", ["--lr=0.1", "--tied"]),
        ("k=v", ["lr=0.1", "tied=True"]),
    ],
)
def test_styles(script: str, style: str, words: list[str]) -> None:
    """Each style writes its words, and is the loaded run's."""
    run = finished(script, params={"lr": 0.1, "tied": True}, params_style=style)
    assert got(run) == [words]
    assert parameters(run) == [{"lr": "0.1", "tied": "True"}]
    assert Run(run.name).params_style == style


@pytest.mark.usefixtures("session")
def test_a_list_of_dicts_with_zip_and_repeats(script: str) -> None:
    """A list of dicts goes along with the lists of `script_args`, each combination twice, which `repeat` tells."""
    rows = [{"lr": 0.1, "fast": True}, {"lr": 0.2}]
    run = finished(script, "--seed [7,8]", params=rows, strategy="zip", repeats=2)
    first, second = ["--seed", "7", "--lr", "0.1", "--fast"], ["--seed", "8", "--lr", "0.2"]
    assert got(run) == [first, first, second, second]
    assert [each["repeat"] for each in parameters(run)] == ["0", "1", "0", "1"]
    assert [list(each)[-1] for each in parameters(run)] == ["repeat"] * 4
    assert run.varying == ("seed", "lr", "fast", "repeat")
    loaded = Run(run.name)
    assert (loaded.params, loaded.repeats, loaded.strategy) == (rows, 2, "zip")


@pytest.mark.usefixtures("session")
def test_what_was_run_can_be_run_again(script: str) -> None:
    """The configuration that a run gives, as a file, and the options of its command are those of the same run."""
    params = {"lr": sweep.uniform(1e-5, 1e-1, 2), "hidden": [(64, 64), (8,)], "note": "1.10", "on": True}
    run = finished(script, params=params, params_style="--k=v", repeats=2)
    Path("grid.yml").write_text(yaml.safe_dump(Run(run.name).grid_config))

    again = Run(entrypoint=script, config_file="grid.yml", localdir=True)
    assert (again.params, again.params_style, again.repeats) == (params, "--k=v", 2)
    (line,) = shlex.split("'grid run --entrypoint " + run.script_command)
    words = shlex.split(line)
    assert json.loads(words[words.index("--params") + 1])["hidden"] == [{"words": [64, 64]}, {"words": [8]}]


@pytest.mark.usefixtures("session")
def test_params_win_over_the_file(script: str) -> None:
    """Of a name in `params` and in the file's `hyper_params.params` the script gets that of `params` alone."""
    Path("grid.yml").write_text("hyper_params: {params: {--lr: 9, --n: '[1, 2]'}}")
    run = finished(script, config_file="grid.yml", params={"lr": 0.5})
    assert got(run) == [["--n", "1", "--lr", "0.5"], ["--n", "2", "--lr", "0.5"]]


WARNED: list[tuple[str, dict[str, Any], str]] = [
    ("--a [1,1]", {}, "the same as an earlier one"),
    ("--a 1", {"num_trials": 3}, "num_trials=3 has no effect"),
    ("--Script x", {}, "Script"),
    ("--a [1,2] --a 3", {}, "a: given more than once"),
    ("", {"params": {"a": "[1,2]"}}, "grid.sweep"),
]


@pytest.mark.usefixtures("session", "paused")
@pytest.mark.parametrize(("script_args", "options", "said"), WARNED)
def test_what_is_warned_of_at_the_start(script: str, script_args: str, options: dict[str, Any], said: str) -> None:
    """What is to be said about the sweep as a whole is said once, at the start."""
    run = Run(entrypoint=script, script_args=script_args, localdir=True, cpus=1, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.start()
    assert [said in str(each.message) for each in caught if each.category is GridWarning] == [True]


REFUSED: list[tuple[str, dict[str, Any], type[errors.GridError], str]] = [
    ("--a [1,2] --b [1,2,3]", {"strategy": "zip"}, errors.SweepError, "has 2.*has 3"),
    ("", {"strategy": "none", "params": {"a": [1]}}, errors.SweepError, "--a"),
    ("--a [1,2]", {"repeats": 5001}, errors.LimitExceeded, "10,002"),
    ("", {"params": {"a": list(range(101)), "b": list(range(100))}}, errors.LimitExceeded, "10,100"),
    ("", {"params": {"a": sweep.Sweep("uniform(1)")}}, errors.SweepError, r"--a uniform\(1\).*sweep\.uniform"),
    ("", {"params": {"--a": 1}, "params_style": "k=v"}, errors.SweepError, "is not a key"),
    ("", {"params": {"a": (1, 2)}, "params_style": "k=v"}, errors.SweepError, "tuple"),
    ("", {"params": {"a": "x" * 131_072}}, errors.SweepError, "131,072 bytes"),
    ("", {"params": [{"a": [1, 2]}]}, errors.SweepError, r"params\[0\]"),
]


@pytest.mark.parametrize(("script_args", "options", "kind", "said"), REFUSED)
def test_what_is_refused(
    session: Session, script: str, script_args: str, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    """A sweep that cannot be is refused before anything is created."""
    before = grid.list_runs()
    run = Run(entrypoint=script, script_args=script_args, localdir=True, **options)
    with pytest.raises(kind, match=said):
        run.start()
    with pytest.raises(kind, match=said):
        _ = run.estimated_hourly_cost
    assert grid.list_runs() == before
    assert (run.id, run.status()) == (None, {})


@pytest.mark.usefixtures("session")
def test_arguments_of_the_greatest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may have so many characters may have them, though the run's command line has them twice."""
    monkeypatch.chdir(tmp_path)
    Path("run.py").write_text("import sys\nprint(sum(map(len, sys.argv[1:])))\n")
    words = " ".join("'" * 2 + "x" * 99_997 for _ in range(9))
    run = Run(entrypoint="run.py", script_args=words, params={"a": "'" * 90_000}, localdir=True, cpus=1)
    run.start()
    assert wait_for_run(run).keys() == {"SUCCEEDED"}
    (experiment,) = run
    (line,) = experiment.log_lines()
    assert int(line.message) == 9 * 99_997 + len("--a") + 90_000
    assert len(run.script_command) > 1_000_000
    assert Run(run.name).params == {"a": "'" * 90_000}


@pytest.mark.usefixtures("session")
def test_what_is_read_changes_nothing(script: str) -> None:
    """To change what a run says of its `params` does not change the run."""
    run = Run(entrypoint=script, params={"a": [1, 2]}, localdir=True)
    run.params["a"].append(3)
    assert run.params == {"a": [1, 2]}
    assert run.preview().experiment_count == 2
