"""Projects that are installed with `pip install -e`: a run imports what was committed, and not what is edited since."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from grid.definition.run_definition import RunDefinition
from grid.session.run_source import find_run_source
from tests.support.environments import clean_environment
from tests.support.installs import install_editable, make_environment, make_package, packages_of
from tests.support.projects import make_project

PROJECTS = {
    "setuptools_src": ("setuptools", "src/setuptools_src", ""),
    "setuptools_flat": ("setuptools", "setuptools_flat", ""),  # by a finder that maps it
    "hatchling_src": ("hatchling", "src/hatchling_src", ""),
    "hatchling_flat": ("hatchling", "hatchling_flat", ""),
    "hatchling_exact": ("hatchling", "src/hatchling_exact", "[tool.hatch.build]\ndev-mode-exact = true"),  # the same
}
SCRIPT = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    found[name] = [module.WORD, module.__file__]
print(json.dumps(found))
"""
START = """
import json, sys, warnings, grid
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always', grid.GridWarning)
    grid.login()
    run = grid.create_run(**json.loads(sys.argv[1]))
run.wait(progress=False)
(experiment,) = run
told = [str(each.message) for each in caught if each.category is grid.GridWarning]
print(json.dumps([experiment.status(), told, list(experiment.logs())]))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repository of several projects, all installed, whose files are edited after the commit; and its interpreter."""
    folder = tmp_path_factory.mktemp("editable")
    root = folder / "repository"
    for name, (backend, package, extra) in PROJECTS.items():
        make_package(root / name, backend, package, extra)
    (root / ".gitignore").write_text("*.egg-info\nbuild/\n")
    make_project(root, SCRIPT)
    interpreter = make_environment(folder / "environment")
    install_editable(interpreter, *(root / name for name in PROJECTS))
    for name, (_, package, _) in PROJECTS.items():
        (root / name / package / "__init__.py").write_text("WORD = 'edited'\n")
    return root, interpreter


def run(root: Path, interpreter: Path, home: Path, script_args: str, **options: object) -> tuple[list[str], dict]:
    """Start a run as a user of an interpreter; return what was told, and what its script has printed."""
    given = json.dumps({"entrypoint": str(root / "run.py"), "script_args": script_args, "cpus": 1, **options})
    # Somewhere else than in the source code, which Python would look into.
    done = subprocess.run(
        [interpreter, "-c", START, given],
        cwd=home,
        env=clean_environment(home, PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status, told, lines = json.loads(done.stdout.splitlines()[-1])
    assert status == "SUCCEEDED", lines
    return told, json.loads(lines[-1].partition("] ")[2])


def imported_live(root: Path, interpreter: Path, name: str) -> str:
    """Return what the interpreter itself imports."""
    command = [interpreter, "-c", f"import {name}; print({name}.WORD, {name}.__file__)"]
    return subprocess.run(command, cwd=root.parent, capture_output=True, text=True, check=True).stdout.strip()


def test_the_committed_packages_are_imported(world: tuple[Path, Path], grid_home: Path) -> None:
    """Each package comes from the working copy, whatever tool has installed it, and nothing of it is warned of."""
    root, interpreter = world
    for name, (_, package, _) in PROJECTS.items():
        assert imported_live(root, interpreter, name) == f"edited {root / name / package / '__init__.py'}"
    told, found = run(root, interpreter, grid_home.parent, " ".join(PROJECTS))
    (changes,) = told
    assert changes.startswith("uncommitted changes are not part of the run: ")
    for name, (_, package, _) in PROJECTS.items():
        word, file = found[name]
        assert (name, word) == (name, "committed")
        assert file.startswith(str(grid_home / "experiments"))
        assert file.endswith(f"/room/work/{name}/{package}/__init__.py")


def test_the_runs_own_path_comes_after(world: tuple[Path, Path], grid_home: Path, tmp_path: Path) -> None:
    """What the run's own PYTHONPATH names is looked into as well, but later."""
    root, interpreter = world
    for name in ("setuptools_src", "something"):
        (tmp_path / "own" / name).mkdir(parents=True)
        (tmp_path / "own" / name / "__init__.py").write_text("WORD = 'own'\n")
    own = {"PYTHONPATH": str(tmp_path / "own")}
    _, found = run(root, interpreter, grid_home.parent, "setuptools_src something", environment=own)
    assert [found[name][0] for name in ("setuptools_src", "something")] == ["committed", "own"]


def test_what_cannot_be_led_is_told(tmp_path: Path, grid_home: Path) -> None:
    """A strict install, one from elsewhere, and a package that is installed as a copy: the run says so, and runs."""
    root = tmp_path / "repository"
    make_package(root / "one", "setuptools", "src/strict")
    (root / "src" / "copied").mkdir(parents=True)
    (root / "src" / "copied" / "__init__.py").write_text("WORD = 'committed'\n")
    (root / ".gitignore").write_text("*.egg-info\nbuild/\n")
    make_project(root, SCRIPT)
    make_package(tmp_path / "other", "hatchling", "other")
    interpreter = make_environment(tmp_path / "environment")
    install_editable(interpreter, root / "one", options=["--config-settings", "editable_mode=strict"])
    install_editable(interpreter, tmp_path / "other")
    place = packages_of(tmp_path / "environment") / "copied"
    place.mkdir()
    (place / "__init__.py").write_text("WORD = 'copied'\n")

    told, found = run(root, interpreter, grid_home.parent, "strict other copied")

    live = "scripts import what lies there when they run, not what lay there at the start"
    assert told == [
        f"pip install -e of strict ({root}/one) cannot be led to the source code of the run: {live}",
        f"pip install -e of other ({tmp_path}/other) is not part of the source code of the run: {live}",
        f"scripts would import copied from {place}, and not from the source code of the run",
    ]
    # And so it is.
    assert found["strict"][1].startswith(f"{root}/one/build/")
    assert found["other"][1] == f"{tmp_path}/other/other/__init__.py"
    assert found["copied"] == ["copied", f"{place}/__init__.py"]


def test_another_service_is_not_told(world: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed here says nothing of another machine."""
    root, _ = world
    definition = RunDefinition.from_arguments({"entrypoint": os.fspath(root / "run.py")})
    found = find_run_source(definition, runs_here=False)
    assert found.import_paths == ()
    (changes,) = found.warnings
    assert changes.startswith("uncommitted changes")
