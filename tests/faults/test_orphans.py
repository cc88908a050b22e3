"""No process of an experiment is left when its end is reported, whatever the script did and whatever ended it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from grid.service.executors.protocol import AttemptName, Job
from grid.service.executors.supervisor.cgroups import are_usable, own
from grid.shared.wire import Reason
from tests.support.executions import Execution, execution, until

# What a script starts, and how many processes that makes at least. The mark is among their arguments, where no emptied
# environment takes it away: `sleep` adds up whatever it is given.
SLEEP = f"{shutil.which('sleep')} 1000 $MARK"
SETSID = f"{shutil.which('setsid')} --fork"
FORKING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("forking", "w").close()
for _ in range(2):
    if os.fork() == 0: break
end = time.monotonic() + 60
while time.monotonic() < end:
    if os.fork(): os._exit(0)
    time.sleep(0.004)
"""
SCRIPTS = {
    "plain": ("", 0),
    "children": (f"{SLEEP} & {SLEEP} & ({SLEEP} & {SLEEP}) &", 4),
    "double fork": (f"({SLEEP} &) ; (({SLEEP} &) &)", 2),
    "session": (f"setsid {SLEEP} & {SETSID} {SLEEP}", 2),
    "nohup": (f"nohup {SLEEP} >/dev/null 2>&1 & nohup setsid {SLEEP} &", 2),
    "bare": (f"env -i {SLEEP} & env -i {SETSID} {SLEEP}", 2),
    "quiet": (f"(cd / && exec {SETSID} {SLEEP}) >/dev/null 2>&1 </dev/null", 1),
    "daemon": (f"(cd / && exec env -i {SETSID} {SLEEP}) >/dev/null 2>&1 </dev/null", 1),
    "deaf": (f"trap '' TERM HUP INT; {SLEEP} & setsid {SLEEP} &", 2),
    "stopped": (f"{SLEEP} & kill -STOP $!; setsid sh -c 'kill -STOP $$; sleep 1000' x $MARK &", 2),
    # They come and go too quickly to be counted.
    "forking": (f"setsid {sys.executable} -c '{FORKING}' $MARK & until test -e forking; do sleep 0.01; done", 0),
}

REASONS = {
    "cancel": Reason.CANCELLED_BY_USER,
    "stop": Reason.SERVICE_STOPPED,
    "timeout": Reason.TIMEOUT,
    "end": Reason.EXIT_CODE,
    "supervisor": Reason.LOST,
    "supervisor and service": Reason.LOST,
}


@dataclass
class Family:
    """A script, and everything that it starts."""

    name: str
    job: Job
    mark: str
    left: list[int] | None = None
    """Which processes were alive when the end was reported."""


@pytest.fixture
def mark() -> Iterator[str]:
    """The beginning of the marks of a test's families; processes with such a mark are killed after the test."""
    beginning = f"0.0{os.getpid():08}"
    yield beginning
    for pid in marked(beginning):
        os.kill(pid, signal.SIGKILL)


def marked(beginning: str) -> list[int]:
    """The processes that have an argument with this beginning; zombies have no arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            arguments = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(argument.startswith(beginning) for argument in arguments):
            found.append(int(name))
    return found


@pytest.mark.parametrize("way", REASONS)
@pytest.mark.parametrize("cgroups", [True, False], ids=["cgroups", "no-cgroups"])
def test_no_process_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, way: str, cgroups: bool
) -> None:
    """Children, daemons, deaf or stopped processes, and those that keep forking are gone when the end is reported."""
    if cgroups and not are_usable():
        pytest.skip("there are no control groups (version 2) that could be written")
    if not cgroups:
        monkeypatch.setenv("GRID_NO_CGROUPS", "1")
    asyncio.run(_nobody_is_left(tmp_path, mark, way, cgroups=cgroups))


async def _nobody_is_left(folder: Path, mark: str, way: str, *, cgroups: bool) -> None:
    async with execution(folder, grace_seconds=0.3) as running:
        # Without a group, supervisor and spawner, a daemon has nothing left by which it could be recognised.
        names = [name for name in SCRIPTS if cgroups or name != "daemon" or way != "supervisor and service"]
        families = [_family(running, name, f"{mark}{number:03}", way) for number, name in enumerate(names)]
        _look_at_ends(running, families)
        for family in families:
            await running.executor.start(family.job)
        if way not in ("timeout", "end"):
            await _are_all_there(running, families)
        await _bring_about(running, families, way)
        if way != "supervisor and service":
            await _have_ended(running, families, way, cgroups=cgroups)
    if way == "supervisor and service":
        async with execution(folder, grace_seconds=0.3) as running:
            _look_at_ends(running, families)
            for family in families:
                await running.executor.adopt(family.job, was_running=True, handed_over_at=None)
            await _have_ended(running, families, way, cgroups=cgroups)


def _family(running: Execution, name: str, mark: str, way: str) -> Family:
    last = "touch ready" if way == "end" else f"touch ready; exec {SLEEP}"
    timeout = 2.0 if way == "timeout" else None
    number = int(mark[-3:]) + 1
    job = running.job(f"MARK=$1\n{SCRIPTS[name][0]}\n{last}\n", mark, number=number, timeout_seconds=timeout)
    return Family(name, job, mark)


def _look_at_ends(running: Execution, families: list[Family]) -> None:
    """Let the listener check which processes are alive as soon as it is told of an end."""
    on_ended = running.told.on_ended

    def look(attempt: AttemptName, ending: object) -> None:
        (family,) = (each for each in families if each.job.attempt == attempt)
        family.left = marked(family.mark)
        on_ended(attempt, ending)

    running.told.on_ended = look


async def _are_all_there(running: Execution, families: list[Family]) -> None:
    for each in families:
        ready = running.folder(each.job).work / "ready"
        await until(ready.exists, f"the script {each.name}")
        least = SCRIPTS[each.name][1] + 1
        await until(lambda each=each, least=least: len(marked(each.mark)) >= least, f"the processes of {each.name}")


async def _bring_about(running: Execution, families: list[Family], way: str) -> None:
    if way == "supervisor and service":
        await running.executor.close()
    for each in families:
        if way == "cancel":
            await running.executor.cancel(each.job.attempt)
        elif way == "stop":
            await running.executor.stop(each.job.attempt)
        elif "supervisor" in way:
            os.kill(int(os.readlink(running.folder(each.job).claim).split(" ")[0]), signal.SIGKILL)


async def _have_ended(running: Execution, families: list[Family], way: str, *, cgroups: bool) -> None:
    for each in families:
        ending = await running.ending(each.job)
        assert ending.reason is REASONS[way], (each.name, ending)
        assert each.left == [], each.name
        group = running.folder(each.job).cgroup
        assert group.is_symlink() == cgroups, each.name
        assert not group.exists(), each.name
    assert len(running.told.ended) == len(families)


def test_cgroups_can_be_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control groups can be switched off, and scripts run all the same."""
    monkeypatch.setenv("GRID_NO_CGROUPS", "1")
    assert "grid-" not in asyncio.run(_group_of_script(tmp_path))


@pytest.mark.skipif(not are_usable(), reason="there are no control groups (version 2) that could be written")
def test_cgroup_that_cannot_be_made(tmp_path: Path) -> None:
    """A script has a group of its own; if that cannot be made, here because its name is taken, it runs without one."""
    name = asyncio.run(_group_of_script(tmp_path)).rpartition("/")[2].strip()
    assert name.startswith("grid-")
    assert name.endswith("-1-1")
    group = Path(f"{own()}/{name.removesuffix('1-1')}2-1")
    group.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as somebody:  # else it would be swept away
        (group / "cgroup.procs").write_text(str(somebody.pid))
        assert "grid-" not in asyncio.run(_group_of_script(tmp_path, number=2))
        assert somebody.poll() is None
        somebody.kill()
    group.rmdir()


@pytest.mark.skipif(not are_usable(), reason="there are no control groups (version 2) that could be written")
def test_group_that_was_left(tmp_path: Path) -> None:
    """A group that is empty, because its supervisor was killed too, is removed at the next start."""
    group = Path(f"{own()}/grid-left-{os.getpid()}")
    group.mkdir()
    asyncio.run(_group_of_script(tmp_path))
    assert not group.exists()


async def _group_of_script(folder: Path, number: int = 1) -> str:
    async with execution(folder) as running:
        job = running.job("grep ^0:: /proc/self/cgroup", number=number)
        await running.executor.start(job)
        assert (await running.ending(job)).succeeded
        return running.folder(job).output.read_text()
