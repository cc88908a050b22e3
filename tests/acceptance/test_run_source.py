"""What is said of a run's source code when it is started, and what is refused before anything is sent."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import grid
from grid.errors import InvalidArgument, SourceError
from grid.session import session as sessions
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.waiting import wait_for_run

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed script, in the current folder."""
    script = make_project(tmp_path / "project", "print(1)\n")
    monkeypatch.chdir(script.parent)
    return script


def warned(**arguments: object) -> list[str]:
    """Start a run of the script; return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wait_for_run(grid.create_run("run.py", **arguments))
    assert {each.category for each in caught} <= {grid.GridWarning}
    return [str(each.message) for each in caught]


def test_nothing_is_said_of_what_nobody_misses(script: Path) -> None:
    """Untracked files that neither an argument nor an import means are not told at the start."""
    (script.parent / "data").mkdir()
    (script.parent / "data" / "train.bin").write_text("x")
    (script.parent / "notes.txt").write_text("x" * 2_000)
    assert warned(script_args="--lr 0.1") == []
    told = grid.Run(entrypoint="run.py").preview()
    assert told.warnings == ()
    assert list(map(str, told.left_out)) == ["notes.txt (2 kB)", "data/ (1 byte)"]


def test_data_that_an_argument_names(script: Path) -> None:
    """A path in the arguments, or in `params`, whose file is not committed: a line that says how to link it in."""
    (script.parent / "data").mkdir()
    (script.parent / "data" / "train.bin").write_text("x")
    (script.parent / "val.bin").write_text("x")
    expected = (
        "named by the arguments, but not part of the run: data/train.bin; "
        f"data={{'data/train.bin': '{script.parent}/data/train.bin'}} links it in"
    )
    assert warned(script_args="--train \"['data/train.bin', 'none']\"") == [expected]
    assert expected in grid.Run(entrypoint="run.py", script_args="--train data/train.bin").preview().warnings
    assert warned(params={"train": ["data/train.bin", "none"]}) == [expected]
    assert warned(params=[{"train": "data/train.bin"}]) == [expected]
    linked = {"data/train.bin": str(script.parent / "val.bin")}
    assert not [line for line in warned(script_args="--train data/train.bin", data=linked) if "not part of" in line]


def test_a_module_that_is_not_committed(script: Path) -> None:
    """A Python file beside the script is told, since the script might import it."""
    (script.parent / "helper.py").write_text("x = 1\n")
    assert warned() == ["beside the script, but not part of the run, which cannot import it: helper.py; commit it"]


def test_pointers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the run has as pointers of Git LFS are named, with what to do."""
    folder = tmp_path / "project"
    folder.mkdir()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"
    (folder / "weights.pt").write_text(pointer)
    make_project(folder, "")
    monkeypatch.chdir(folder)
    (warning,) = warned()
    assert warning == (
        "in place of these files the run has pointers of Git LFS, a few lines of text: weights.pt; install git-lfs, "
        "then git lfs install && git lfs pull, or link the files in with data="
    )


HYDRA = "import hydra\n@hydra.main(config_name='config')\ndef main(config): pass\n"


@pytest.mark.parametrize(
    "arguments",
    [
        {"script_args": "-m lr=0.1,0.2"},
        {"script_args": "lr=0.1,0.2 --multirun"},
        {"script_args": "lr=0.1 hydra.mode=MULTIRUN"},
        {"params": {"multirun": True}},
        {"params": [{"lr": 1}, {"lr": 2, "--multirun": True}]},
    ],
)
def test_multirun_of_hydra_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object]
) -> None:
    """Grid sweeps, and Hydra must not: nothing is sent, and the message says what to write."""
    monkeypatch.chdir(make_project(tmp_path / "project", HYDRA).parent)
    run = grid.Run(entrypoint="run.py", **arguments)
    for look in (run.start, run.preview):
        with (
            requests(sessions.current()) as sent,
            pytest.raises(
                InvalidArgument, match=r"run\.py is a Hydra application, and .*Hydra must not.*lr=\[0\.1,0\.2\]"
            ),
        ):
            look()
        assert sent == [0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"working_dir": "run.py"}, "working_dir='run.py' is not part of"),
        ({"launcher": "./nowhere -x"}, "'./nowhere' is not part of"),
        ({"working_dir": "sub", "data": {"sub": "/"}}, "data='sub' would take the place of"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(script: Path, arguments: dict[str, object], words: str) -> None:
    """A preview refuses what a start would, and in the same words."""
    (script.parent / "sub").mkdir()
    (script.parent / "sub" / "file").touch()
    run = grid.Run(entrypoint="run.py", localdir=True, **arguments)
    for look in (run.preview, run.start):
        with requests(sessions.current()) as sent, pytest.raises(InvalidArgument, match=words):
            look()
        assert sent == [0]


def test_what_is_committed_decides_whether_it_is_hydra(script: Path) -> None:
    """The text that would run counts, and not what is in the folder; `-m` of another script is its own."""
    script.write_text(HYDRA)
    assert warned(script_args="-m 3") == ["uncommitted changes are not part of the run: run.py"]
    with pytest.raises(InvalidArgument, match="Hydra"):
        grid.create_run("run.py", script_args="-m 3", localdir=True)


def test_hydra_without_a_sweep_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a bare `--` nothing is a flag, and without `-m` Hydra does not sweep."""
    monkeypatch.chdir(make_project(tmp_path / "project", HYDRA.replace("import hydra\n@hydra", "#@hydra")).parent)
    assert warned(script_args="lr=0.1 -- -m") == []
    assert warned(script_args="lr=0.1", params={"multirun": False}) == []


@pytest.mark.parametrize("place", [".", "tools"])
def test_a_module_is_run_where_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A module of the `src` layout is found from anywhere in the repository, and imports what is beside its package."""
    for path in ("src/pkg/tool/__init__.py", "src/other.py", "tools/x"):
        (tmp_path / "project" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / path).write_text("")
    make_project(
        tmp_path / "project", "import other, sys; print(other.__file__, sys.argv[1:])", "src/pkg/tool/__main__.py"
    )
    monkeypatch.chdir(tmp_path / "project" / place)
    run = grid.create_run("-m pkg.tool", script_args="--x '[1, 2]'")
    wait_for_run(run)
    printed = sorted(line.partition("] ")[2].partition("/room/work/")[2] for each in run for line in each.logs())
    assert printed == ["src/other.py ['--x', '1']", "src/other.py ['--x', '2']"]


def test_a_module_that_is_not_there(script: Path) -> None:
    """Nothing is sent for a module that is not found: the message says where was looked, and what is near."""
    run = grid.Run(entrypoint="-m ran")
    with (
        requests(sessions.current()) as sent,
        pytest.raises(SourceError, match=r"'ran' was not found below .*are run$"),
    ):
        run.start()
    assert sent == [0]
