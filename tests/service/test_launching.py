"""Tests of how scripts are started, as far as that is decided without starting them."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid.service.domain.errors import InvalidValue
from grid.service.domain.launching import Launch, launch_of
from tests.service.test_local_cluster import cluster, row, settings


@pytest.mark.parametrize(
    ("launcher", "gpus", "count"),
    [
        ("", 0, 1),
        ("torchrun --standalone --nproc_per_node=2", 0, 2),
        ("torchrun --nproc-per-node 3 --nnodes 1", 0, 3),
        ("torchrun --nproc_per_node gpu", 4, 4),
        ("torchrun --nproc_per_node gpu", 0, 1),
        ("torchrun --nproc_per_node={gpus}", 2, 2),
        ("torchrun --nproc_per_node auto", 2, 1),
        ("torchrun --nproc_per_node=0", 0, 1),
        ("torchrun --nproc_per_node", 0, 1),
        ("python -m torch.distributed.run --nproc_per_node=2", 0, 2),
        ("accelerate launch --num_processes 2", 0, 2),
        ("accelerate launch --num-processes=5", 0, 5),
        ("mpirun -n 2 python", 0, 2),
        ("/opt/mpi/bin/mpiexec -np 3 python", 0, 3),
        ("nice -n 5 python", 0, 1),
        ("nice -n 5 mpirun -n 2 nice -n 7 python", 0, 2),
        ("mpirun -n ² python", 0, 1),
    ],
)
def test_processes(launcher: str, gpus: int, count: int) -> None:
    """How many processes the usual launchers start is known, and the CPUs are divided between them."""
    launch = launch_of(settings(launcher=launcher), "run.py", Path("/"), {"cpus": 12, "gpus": gpus})
    assert launch.processes(gpus) == count
    # Never less than one, and never more than the machine has.
    for cpus, threads in ((4, max(4 // count, 1)), (1, 1), (64, max(4 // count, 1))):
        given = cluster(gpus=4).environment(row(cpus=cpus, gpus=gpus), settings(), launch, ())
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS")
        assert [given[name] for name in names] == [str(threads)] * 4


@pytest.mark.parametrize(("gpus", "number"), [(0, 1), (1, 1), (3, 3)])
def test_elastic_launcher_has_a_process_for_each_gpu(gpus: int, number: int) -> None:
    """The elastic framework is torchrun, with as many processes as there are GPUs; another launcher takes its place."""
    launch = launch_of(settings(framework="TORCHELASTIC"), "run.py", Path("/"), {"cpus": 2, "gpus": gpus})
    assert launch.launcher == ("torchrun", "--standalone", f"--nproc_per_node={number}")
    other = settings(framework="TORCHELASTIC", launcher="accelerate launch")
    assert launch_of(other, "run.py", Path("/"), {"cpus": 2, "gpus": gpus}).launcher == ("accelerate", "launch")


@pytest.mark.parametrize(
    ("index", "repeats", "expected"), [(0, 1, "0"), (7, 1, "0"), (4, 3, "1"), (5, 3, "2"), (6, 3, "0")]
)
def test_repeat(index: int, repeats: int, expected: str) -> None:
    """A script is told which time its combination is run."""
    given = cluster().environment(row(index=index), settings(repeats=repeats), Launch(("run.py",)), ())
    assert given["GRID_REPEAT"] == expected


def test_stored() -> None:
    """A launch comes back from its row as it was; a row of an older version means the path of its script."""
    launch = Launch(("-m", "é"), ("a", "{index}"), "b/c", ("src",))
    assert Launch.stored(launch.text(), "é.py") == launch
    old = Launch.stored("", "a/run.sh")
    assert (old, old.shown(0)) == (Launch(("a/run.sh",)), ["bash", "a/run.sh"])


@pytest.mark.parametrize(
    ("script", "command"),
    [("run.py", ["python", "run.py"]), ("-x.py", ["python", "./-x.py"]), ("a/b.jl", ["julia", "a/b.jl"])],
)
def test_without_a_launcher(script: str, command: list[str]) -> None:
    """What runs a script depends on its suffix; a path that begins with a dash is no option."""
    assert launch_of(settings(), script, Path("/"), {"cpus": 1, "gpus": 0}).shown(0) == command


def test_path_of_the_run(tmp_path: Path) -> None:
    """A launcher is looked for on the run's own PATH, if it has one."""
    program = tmp_path / "launch"
    program.touch(0o755)
    for own, found in (({"PATH": str(tmp_path)}, str(program)), ({}, "launch")):
        given = settings(environment=own)
        launch = Launch(("run.py",), ("launch", "x"))
        assert cluster().command(row(arguments='["1"]'), given, launch) == (found, "x", "run.py", "1")


@pytest.mark.parametrize("folder", ["link", "link/deep", "link/../run.py", "file"])
def test_no_way_out(tmp_path: Path, folder: str) -> None:
    """A folder that a link leads to is one to start in only if it is part of the source code."""
    tree = tmp_path / "tree"
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "outside")
    (tree / "file").touch()
    with pytest.raises(InvalidValue, match="working_dir="):
        launch_of(settings(workingDir=folder), "run.py", tree, {"cpus": 1, "gpus": 0})


def test_python_is_the_recorded_interpreter() -> None:
    """A launcher that begins with `python` means the interpreter of the run, whatever its name is; others are found."""
    launch, one = Launch(("run.py",), ("python", "-u")), row(interpreter="/opt/env/bin/python3.12")
    assert cluster().command(one, settings(), launch) == ("/opt/env/bin/python3.12", "-u", "run.py")
    assert Path(cluster().command(row(), settings(), launch)[0]).name in {"python", "python3"}
