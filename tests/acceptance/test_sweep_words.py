"""Words and values of `script_args` against a real service: what scripts really get, and what is said before."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from grid import Experiment, GridWarning, Run, errors
from tests.support.waiting import wait_for_run

SCRIPT = "import json, sys\nprint(json.dumps(sys.argv[1:]))\n"


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


@pytest.mark.usefixtures("session")
def test_scripts_get_the_words_of_a_shell(script: str) -> None:
    """Lines are joined, an escaped `$` is one, keys and positional words are swept, and a switch is there or not."""
    script_args = """fit 'range(1, 2)' --cost "\\$5 \\`x\\` \\n" \\
        model.layers='[[8, 16]]' --tied 'switch(--no-tied)'
        -v lr='geomspace(0.1, 1e-3, 3)' -- '[1, 2]'"""
    run = Run(entrypoint=script, script_args=script_args, localdir=True, cpus=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.start()
    assert wait_for_run(run).keys() == {"SUCCEEDED"}
    assert [printed(experiment) for experiment in run.experiments.values()] == [
        ["fit", "1", "--cost", "$5 `x` \\n", "model.layers=[8, 16]", tied, "-v", f"lr={rate}", "--", "[1, 2]"]
        for tied in ("--tied", "--no-tied")
        for rate in ("0.1", "0.01", "0.001")
    ]
    (first, *_) = run.experiments.values()
    assert list(first.parameters.items()) == [
        *(("Script", "run.py"), ("arg0", "fit"), ("arg1", "1"), ("cost", "$5 `x` \\n"), ("model.layers", "[8, 16]")),
        *(("tied", "True"), ("v", "True"), ("lr", "0.1"), ("arg2", "--"), ("arg3", "[1, 2]")),
    ]
    assert run.varying == ("tied", "lr")


@pytest.mark.usefixtures("session")
def test_what_may_be_meant_differently_is_warned_of_at_the_start(script: str) -> None:
    """Each warning is one of `start()`'s, and the words are passed on as they are."""
    run = Run(entrypoint=script, script_args="--data ~/set --lr 0.1,0.2 x=[8,16]", localdir=True, cpus=1)
    with pytest.warns(GridWarning) as caught:
        run.start()
    lines = [str(warning.message) for warning in caught]
    for begin in ("script_args: ~/set is passed on", "--lr '0.1,0.2' is passed on", "x=[8,16] is swept as 2 values"):
        assert [line for line in lines if begin in line], begin
    assert wait_for_run(run).keys() == {"SUCCEEDED"}
    assert [printed(experiment) for experiment in run.experiments.values()] == [
        ["--data", "~/set", "--lr", "0.1,0.2", f"x={value}"] for value in ("8", "16")
    ]


@pytest.mark.usefixtures("session")
def test_errors_of_words_and_of_values(script: str) -> None:
    """What is wrong with the words is said by the client, what is wrong with a value by the service, as one error."""
    with pytest.raises(errors.SweepError, match="has && outside of quotes"):
        Run(entrypoint=script, script_args="--lr 0.1 && echo done", localdir=True).start()
    with pytest.raises(errors.SweepError, match=r"For example: --lr '\[1e-3, 3e-3\]'"):
        Run(entrypoint=script, script_args="--lr [1e-3, 3e-3]", localdir=True).start()
