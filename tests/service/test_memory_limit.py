"""Tests of the limit to an experiment's memory: where there can be one, and that it holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from grid import Run
from grid.errors import GridWarning
from grid.service.executors.supervisor.cgroups import LEAF, can_limit_memory, own
from grid.session import session as sessions
from grid.shared.wire import Reason
from tests.support.experiments import only, output_of, starter, wait_until_ready
from tests.support.hardware import write
from tests.support.services import ServiceProcess, end_everything
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

EAT = "print('ready')\neaten = [bytearray(1 << 20) for _ in range({})]\nprint('done')"
EAT_IN_A_CHILD = f"import subprocess, sys\nprint('ready')\nsubprocess.run([sys.executable, '-c', {EAT.format(200)!r}])"
EAT_WHEN_TOLD = f"import os, sys, time\nprint('ready')\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n{EAT}"
ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class _Enclosed(ServiceProcess):
    """A service that is started in a control group."""

    def __init__(self, home: Path, group: Path) -> None:
        self.group = group
        super().__init__(home, "--grace", "1", "--cpus", "4")

    def launch(self, *more: str) -> None:
        command = [sys.executable, "-m", "grid.service", *self._arguments, *more]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", ENTER, str(self.group), *command], env=self._environment, stdout=log, stderr=log
            )


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Path]:
    """A control group of the test's own."""
    parent = own()
    if parent is None or "memory" not in Path(parent, "cgroup.subtree_control").read_text().split():
        pytest.skip("the memory of control groups of version 2 cannot be limited here")
    group = Path(parent, f"test-{tmp_path.name}-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    for each in (group / LEAF, group):
        with suppress(FileNotFoundError):
            wait_until(lambda each=each: not (each / "cgroup.procs").read_text(), "the end of everybody in it")
            each.rmdir()


@pytest.fixture
def service(tmp_path: Path, group: Path) -> Iterator[ServiceProcess]:
    """A service that is alone in its control group."""
    service = _Enclosed(tmp_path, group)
    sessions.use(service.session())
    yield service
    if service.process.poll() is None:
        service.stop()
    end_everything(service.home)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start runs of scripts."""
    return starter(tmp_path)


@pytest.mark.parametrize("script", [EAT.format(200), EAT_IN_A_CHILD], ids=["itself", "child"])
def test_limit_holds(service: ServiceProcess, start: Start, script: str) -> None:
    """A script that uses more than it asked for is ended, with its helpers, and the reason says so."""
    run = start(script, memory="64M")
    assert list(wait_for_run(run)) == ["FAILED"]
    failure = only(run).failure
    assert (failure.reason, failure.signal) == (Reason.OUT_OF_MEMORY, signal.SIGKILL)
    assert failure.error == "it used more than its 64M of memory"
    assert "done" not in output_of(service, only(run))


def test_below_the_limit(service: ServiceProcess, start: Start) -> None:
    """Whoever uses no more than asked for, or has asked for nothing, is left alone."""
    for script, memory in ((EAT.format(20), "64M"), (EAT.format(200), "")):
        assert list(wait_for_run(start(script, memory=memory))) == ["SUCCEEDED"]


def test_nothing_is_warned_of(service: ServiceProcess, tmp_path: Path) -> None:
    """There is nothing to say about memory that is limited."""
    (tmp_path / "run.py").write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = Run(entrypoint=str(tmp_path / "run.py"), localdir=True, cpus=1, memory="64M")
        run.start()
    wait_for_run(run)


def test_limit_holds_when_the_service_has_gone(
    service: ServiceProcess, start: Start, group: Path, tmp_path: Path
) -> None:
    """The limit outlives the service; the next one is started in the leaf, as by systemd, and limits memory, too."""
    first = start(EAT_WHEN_TOLD.format(200), str(tmp_path / "release"), memory="64M")
    wait_until_ready(service, only(first))
    service.kill()
    service.group = group / LEAF
    service.start()
    sessions.use(service.session())
    (tmp_path / "release").touch()
    for run in (Run(first.name), start(EAT.format(200), memory="64M")):
        assert list(wait_for_run(run)) == ["FAILED"]
        assert only(run).failure.error == "it used more than its 64M of memory"


def test_somebody_else_in_the_group(tmp_path: Path, group: Path) -> None:
    """A service that is not alone in its group leaves the group as it is, and warns."""
    with subprocess.Popen(["/bin/sh", "-c", ENTER, str(group), "sleep", "1000"]) as somebody:
        wait_until(lambda: str(somebody.pid) in (group / "cgroup.procs").read_text().split(), "somebody")
        service = _Enclosed(tmp_path, group)
        try:
            sessions.use(service.session())
            (tmp_path / "run.py").write_text("")
            run = Run(entrypoint=str(tmp_path / "run.py"), localdir=True, cpus=1, memory="64M")
            with pytest.warns(GridWarning, match="nothing keeps it from using more"):
                run.start()
            wait_for_run(run)
            assert not (group / LEAF).exists()
            assert (group / "cgroup.subtree_control").read_text().split() == []
        finally:
            somebody.kill()
            service.stop()
            end_everything(service.home)


MINE = str(os.getpid())


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("/a", {"cgroup.controllers": "cpu", "cgroup.type": "domain", "cgroup.procs": MINE}),
        ("/a", {"cgroup.controllers": "cpu memory", "cgroup.type": "domain", "cgroup.procs": f"{MINE}\n1\n"}),
        ("/a", {"cgroup.controllers": "cpu memory", "cgroup.type": "domain", "cgroup.procs": "0\n"}),
        ("/grid.service", {"cgroup.controllers": "cpu memory", "cgroup.type": "domain", "cgroup.procs": MINE}),
        ("/", {"cgroup.controllers": "cpu memory", "cgroup.procs": MINE}),
    ],
    ids=["no memory", "others", "others elsewhere", "unit", "topmost"],
)
def test_groups_that_are_left_alone(tmp_path: Path, path: str, files: dict[str, str]) -> None:
    """Nothing is done to a group that is not the service's own, or in which it could not be started again."""
    mounts = "31 23 0:28 / /groups rw - cgroup2 cgroup2 rw\n"
    proc = {"proc/self/mountinfo": mounts, "proc/self/cgroup": f"0::{path}\n"}
    there = {"cgroup.subtree_control": "", **files}
    write(tmp_path, {**proc, **{f"groups{path}/{name}": content for name, content in there.items()}})
    before = sorted(tmp_path.rglob("*"))
    assert not can_limit_memory(str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / f"groups{path}" / "cgroup.subtree_control").read_text() == ""
    assert own(str(tmp_path)) == f"{tmp_path}/groups{path}".rstrip("/")


def test_group_that_cannot_be_seen(tmp_path: Path) -> None:
    """A service whose group is outside of what is mounted makes none."""
    mounts = "31 23 0:28 / /groups rw - cgroup2 cgroup2 rw\n"
    write(tmp_path, {"proc/self/mountinfo": mounts, "proc/self/cgroup": "0::/../elsewhere\n"})
    assert own(str(tmp_path)) is None


def test_group_above_the_leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts have their groups beside that of a service that is in the leaf."""
    mounts = "31 23 0:28 / /groups rw - cgroup2 cgroup2 rw\n"
    write(tmp_path, {"proc/self/mountinfo": mounts, "proc/self/cgroup": f"0::/a/{LEAF}\n"})
    assert own(str(tmp_path)) == f"{tmp_path}/groups/a"
    monkeypatch.setenv("GRID_NO_CGROUPS", "1")
    assert own(str(tmp_path)) is None
