"""Tests of control groups that a script has nested in its own, where this user may make such groups."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from grid.service.executors.supervisor.cgroups import Cgroup, are_usable, own
from tests.support.trees import make_nested


@pytest.fixture
def group() -> Iterator[Cgroup]:
    """A group of the test's own."""
    if not are_usable():
        pytest.skip("no control groups can be made here")
    made = Cgroup(f"{own()}/grid-test-{os.getpid()}")
    assert made.make()
    yield made
    made.kill(spared=())
    subprocess.run(["find", made.path, "-depth", "-type", "d", "-execdir", "rmdir", "{}", ";"], check=False)


def test_nested_groups(group: Cgroup) -> None:
    """However deep a process has nested its groups, it is found, killed, and its groups are removed."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as process:
        innermost = make_nested(group.path, sys.getrecursionlimit() + 20, "inner")
        try:
            with open(os.open("cgroup.procs", os.O_WRONLY, dir_fd=innermost), "w", encoding="ascii") as file:
                file.write(str(process.pid))
        finally:
            os.close(innermost)
        assert group.members() == [process.pid]
        assert not group.remove()
        assert group.kill(spared=())
        process.wait(60)
    assert group.members() == []
    assert group.remove()
    assert not os.path.exists(group.path)
