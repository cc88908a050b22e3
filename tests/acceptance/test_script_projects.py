"""Scripts as people write them, swept as they are: what each experiment is called, is given and prints."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from grid import Run
from grid.errors import GridWarning
from tests.support.log_projects import messages
from tests.support.script_projects import FAMILIES, Family
from tests.support.waiting import wait_for_run


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.folder)
def test_family(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each combination is an experiment, and its script understands what it is given as it was meant."""
    if family.needs and find_spec(family.needs) is None:
        pytest.skip(f"{family.needs} is not installed")
    project = family.copy(tmp_path)
    options = family.options(project)
    monkeypatch.chdir(project)
    run = Run(entrypoint=family.entrypoint, script_args=family.script_args, **{"cpus": 1, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GridWarning)
        run.start()
    wait_for_run(run)
    experiments = list(run)
    assert [each.invocation_commands for each in experiments] == list(family.commands)
    scripts = [dict(each.parameters) for each in experiments]
    assert [each.pop("Script") for each in scripts] == [family.entrypoint] * len(experiments)
    assert scripts == [dict(each) for each in family.parameters]
    printed = [[json.loads(line) for line in messages(each.logs(None))] for each in experiments]
    if family.folder == "launched":  # several processes print in no order
        printed = [sorted(lines, key=lambda line: line["RANK"]) for lines in printed]
    assert printed == [list(lines) for lines in family.printed], run.failures()
    assert run.status().keys() == {"SUCCEEDED"}


@pytest.mark.usefixtures("session")
@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed, which brings torchrun")
def test_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real launcher starts the same script as the small one that is like it."""
    family = next(each for each in FAMILIES if each.folder == "launched")
    monkeypatch.chdir(family.copy(tmp_path))
    launcher = "torchrun --standalone --nproc_per_node=2"
    run = Run(entrypoint=family.entrypoint, script_args=family.script_args, launcher=launcher, cpus=2)
    run.start()
    wait_for_run(run)
    assert run.status().keys() == {"SUCCEEDED"}, run.failures()
    for experiment, lines, lr in zip(run, family.printed, ("0.1", "0.2"), strict=True):
        assert experiment.invocation_commands == f"{launcher} train.py --lr {lr}"
        printed = [line for line in messages(experiment.logs(None)) if line.startswith("{")]
        assert sorted(map(json.loads, printed), key=lambda line: line["RANK"]) == list(lines)


def test_document_shows_each_family() -> None:
    """`docs/scripts.md` has the sweep of each, and the commands that the test above finds."""
    text = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text(encoding="utf-8")
    for family in FAMILIES:
        shown = family.script_args.replace('"', '\\"')
        assert f'entrypoint="{family.entrypoint}"' in text
        assert f'script_args="{shown}"' in text, family.folder
        assert "\n".join(family.commands[:4]) in text, family.folder
