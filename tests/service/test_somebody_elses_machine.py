"""A service on machines that the tests do not have, as a process: whose GPUs it uses, and what the queue counts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid import Run, list_clusters
from grid.errors import GridWarning, Unsupported
from grid.session import session as sessions
from tests.support.embedded import record
from tests.support.experiments import database_of, only, output_of, starter
from tests.support.hardware import B_FIRST, B_SECOND, A, B, C, gpu, part, service_elsewhere
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

FOUR = [gpu(A, 1), gpu(B, 2), gpu(C, 3), gpu("GPU-d", 4)]
TELL = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['CUDA_DEVICE_ORDER'])"
HOLD = "import os, sys, time\nprint('begun')\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start runs of scripts."""
    return starter(tmp_path)


def told(service: ServiceProcess, run: Run) -> list[str]:
    """What the scripts of a run were told, in order."""
    sessions.use(service.session())
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    return [output_of(service, each).strip() for each in run]


@pytest.mark.parametrize(
    ("variable", "each", "expected"),
    [
        (None, 2, "0,1"),
        ("3", 1, "3"),
        ("2,1", 2, "1,2"),
        (C[:9], 1, C),
        ("1", 0, ""),
    ],
)
def test_given_gpus(tmp_path: Path, start: Start, variable: str | None, each: int, expected: str) -> None:
    """An experiment gets GPUs of those that the service was given, and no other; none if it asked for none."""
    given = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}
    with service_elsewhere(tmp_path, gpus=FOUR, **given) as service:
        sessions.use(service.session())
        assert told(service, start(TELL, gpus=each)) == [f"{expected} PCI_BUS_ID".strip()]
        assert record(service.home)["cuda_visible_devices"] == variable


@pytest.mark.parametrize(
    ("variable", "gpus", "why"),
    [
        ("", FOUR, "the service was started with CUDA_VISIBLE_DEVICES=''"),
        ("-1", FOUR, "the service was started with CUDA_VISIBLE_DEVICES='-1'"),
        (None, [gpu(A, 1, error="Insufficient Permissions")], ""),
        (None, None, ""),
    ],
)
def test_given_none(tmp_path: Path, start: Start, variable: str | None, gpus: list | None, why: str) -> None:
    """A service that was given no GPUs has none, whatever the machine or the host of the container has."""
    given = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}
    with service_elsewhere(tmp_path, gpus=gpus, **given) as service:
        sessions.use(service.session())
        (cluster,) = list_clusters()
        assert cluster.gpus == 0
        with pytest.raises(Unsupported, match="asks for 1 GPUs; this machine has 0") as caught:
            start(TELL, gpus=1)
        assert why in str(caught.value)


def test_parts_of_gpus(tmp_path: Path, start: Start) -> None:
    """Parts that MIG has made are told by UUID, whole GPUs by index."""
    divided = [gpu(A, 1, parts=[part(B_FIRST, 1), part(B_SECOND, 2)]), gpu(B, 2)]
    with service_elsewhere(tmp_path, gpus=divided, cpus=3) as service:
        sessions.use(service.session())
        run = start(f"{TELL}\n{HOLD}", f"{tmp_path / 'release'} --n '[1, 2, 3]'", gpus=1)
        wait_until(lambda: list(run.status()) == ["RUNNING"], "all three")
        (tmp_path / "release").touch()
        assert [each.split()[0] for each in told(service, run)] == [B_FIRST, B_SECOND, "1"]


def test_gpus_are_held_through_a_restart(tmp_path: Path, start: Start) -> None:
    """GPUs are known by UUID: what runs keeps its own when a service comes back that counts in another order."""
    with service_elsewhere(tmp_path, gpus=[gpu(A, 1), gpu(B, 2)], cpus=3) as service:
        sessions.use(service.session())
        first = start(HOLD, str(tmp_path / "release"), gpus=1)
        wait_until(lambda: "begun" in output_of(service, only(first)), "the script")
        with database_of(service) as connection:
            assert connection.execute("SELECT gpu_ids FROM experiments").fetchall() == [(json.dumps([A]),)]
        service.kill()
        (tmp_path / "machine.json").write_text(
            (tmp_path / "machine.json").read_text().replace('"bus": 1', '"bus": 3')
        )  # A comes after B now
        service.start()
        sessions.use(service.session())
        second, third = start(TELL, gpus=1), start(TELL, gpus=1)
        assert told(service, second) == ["0 PCI_BUS_ID"]
        assert told(service, third) == ["0 PCI_BUS_ID"]
        (tmp_path / "release").touch()
        assert list(wait_for_run(Run(first.name))) == ["SUCCEEDED"]


def test_gpus_of_an_older_service_are_held(tmp_path: Path, start: Start) -> None:
    """What a service of an older version has started holds the GPU whose index it stored."""
    with service_elsewhere(tmp_path, gpus=[gpu(A, 1), gpu(B, 2)], cpus=3) as service:
        sessions.use(service.session())
        first = start(HOLD, str(tmp_path / "release"), gpus=1)
        wait_until(lambda: "begun" in output_of(service, only(first)), "the script")
        service.kill()
        with database_of(service) as connection:
            connection.execute("UPDATE experiments SET gpu_ids = '[0]'")
        service.start()
        sessions.use(service.session())
        assert told(service, start(TELL, gpus=1)) == ["1 PCI_BUS_ID"]
        (tmp_path / "release").touch()
        assert list(wait_for_run(Run(first.name))) == ["SUCCEEDED"]


# Memory


@pytest.fixture
def twenty_cpus(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service on a machine of 20 CPUs and 24 GB of memory."""
    with service_elsewhere(tmp_path, cpus=20) as service:
        sessions.use(service.session())
        yield service


def test_memory_is_counted(twenty_cpus: ServiceProcess, tmp_path: Path, start: Start) -> None:
    """Of twenty experiments of 8 GB three run at once on 24 GB, however many CPUs there are; the others follow."""
    run = start(HOLD, f"{tmp_path / 'release'} --n 'range(20)'", memory="8G")
    wait_until(lambda: len(run.status().get("RUNNING", [])) == 3, "three that run")
    assert {word: len(names) for word, names in run.status().items()} == {"QUEUED": 17, "RUNNING": 3}
    with database_of(twenty_cpus) as connection:
        (most,) = connection.execute("SELECT count(*) FROM experiments WHERE gpu_ids IS NOT NULL").fetchone()
        assert most == 3
    (tmp_path / "release").touch()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]


def test_nothing_overtakes_what_waits_for_memory(twenty_cpus: ServiceProcess, tmp_path: Path, start: Start) -> None:
    """While the first in the queue waits for memory, one behind it waits, too, even if it claims none."""
    release = str(tmp_path / "release")
    first, waits, none = start(HOLD, release, memory="20G"), start(HOLD, release, memory="8G"), start(HOLD, release)
    wait_until(lambda: "begun" in output_of(twenty_cpus, only(first)), "the script")
    # Another change, which makes the scheduler look at the queue again.
    start("print(1)").cancel()
    assert [list(each.status()) for each in (waits, none)] == [["QUEUED"], ["QUEUED"]]
    (tmp_path / "release").touch()
    for each in (first, waits, none):
        assert list(wait_for_run(each)) == ["SUCCEEDED"]


def test_memory_is_held_through_a_restart(twenty_cpus: ServiceProcess, tmp_path: Path, start: Start) -> None:
    """The memory of what runs is held when the service comes back."""
    first = start(HOLD, str(tmp_path / "release"), memory="20G")
    wait_until(lambda: "begun" in output_of(twenty_cpus, only(first)), "the script")
    twenty_cpus.kill()
    twenty_cpus.start()
    sessions.use(twenty_cpus.session())
    fits, waits = start("print(1)", memory="4G"), start("print(1)", memory="5G")
    assert list(wait_for_run(fits)) == ["SUCCEEDED"]
    assert list(waits.status()) == ["QUEUED"]
    (tmp_path / "release").touch()
    assert list(wait_for_run(waits)) == ["SUCCEEDED"]


def test_more_memory_than_there_is(twenty_cpus: ServiceProcess, tmp_path: Path) -> None:
    """More than the machine has is not refused: a warning says what each experiment gets, and it has its turn."""
    (tmp_path / "run.py").write_text("print(1)")
    run = Run(entrypoint=str(tmp_path / "run.py"), localdir=True, cpus=1, memory="1T")
    with pytest.warns(GridWarning) as caught:
        run.start()
    words = "each experiment asks for 1T of memory; this machine has 24G, so it gets that"
    assert words in [str(each.message) for each in caught]
    assert list(wait_for_run(run)) == ["SUCCEEDED"]


def test_memory_of_a_control_group(tmp_path: Path, start: Start) -> None:
    """In a container its limit counts, and not the memory of the host."""
    mounts = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    files = {"proc/self/mountinfo": mounts, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{2**30}\n"}
    with service_elsewhere(tmp_path, cpus=20, files=files) as service:
        sessions.use(service.session())
        run = start(HOLD, f"{tmp_path / 'release'} --n 'range(3)'", memory="512M")
        wait_until(lambda: len(run.status().get("RUNNING", [])) == 2, "two that run")
        assert len(run.status()["QUEUED"]) == 1
        (tmp_path / "release").touch()
        assert list(wait_for_run(run)) == ["SUCCEEDED"]


def test_less_memory_than_before(twenty_cpus: ServiceProcess, tmp_path: Path, start: Start) -> None:
    """What asked for more than a smaller machine has does not wait for ever."""
    blocking = start(HOLD, str(tmp_path / "release"), cpus=20)
    run = start("print(1)", memory="20G")
    wait_until(lambda: "begun" in output_of(twenty_cpus, only(blocking)), "the script")
    twenty_cpus.kill()
    (tmp_path / "root" / "proc" / "meminfo").write_text("MemTotal: 1048576 kB\n")
    (tmp_path / "release").touch()
    twenty_cpus.start()
    sessions.use(twenty_cpus.session())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(wait_for_run(Run(run.name))) == ["SUCCEEDED"]
