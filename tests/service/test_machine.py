"""Tests of what the service may use of its machine: CPUs, memory, and the GPUs that it was given."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grid.service.system import control_groups, gpus
from grid.service.system.gpus import Gpu, Gpus, NoSuchGpus, choose, visible
from grid.service.system.machine import cpu_count, memory_bytes, this_machine
from tests.support.hardware import B_FIRST, B_SECOND, GIB, A, B, C, gpu, nvml, part, write

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
OF_CONTAINER = "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
MEMORY = {"proc/meminfo": "MemTotal:       25165824 kB\nMemFree:         1 kB\n"}


def machine(root: Path, mounts: str, group: str, files: dict[str, str]) -> Path:
    """A machine whose processes are in a control group; the files are those of control groups."""
    proc = {"proc/self/mountinfo": mounts, "proc/self/cgroup": group, **MEMORY}
    return write(root, {**proc, **{f"sys/fs/cgroup/{name}": content for name, content in files.items()}})


@pytest.mark.parametrize(
    ("mounts", "group", "files", "quota"),
    [
        (V2, "0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, math.inf),
        (V2, "0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        (V2, "0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        (V2, "0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "800000 200000\n"}, 3),
        (V2, "0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        (V2, "0::/\n", {}, math.inf),
        (V2, "0::/../elsewhere\n", {"cpu.max": "200000 100000\n"}, 2),
        (V2.replace("0:28 /", "0:28 /top", 1), "0::/top/a\n", {"a/cpu.max": "200000 100000\n"}, 2),
        (V2.replace("0:28 /", "0:28 /top", 1), "0::/topmost\n", {"most/cpu.max": "1 1\n", "cpu.max": "2 1\n"}, 2),
        (HYBRID, "4:cpu,cpuacct:/a\n0::/\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n"}, math.inf),
        (
            HYBRID,
            "4:cpu,cpuacct:/a\n0::/\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        (
            OF_CONTAINER,
            "4:cpu:/docker/abc\n",
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("", "", {}, math.inf),
    ],
)
def test_quota(tmp_path: Path, mounts: str, group: str, files: dict[str, str], quota: float) -> None:
    """The tightest quota counts, of the process's own group or of one above it, as far up as can be seen."""
    assert control_groups.cpu_quota(str(machine(tmp_path, mounts, group, files))) == quota


def test_cpus_are_rounded_down_but_not_to_none(tmp_path: Path) -> None:
    """A quota of less than two CPUs is one CPU, and so is one of less than that; more than there are change nothing."""
    for quota, cpus in (("199999 100000", 1), ("1000 100000", 1), ("9999999 100", len(os.sched_getaffinity(0)))):
        folder = machine(tmp_path / quota, V2, "0::/\n", {"cpu.max": quota})
        assert cpu_count(folder) == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_cpus_of_the_affinity_mask() -> None:
    """Only the CPUs that the process may run on count."""
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
        "from grid.service.system.machine import cpu_count; print(cpu_count())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"


@pytest.mark.parametrize(
    ("mounts", "group", "files", "size"),
    [
        ("", "", {}, 24 * GIB),
        (V2, "0::/a/b\n", {"a/b/memory.max": "max\n"}, 24 * GIB),
        (V2, "0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{8 * GIB}\n"}, 8 * GIB),
        (V2, "0::/a/b\n", {"a/b/memory.max": f"{99 * GIB}\n"}, 24 * GIB),
        (HYBRID, "7:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": f"{4 * GIB}\n"}, 4 * GIB),
        (HYBRID, "7:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, 24 * GIB),
    ],
)
def test_memory(tmp_path: Path, mounts: str, group: str, files: dict[str, str], size: int) -> None:
    """The machine's memory counts, or what the process's control groups leave of it."""
    assert memory_bytes(machine(tmp_path, mounts, group, files)) == size


def test_this_machine() -> None:
    """The real files can be read."""
    found = this_machine()
    assert 1 <= found.cpus <= (os.cpu_count() or 1)
    assert 2**20 < found.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# GPUs


def counted(monkeypatch: pytest.MonkeyPatch, *devices: dict, error: str = "") -> tuple[tuple[Gpu, ...], str]:
    """What is counted on a machine with these GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml(list(devices), error))
    return gpus.count()


THREE = (gpu(B, 0x41), gpu(A, 0x1A), gpu(C, 0x88))
DIVIDED = (gpu(A, 1), gpu(B, 2, parts=[part(B_FIRST, 7), part(B_SECOND, 8)]), gpu(C, 3))


def test_gpus_in_the_order_of_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order the driver counts in, a GPU's place is that of its PCI address."""
    found, note = counted(monkeypatch, *THREE)
    assert [(each.id, each.position) for each in found] == [(A, 0), (B, 1), (C, 2)]
    assert note == ""


def test_gpus_that_a_container_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver counts the host's GPUs in a container, too; only those that it lets the container use are there."""
    withheld = [gpu(each, bus, error="Insufficient Permissions") for bus, each in enumerate((A, C), 1)]
    found, _ = counted(monkeypatch, withheld[0], gpu(B, 9), withheld[1])
    assert [(each.id, each.position) for each in found] == [(B, 0)]


def test_parts_take_the_place_of_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU that MIG divides the parts can be used, and not the whole; one without parts cannot be used."""
    found, _ = counted(monkeypatch, *DIVIDED)
    assert [each.id for each in found] == [A, B_FIRST, B_SECOND, C]
    assert [each.position for each in found] == [0, 1, 1, 2]
    found, _ = counted(monkeypatch, gpu(A, 1, parts=[]), gpu(B, 2))
    assert [(each.id, each.position) for each in found] == [(B, 1)]


def test_driver_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that answers nothing has no GPUs, and what it says is kept for whoever asks for one."""
    assert counted(monkeypatch, error="NVML Shared Library Not Found") == (
        (),
        "NVIDIA's driver shows none: NVML Shared Library Not Found",
    )


def test_nothing_is_imported_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's module is imported only where a driver is; if it is missing there, the message says how to install it."""
    monkeypatch.setitem(sys.modules, "pynvml", None)  # to import it fails
    root = write(tmp_path, MEMORY)
    assert this_machine(root).gpus_note == ""
    write(root, {"proc/driver/nvidia/version": ""})
    found = this_machine(root)
    assert found.gpus == ()
    assert "pip install nvidia-ml-py" in found.gpus_note


def whole(*uuids: str) -> list[Gpu]:
    """GPUs of one model, in this order."""
    return [Gpu(uuid, position, "H100") for position, uuid in enumerate(uuids)]


def parts() -> list[Gpu]:
    """A whole GPU, the parts of another, and a whole one."""
    names = [(B_FIRST, f"MIG-{B}/7/0"), (B_SECOND, f"MIG-{B}/8/0")]
    return [Gpu(A, 0), *(Gpu(uuid, 1, "", B, older_name) for uuid, older_name in names), Gpu(C, 2)]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, [A, B, C]),
        ("", []),
        ("  ", []),
        ("0", [A]),
        ("2,0", [C, A]),
        (" 1 , 2 ", [B, C]),
        ("+1", [B]),
        ("1gpu,2", [B, C]),  # as C reads a number
        ("-1", []),
        ("0,2,-1,1", [A, C]),
        ("0,3,1", [A]),
        ("0,,1", [A]),
        ("NoDevFiles", []),
        ("0,0", []),
        ("0,1,0", []),
        ("0,-1,0", [A]),
        (f"{B},{A}", [B, A]),
        (f"{B[:8]},{A[:7]}", [B, A]),
        (f"{B[:8]},{B}", []),
        ("GPU-", []),  # the beginning of more than one
        (f"{A},GPU-0", [A]),
        (f"{A},1", [A]),
        (f"1,{A}", [B]),
        (f"{A},MIG-{B}/7/0", [A]),
        ("99999999999999999999", []),
    ],
)
def test_what_cuda_would_show(variable: str | None, expected: list[str]) -> None:
    """The list means what it means to CUDA: it ends at what is wrong in it, and is void if it names a GPU twice."""
    assert [each.id for each in visible(variable, whole(A, B, C))] == expected


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, [A, B_FIRST, B_SECOND, C]),
        ("1", [B_FIRST, B_SECOND]),
        ("2,1", [C, B_FIRST, B_SECOND]),
        (B, [B_FIRST, B_SECOND]),
        (B_SECOND, [B_SECOND]),
        (f"{B_SECOND[:8]},{B_FIRST}", [B_SECOND, B_FIRST]),
        (f"MIG-{B}/8/0", [B_SECOND]),
        (f"MIG-{B[:9]}/8/0,MIG-{B[:9]}/7/0", [B_SECOND, B_FIRST]),
        (f"MIG-{B}/9/0", []),
        (f"{B_FIRST},{B_FIRST}", []),
        (f"{B_FIRST},{A}", [B_FIRST]),
    ],
)
def test_what_cuda_would_show_of_parts(variable: str | None, expected: list[str]) -> None:
    """A part is named by its UUID, or as older drivers name it; whoever was given the whole may use its parts."""
    assert [each.id for each in visible(variable, parts())] == expected


def test_how_a_program_is_told() -> None:
    """Indices, ascending, where there are any and the service was not given UUIDs itself; else UUIDs, in full."""
    environment = {"CUDA_VISIBLE_DEVICES": "2,1"}
    assert choose(whole(A, B, C), "", environment, None).variable([C, B]) == "1,2"
    environment = {"CUDA_VISIBLE_DEVICES": f"{C[:8]},{B[:8]}"}
    assert choose(whole(A, B, C), "", environment, None).variable([C, B]) == f"{C},{B}"
    divided = choose(parts(), "", {}, None)
    assert [divided.variable([each]) for each in (A, B_SECOND, C)] == ["0", B_SECOND, "2"]
    assert divided.variable([]) == ""
    assert divided.variable(["GPU-that-has-gone"]) == "GPU-that-has-gone"


def test_how_many_are_shared() -> None:
    """The operator may share fewer than there are, and not more; the message says why there are no more."""
    environment = {"CUDA_VISIBLE_DEVICES": "2,1"}
    assert [each.id for each in choose(whole(A, B, C), "", environment, 1).usable] == [C]
    with pytest.raises(NoSuchGpus, match=r"3 GPUs, but 2 can be used: the service was .*CUDA_VISIBLE_DEVICES='2,1'"):
        choose(whole(A, B, C), "", environment, 3)
    assert (
        choose(whole(A, B, C), "", environment, None).note == "the service was started with CUDA_VISIBLE_DEVICES='2,1'"
    )
    assert choose(whole(A, B, C), "", {}, None).note == ""


@pytest.mark.parametrize(
    ("variable", "most", "expected"),
    [(None, 2, "0 1"), ("3,1", 2, "3 1"), ("3,1", 1, "3"), (f"{A},{B}", 1, A), (f"{B_FIRST},MIG-{B}/8/0", 1, B_FIRST)],
)
def test_operator_is_believed_where_nothing_can_be_counted(variable: str | None, most: int, expected: str) -> None:
    """Without a way to count GPUs they are as many as the operator says, and those of the list if there is one."""
    environment = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}
    chosen = choose((), "no driver", environment, most)
    assert [each.id for each in chosen.usable] == expected.split(" ")
    assert chosen.variable([each.id for each in chosen.usable]) == ",".join(sorted(expected.split(" ")))


def test_operator_is_not_believed_against_the_list() -> None:
    """An empty list gives the service no GPUs, whatever the operator says."""
    with pytest.raises(NoSuchGpus, match="0 can be used: the service was started with CUDA_VISIBLE_DEVICES=''"):
        choose((), "", {"CUDA_VISIBLE_DEVICES": ""}, 1)


def test_doubt_about_the_order() -> None:
    """CUDA's own order is not that of addresses where models differ: a list of indices may then mean other GPUs."""
    models = [Gpu(A, 0, "T4"), Gpu(B, 1, "H100")]
    by_index = {"CUDA_VISIBLE_DEVICES": "0"}
    assert "several models" in choose(models, "", by_index, None).doubt
    for environment in ({}, {**by_index, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, {"CUDA_VISIBLE_DEVICES": A}):
        assert choose(models, "", environment, None).doubt == ""
    assert choose(whole(A, B), "", by_index, None).doubt == ""


def test_gpus_of_attempts_that_an_older_service_has_started() -> None:
    """Older services have stored indices; a UUID stays as it is, and so does what nobody knows."""
    found = Gpus(all=tuple(parts()))
    assert [found.find(each) for each in (0, 2, B_FIRST, 7)] == [A, C, B_FIRST, "7"]
