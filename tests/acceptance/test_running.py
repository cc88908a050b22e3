"""Where scripts run and under what, as users ask for it: a repository with a script in a folder of its own."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import grid
from grid import GridWarning, Run
from tests.support.experiments import only, output_of, work_of
from tests.support.projects import make_project
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

pytestmark = pytest.mark.usefixtures("session")

SCRIPT = """import os, sys, pathlib
import helper
print("started in", pathlib.Path.cwd().name, "as", sys.argv[0], "with", os.environ["KIND"], __name__)
print(pathlib.Path("data/train.txt").read_text(), pathlib.Path("../../beside/train.txt").read_text())
print("tag", sys._xoptions["tag"], os.environ["GRID_REPEAT"])
pathlib.Path("model.txt").write_text("weights")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of several packages, of which one is trained; its data is committed as a stub."""
    folder = tmp_path / "project"
    for path in ("train/data/train.txt", "train/helper.py", "train/package/__init__.py"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
    (folder / "train" / "package" / "module.py").write_text("print(__name__, __file__)")
    make_project(folder, SCRIPT, "train/train.py")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The real data."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.txt").write_text("real")
    return folder


def test_everything_at_once(service: ServiceProcess, project: Path, data: Path) -> None:
    """A script starts in its own folder, by a launcher, with data in place and variables set; the preview says so."""
    assert project.is_dir()
    run = Run(
        entrypoint="train/train.py",
        script_args="--lr '[0.1, 0.2]'",
        working_dir="script",
        launcher="python -u -X tag={index}",
        data={"train/data": str(data), "../beside": str(data)},
        environment={"KIND": "monorepo"},
        repeats=2,
        cpus=1,
    )
    expected = f"data: 'train/data' of the source code is replaced by a link to {data}"
    preview = run.preview()
    assert list(preview.warnings) == [expected]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.start()
    assert [str(each.message) for each in caught if each.category is GridWarning] == [expected]
    commands = [f"python -u -X tag={index} train.py --lr {lr}" for index, lr in enumerate((0.1, 0.1, 0.2, 0.2))]
    assert [each.invocation_commands for each in run] == commands
    assert [each.invocation_command for each in preview.experiments] == commands
    assert list(wait_for_run(run)) == ["SUCCEEDED"], output_of(service, next(iter(run)))
    for index, each in enumerate(run):
        assert output_of(service, each).splitlines() == [
            "started in train as train.py with monorepo __main__",
            "real real",
            f"tag {index} {index % 2}",
        ]
        assert sorted(each.artifacts) == ["train/model.txt"]
        assert (work_of(service, each) / "train" / "data").is_symlink()
    run.download_artifacts(project.parent / "downloads")
    downloaded = [path for path in (project.parent / "downloads").rglob("*") if not path.is_dir()]
    assert [path.name for path in downloaded] == ["model.txt"] * 4
    run.delete()
    assert (data / "train.txt").read_text() == "real"


def test_module(service: ServiceProcess, project: Path) -> None:
    """A module runs as Python runs one, started in the root of the repository."""
    assert project.is_dir()
    run = grid.create_run("-m train.package.module", script_args="--n 1", cpus=1)
    assert only(run).invocation_commands == "python -m train.package.module --n 1"
    assert only(run).parameters == {"Script": "-m train.package.module", "n": "1"}
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert output_of(service, only(run)).split()[0] == "__main__"
    again = Run(run.name)
    assert (again.entrypoint, again.launcher, again.working_dir) == ("-m train.package.module", "", "root")
