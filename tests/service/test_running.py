"""Tests of where scripts start, under what, and with what around them: real scripts, of source code with folders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grid.session import session as sessions
from grid.session.session import Session
from tests.support.experiments import only, output_of, work_of
from tests.support.services import ServiceProcess, service_process
from tests.support.source import Link, Program, begun, refusal
from tests.support.waiting import wait_for_run, wait_until

WHERE = "import os, sys\nprint(os.getcwd()); print(sys.argv[0]); print(sys.path[0]); print(sys.executable)\n"
LAUNCHER = Program('#!/bin/sh\necho launcher "$@"\nexec python3 "$2"\n')


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service of a machine with 4 CPUs, which runs several of these at once."""
    with service_process(tmp_path_factory.mktemp("service"), "--grace", "1", "--cpus", "4") as running:
        yield running


@pytest.fixture(autouse=True)
def _logged_in(session: Session) -> None:
    """Every test here loads runs."""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment of Python with nothing in it but the interpreter; its folder of programs."""
    programs = tmp_path / "environment" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(os.path.realpath(sys.executable))
    return programs


def install(programs: Path, name: str) -> None:
    """Install a launcher that says so, and starts the last of its words."""
    (programs / name).write_text('#!/bin/sh\necho launcher "$@"\nfor last; do :; done\nexec python "$last"\n')
    (programs / name).chmod(0o755)


# The working folder


@pytest.mark.parametrize(
    ("working_dir", "folder", "named"),
    [
        ("root", ".", "sub/train.py"),
        ("script", "sub", "train.py"),
        ("./sub/", "sub", "train.py"),
        ("other/deep", "other/deep", "../../sub/train.py"),
        ("link", "other/deep", "../../sub/train.py"),
    ],
)
def test_working_folder(service: ServiceProcess, working_dir: str, folder: str, named: str) -> None:
    """A script starts in the folder that was asked for, its command names it from there, and it finds its siblings."""
    files = {
        "sub/train.py": f"import sibling\n{WHERE}",
        "sub/sibling.py": "",
        "other/deep/x": "",
        "link": Link("other/deep"),
    }
    run, warnings = begun(service, files, "sub/train.py", workingDir=working_dir, scriptArgs="--lr 0.1")
    assert (only(run).invocation_commands, warnings) == (f"python {named} --lr 0.1", [])
    assert only(run).parameters == {"Script": "sub/train.py", "lr": "0.1"}
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    work = Path(os.path.realpath(work_of(service, only(run))))
    cwd, argument, *_ = output_of(service, only(run)).splitlines()
    assert (Path(cwd), argument) == (work / folder, named)


@pytest.mark.parametrize(
    ("working_dir", "script"),
    [
        ("/tmp", "run.py"),
        ("..", "run.py"),
        ("a/../..", "run.py"),
        ("none", "run.py"),
        ("run.py", "run.py"),
        ("a\0", "run.py"),
    ],
)
def test_no_working_folder(service: ServiceProcess, working_dir: str, script: str) -> None:
    """What is no folder of the source code is refused, with the value and what is allowed."""
    message = refusal(service, {"run.py": "", "a/x": ""}, script, workingDir=working_dir)
    assert message.startswith(
        f"working_dir={working_dir!r} is not allowed: expected 'root', 'script', or the path of a"
    )


# Modules


def test_module(service: ServiceProcess) -> None:
    """A module of the root is run by its name, of each experiment with its arguments."""
    files = {"package/module.py": f"from package import sibling\n{WHERE}", "package/sibling.py": ""}
    run, _ = begun(service, files, "package/module.py", entrypoint="-m package.module", scriptArgs="--lr '[0.1, 0.2]'")
    assert [each.invocation_commands for each in run] == [
        f"python -m package.module --lr {lr}" for lr in ("0.1", "0.2")
    ]
    assert [each.parameters["Script"] for each in run] == ["-m package.module"] * 2
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    for each in run:
        work = os.path.realpath(work_of(service, each))
        cwd, argument, first, executable = output_of(service, each).splitlines()
        assert (cwd, argument, executable) == (work, f"{work}/package/module.py", sys.executable)
        assert os.path.realpath(first) == work


@pytest.mark.parametrize(("working_dir", "above"), [("root", "src"), ("script", "src"), ("data", "")])
def test_module_that_lies_elsewhere(service: ServiceProcess, working_dir: str, above: str) -> None:
    """`src`, or the root if it starts in another folder, leads the PYTHONPATH; the run's own comes after it."""
    files = {"data/x": "", f"{above}/package/__main__.py".lstrip("/"): "import os\nprint(os.environ['PYTHONPATH'])\n"}
    script = f"{above}/package/__main__.py".lstrip("/")
    own = {"PYTHONPATH": "/own:/other"}
    run, _ = begun(
        service, files, script, entrypoint="-m package", workingDir=working_dir, environment=own, importPaths=["lib/a"]
    )
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    work = work_of(service, only(run))
    paths = [str(work / above), str(work / "lib/a"), "/own", "/other"]
    assert output_of(service, only(run)).split() == [os.pathsep.join(paths)]


@pytest.mark.parametrize(
    ("entrypoint", "script", "words"),
    [
        ("-m package", "package/module.py", "the file of the module package: package.py or package/__main__.py"),
        ("-m package.module", "lib/package/module.py", "below the root or below src"),
        ("-m package.module", "package.module", "a path inside the snapshot"),
        ("-m", "run.py", "-m and the name of a module"),
        ("-m ../run", "run.py", "-m and the name of a module"),
        ("-m a b", "run.py", "-m and the name of a module"),
        ("run.txt", "run.py", "or -m and the name of a module"),
    ],
)
def test_no_module(service: ServiceProcess, entrypoint: str, script: str, words: str) -> None:
    """A module that is none, or a file that is not the module's, is refused."""
    files = {"package/module.py": "", "lib/package/module.py": "", "run.py": ""}
    assert words in refusal(service, files, script, entrypoint=entrypoint)


# Launchers


def test_launcher_of_the_source_code(service: ServiceProcess) -> None:
    """A launcher's words stand before the script, with what they name replaced; it is found from the working folder."""
    files = {"a/run.py": WHERE, "a/tools/launch": LAUNCHER}
    launcher = "./tools/launch '--c={cpus} g={gpus} i={index} {other}'"
    run, _ = begun(
        service, files, "a/run.py", workingDir="script", launcher=launcher, cpus=2, scriptArgs="--n '[1, 2]' 'a b'"
    )
    for index, each in enumerate(run):
        words = f"'--c=2 g=0 i={index} {{other}}'"
        assert each.invocation_commands == f"./tools/launch {words} run.py --n {index + 1} 'a b'"
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    for index, each in enumerate(run):
        said = output_of(service, each).splitlines()
        assert said[:1] == [f"launcher --c=2 g=0 i={index} {{other}} run.py --n {index + 1} a b"]
        assert said[2] == "run.py"


def test_launcher_is_looked_for_beside_the_interpreter(service: ServiceProcess, environment: Path) -> None:
    """The first word is a program of the recorded interpreter's folder; so is what that starts by name."""
    install(environment, "launch")
    run, _ = begun(service, {"run.py": WHERE}, launcher="launch", interpreter=str(environment / "python"))
    assert only(run).invocation_commands == "launch run.py"
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    said = output_of(service, only(run)).splitlines()
    assert (said[0], said[-1]) == ("launcher run.py", str(environment / "python"))


def test_python_is_the_recorded_interpreter(service: ServiceProcess) -> None:
    """A launcher that begins with `python` means the interpreter of the run; a module follows it with `-m`."""
    files = {"package/module.py": f"{WHERE}print(sys.flags.utf8_mode)\n"}
    run, _ = begun(service, files, "package/module.py", entrypoint="-m package.module", launcher="python -X utf8=1 -u")
    assert only(run).invocation_commands == "python -X utf8=1 -u -m package.module"
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert output_of(service, only(run)).splitlines()[-2:] == [sys.executable, "1"]


@pytest.mark.parametrize("launcher", ["env LAUNCHED=y", "bash"])
def test_launcher_starts_a_shell_script(service: ServiceProcess, launcher: str) -> None:
    """A `.sh` file with a launcher is started by that, be it a program that runs files or one that runs programs."""
    files = {"run.sh": Program('#!/bin/sh\necho "$0" "$@" $LAUNCHED\n')}
    run, _ = begun(service, files, "run.sh", launcher=launcher, scriptArgs="x")
    assert only(run).invocation_commands == f"{launcher} ./run.sh x"
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert output_of(service, only(run)) == ("./run.sh x y\n" if "env" in launcher else "./run.sh x\n")


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        (
            "no-such-launcher --x",
            "'no-such-launcher' is not a program that the service's machine finds; install it in ",
        ),
        ("./tools/none", "'./tools/none' is not a program"),
        ("./run.py", "it must be there and executable"),
        ("/no/such/program", "it must be there and executable"),
        ("launch 'x", "launcher"),
        (" ", "a program and its arguments"),
        ("'' x", "a program and its arguments"),
    ],
)
def test_no_launcher(service: ServiceProcess, launcher: str, words: str) -> None:
    """A launcher that cannot be found is refused at the start, and told what to do."""
    assert words in refusal(service, {"run.py": ""}, launcher=launcher)


def test_elastic_launcher(service: ServiceProcess, environment: Path) -> None:
    """The framework is torchrun, with one process where there are no GPUs, and an error where there is no torchrun."""
    given: dict[str, Any] = {"framework": "TORCHELASTIC", "interpreter": str(environment / "python")}
    message = refusal(service, {"run.py": WHERE}, **given)
    assert message.startswith("framework 'torchelastic': 'torchrun' is not a program")
    assert f"install PyTorch for {environment / 'python'}" in message
    assert "torchrun starts Python only" in refusal(service, {"run.sh": ""}, "run.sh", **given)
    install(environment, "torchrun")
    run, warnings = begun(service, {"run.py": WHERE}, **given)
    assert (only(run).invocation_commands, warnings) == ("torchrun --standalone --nproc_per_node=1 run.py", [])
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert output_of(service, only(run)).startswith("launcher --standalone --nproc_per_node=1 run.py\n")


# The environment


def test_environment_of_scripts(service: ServiceProcess) -> None:
    """Output is not buffered, pictures are made for files, and numeric libraries use the experiment's own CPUs."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS")
    text = "import json, os\nprint(json.dumps(dict(os.environ)))\n"
    launcher = "./launch --nproc_per_node=2"
    program = Program('#!/bin/sh\nexec python3 "$2"\n')
    own = {"OMP_NUM_THREADS": "7", "MPLBACKEND": "pdf", "PYTHONUNBUFFERED": ""}
    plain, _ = begun(service, {"run.py": text}, cpus=3)
    launched, _ = begun(service, {"run.py": text, "launch": program}, cpus=3, launcher=launcher, environment=own)
    said = []
    for run in (plain, launched):
        assert list(wait_for_run(run)) == ["SUCCEEDED"]
        said.append(json.loads(output_of(service, only(run))))
    ours = {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg", "GRID_REPEAT": "0", **dict.fromkeys(threads, "3")}
    assert {name: said[0].get(name) for name in ours} == ours
    assert "PYTHONPATH" not in said[0]
    ours |= {**dict.fromkeys(threads, "1"), **own}
    assert {name: said[1].get(name) for name in ours} == ours


@pytest.mark.parametrize("path", ["/tmp", "../x", "a/../../b", "a:b", "a\0"])
def test_no_import_path(service: ServiceProcess, path: str) -> None:
    """Only folders in the source code can be looked into first."""
    assert refusal(service, {"run.py": ""}, importPaths=[path]).startswith(f"importPaths={path!r} is not allowed")


def test_import_paths_of_another_machine(tmp_path: Path) -> None:
    """A service that serves others looks neither into folders that callers name nor for their interpreter."""
    files = {"run.py": "import os, sys\nprint(os.environ.get('PYTHONPATH'), sys.executable)\n", "lib/x": ""}
    with service_process(tmp_path, "--cpus", "1", is_embedded=False) as other:
        sessions.use(other.session())
        run, _ = begun(other, files, importPaths=["lib"], interpreter="/no/such/python")
        assert list(wait_for_run(run)) == ["SUCCEEDED"]
        path, interpreter = output_of(other, only(run)).split()
        assert path == "None"
        assert interpreter != "/no/such/python"


# Data


def test_data(service: ServiceProcess, tmp_path: Path) -> None:
    """What is linked is there when a script starts, in place of the source code's own; it is no artifact, and stays."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.bin").write_text("real")
    files = {
        "sub/run.py": "print(*[open(path).read() for path in\n"
        " ('../data/train.bin', '../../beside/deep/x', '../new/a/b')])\n"
        "open('../data/written', 'w').close(); open('../new/a/mine', 'w').close(); open('../kept', 'w').close()\n",
        "data/train.bin": "a pointer",
        "data/same": "what is the same in both is removed from neither",
        "data/deep/er": "",
    }
    links = {"data/": data, "../beside/deep": data, "new/a/b": data / "train.bin"}
    (data / "x").write_text("beside")
    (data / "same").write_text(files["data/same"])
    given = {"workingDir": "script", "data": {path: str(target) for path, target in links.items()}}
    run, warnings = begun(service, files, "sub/run.py", **given)
    assert warnings == [f"data: 'data' of the source code is replaced by a link to {data}"]
    assert list(wait_for_run(run)) == ["SUCCEEDED"], output_of(service, only(run))
    assert output_of(service, only(run)) == "real beside real\n"
    assert sorted(only(run).artifacts) == ["kept", "new/a/mine"]
    work = work_of(service, only(run))
    assert os.readlink(work / "data") == str(data)
    run.delete()
    wait_until(lambda: not work.parent.parent.parent.exists(), "the removal")
    assert sorted(path.name for path in data.iterdir()) == ["same", "train.bin", "written", "x"]
    assert (data / "train.bin").read_text() == "real"


def test_data_of_every_attempt(service: ServiceProcess, tmp_path: Path) -> None:
    """An attempt that goes on with another's files gets its links again, whatever that one has put in their place."""
    data, outside = tmp_path / "data", tmp_path / "outside"
    for each in (data, outside):
        each.mkdir()
        (each / "x").write_text(each.name)
    text = (
        "import os, pathlib\n"
        f"print(pathlib.Path('data/x').read_text(), pathlib.Path('a/b/x').read_text())\n"
        "if os.path.exists('mark'): raise SystemExit(0)\n"
        "open('mark', 'w').close(); os.unlink('data'); os.mkdir('data'); open('data/own', 'w').close()\n"
        f"os.unlink('a/b'); os.rmdir('a'); os.symlink({str(outside)!r}, 'a')\n"
        "raise SystemExit(1)\n"
    )
    given = {"data": {"data": str(data), "a/b": str(data)}, "autoResume": True}
    run, _ = begun(service, {"run.py": text}, **given)
    assert list(wait_for_run(run)) == ["FAILED"]
    run.retry()
    assert list(wait_for_run(run)) == ["SUCCEEDED"], output_of(service, only(run), 2)
    assert [output_of(service, only(run), attempt) for attempt in (1, 2)] == ["data data\n"] * 2
    assert sorted(path.name for path in outside.iterdir()) == ["x"]
    assert sorted(path.name for path in data.iterdir()) == ["x"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/data", "a path below the working copy, or '../' and a path beside it"),
        ("../../data", "a path below the working copy"),
        ("a/../../../data", "a path below the working copy"),
        ("a/../b", "a path below the working copy"),
        ("..", "a path below the working copy"),
        (".", "a path below the working copy"),
        ("", "a path below the working copy"),
        ("a" * 256, "no name has more than 255 bytes"),
        ("a/" * 2_001, "a path of at most 4,000 characters"),
        ("../work/data", "the working copy itself"),
        ("link/data", "in the source code 'link' is a link"),
        ("sub/run.py/data", "in the source code 'sub/run.py' is a file"),
        ("sub", "another path than that of the script, or of a folder around it"),
        ("sub/run.py", "another path than that of the script"),
        ("place", "another path than that of the script"),
    ],
)
def test_no_place_for_data(service: ServiceProcess, tmp_path: Path, path: str, words: str) -> None:
    """A link that would lie outside of the script's room, behind a link, or in the place of the script is refused."""
    files = {"sub/run.py": "", "link": Link("sub"), "place/x": ""}
    message = refusal(service, files, "sub/run.py", data={path: str(tmp_path)}, workingDir="place")
    assert message.startswith("data=")
    assert words in message


def test_data_that_is_not_there(service: ServiceProcess, tmp_path: Path) -> None:
    """Targets that do not exist are named, all of them; so is one that is no absolute path, or a link in a link."""
    data = {"a": str(tmp_path), "b": str(tmp_path / "b"), "c": "/no/such/place"}
    message = refusal(service, {"run.py": ""}, data=data)
    assert message.startswith(f"data: '{tmp_path}/b', '/no/such/place' cannot be found on the service's machine, where")
    assert "an absolute path on the service's machine" in refusal(service, {"run.py": ""}, data={"a": "relative"})
    nested = {"a": str(tmp_path), "a/b": str(tmp_path)}
    assert "no path below 'a', which is a link itself" in refusal(service, {"run.py": ""}, data=nested)
    twice = {"a": str(tmp_path), "./a/": str(tmp_path)}
    assert "each path once" in refusal(service, {"run.py": ""}, data=twice)
