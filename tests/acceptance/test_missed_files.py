"""Failures of scripts that have missed a file which is beside them, and is not part of the run."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import grid
from grid import Run
from grid.models import FailureGroup
from grid.session import session as sessions
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.waiting import wait_for_run

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in a repository, which is the current one, with data in it and beside it that will not be committed."""
    root = tmp_path / "project"
    for path in ("data/train.bin", "data/small/a/b.bin", "code/notes.txt", 'it\'s "here".txt', "../outside/x"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    (root / "data" / "prepare.py").touch()
    (root / ".gitignore").write_text("*.bin\n*.txt\nsmall/\n")
    monkeypatch.chdir(root)
    return root


def failed(root: Path, text: str, entrypoint: str = "run.py", **options: object) -> Run:
    """Run a script that is committed, until it has failed."""
    make_project(root, text, entrypoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", grid.GridWarning)
        run = grid.create_run(entrypoint, **options)
    wait_for_run(run)
    assert run.status().keys() == {"FAILED"}
    return run


@pytest.mark.parametrize("localdir", [False, True])
@pytest.mark.parametrize(
    ("path", "found", "linked"),
    [
        ("data/train.bin", "data/train.bin", "data/train.bin"),
        ("./data/small/../train.bin", "data/train.bin", "data/train.bin"),
        ("data/small/a/b.bin", "data/small/a/b.bin", "data/small"),
        ("$PWD/data/train.bin", "data/train.bin", "data/train.bin"),
        ('it\'s "here".txt', 'it\'s "here".txt', 'it\'s "here".txt'),
        ("../outside/x", "../outside/x", "../outside"),
        ("$PWD/../outside/x", "../outside/x", "../outside"),
        ("data/val.bin", None, None),
        ("/data/train.bin", None, None),
        ("../../project/data/train.bin", None, None),
    ],
)
def test_a_file_that_is_beside_the_script(
    root: Path, monkeypatch: pytest.MonkeyPatch, path: str, found: str | None, linked: str, localdir: bool
) -> None:
    """The group says that the file exists, and how it is linked in; a file that is nowhere says nothing."""
    run = failed(root, f"import os\nopen({path!r}.replace('$PWD', os.getcwd()))\n", localdir=localdir)
    monkeypatch.chdir("/")  # where the script was seen from is remembered
    with requests(sessions.current()) as sent:
        (group,) = run.failures()
    assert sent == [1]
    if found is None:
        assert group.hint == ""
        assert type(group) is FailureGroup
        return
    assert group.hint == (
        f"{found} exists beside the script, but is not part of the run: data={{{linked!r}: "
        f"{str((root / linked).resolve())!r}}} links it in"
    )
    assert str(group).endswith(f" ({run.name}-exp0). {group.hint}")
    assert str(group).startswith("1 x EXIT_CODE: FileNotFoundError: [Errno 2] No such file or directory: ")
    assert "exists beside" not in group.final_line
    assert FailureGroup.from_dict(group.to_dict()).to_dict() == group.to_dict()
    assert "hint" not in group.to_dict()


def test_each_group_has_its_own(root: Path) -> None:
    """Failures are told apart, and one that misses no file is as the service has it."""
    text = "import sys\nname = sys.argv[-1]\nopen(name) if name != 'x' else 1 / 0\n"
    run = failed(root, text, script_args="--name \"['data/train.bin', 'x', 'code/notes.txt', 'data/train.bin']\"")
    hints = {group.final_line.rpartition(" ")[2]: group.hint.partition(" ")[0] for group in run.failures()}
    assert hints == {"'data/train.bin'": "data/train.bin", "zero": "", "'code/notes.txt'": "code/notes.txt"}


def test_what_is_said_after_the_traceback(root: Path) -> None:
    """The error counts where a library prints something after it."""
    text = "import sys\ntry: open('data/train.bin')\nexcept OSError as error: sys.exit(f'Error: {error}\\nGood bye')\n"
    (group,) = failed(root, text).failures()
    assert group.final_line is None
    assert group.hint.startswith("data/train.bin exists beside the script")


@pytest.mark.parametrize(
    ("failing", "hint"),
    [
        ("import numpy; numpy.loadtxt('data/train.bin')", "data/train.bin exists beside"),
        ("raise FileNotFoundError('data/train.bin')", "data/train.bin exists beside"),
        ("raise FileNotFoundError('there is no \"data/small/a/b.bin\": run data/prepare.py')", "data/small/a/b.bin"),
        ("raise FileNotFoundError('cannot open `data/train.bin`.')", "data/train.bin exists beside"),
        ('raise FileNotFoundError("it\'s \\"here\\".txt")', 'it\'s "here".txt exists beside'),
        ("raise FileNotFoundError('data/val.bin not found, nor /data/train.bin')", ""),
        ("raise FileNotFoundError", ""),
        ("raise KeyError('data/train.bin')", ""),
    ],
)
def test_what_is_said_in_other_words(root: Path, failing: str, hint: str) -> None:
    """Libraries and scripts say in words of their own what they have not found."""
    (group,) = failed(root, f"{failing}\n").failures()
    assert group.hint.startswith(hint)
    assert bool(group.hint) == bool(hint)


def test_what_was_removed_by_the_script(root: Path) -> None:
    """A file that was part of the run, and that the script itself has removed, is not missed."""
    (group,) = failed(root, "import os\nos.remove('data/prepare.py')\nopen('data/prepare.py')\n").failures()
    assert group.hint == ""


def test_what_was_committed_since(root: Path) -> None:
    """The commit that was sent counts, not that of today."""
    run = failed(root, "open('data/train.bin')\n")
    (root / ".gitignore").unlink()
    make_project(root, "")
    (group,) = run.failures()
    assert group.hint.startswith("data/train.bin exists beside the script")


def test_a_run_that_was_loaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process says the same where the script is seen; elsewhere, and in another repository, nothing is said."""
    run = failed(root, "open('data/train.bin')\n")
    (group,) = Run(run.name).failures()
    assert group.hint.startswith("data/train.bin exists beside the script")
    monkeypatch.chdir(root / "data")
    assert [group.hint for group in Run(run.name).failures()] == [""]
    other = make_project(root.parent / "other", "")
    (other.parent / "data").mkdir()
    (other.parent / "data" / "train.bin").touch()
    monkeypatch.chdir(other.parent)
    assert [group.hint for group in Run(run.name).failures()] == [""]


def test_a_script_in_a_folder_of_the_repository(root: Path) -> None:
    """Paths are seen from the root, and from the script's own folder."""
    (group,) = failed(root, "open('data/train.bin')\n", "code/run.py").failures()
    assert group.hint.startswith("data/train.bin exists beside the script")
    (group,) = failed(root, "open('notes.txt')\n", "code/run.py").failures()
    assert group.hint.startswith("code/notes.txt exists beside the script")
