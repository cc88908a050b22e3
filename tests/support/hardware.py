"""Machines that the tests do not have: their control groups as files, their GPUs by a module in place of NVML's.

Run as a module of a `Forked`, it serves a home on such a machine; nothing of the service is replaced but its world.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from grid.service.command.server import serve
from grid.service.system.machine import Machine, this_machine
from grid.service.system.settings import Options
from grid.service.system.world import World
from tests.support.commands import Forked
from tests.support.services import ServiceProcess, end_everything

A, B, C = (f"GPU-{letter * 8}-0000-4000-8000-{letter * 12}" for letter in "abc")
B_FIRST, B_SECOND = (f"MIG-{number * 8}-0000-5000-8000-{number * 12}" for number in "12")

GIB = 1024**3


def gpu(uuid: str, bus: int, model: str = "H100", **more: Any) -> dict[str, Any]:
    """A GPU; with `error`, the driver's word when it is asked for; with `parts`, those that MIG has made of it."""
    return {"uuid": uuid, "bus": bus, "model": model, **more}


def part(uuid: str, gpu_instance: int) -> dict[str, Any]:
    """A part of a GPU, with the only compute instance of its GPU instance."""
    return {"uuid": uuid, "gpu_instance": gpu_instance}


class NVMLError(Exception):
    """What the module raises."""


def nvml(gpus: list[dict[str, Any]], error: str = "") -> ModuleType:
    """Return what `import pynvml` finds on a machine with these GPUs, or with a driver that only has this to say."""
    module: Any = ModuleType("pynvml")

    def start() -> None:
        if error:
            raise NVMLError(error)

    def handle(number: int) -> dict[str, Any]:
        if "error" in gpus[number]:
            raise NVMLError(gpus[number]["error"])
        return gpus[number]

    def mig_mode(device: dict[str, Any]) -> tuple[int, int]:
        if "parts" not in device:
            raise NVMLError("Not Supported")
        return (1, 1)

    def part_handle(device: dict[str, Any], number: int) -> dict[str, Any]:
        if number >= len(device["parts"]):
            raise NVMLError("Not Found")
        return device["parts"][number]

    module.NVMLError = NVMLError
    module.NVML_DEVICE_MIG_ENABLE = 1
    module.nvmlInit = start
    module.nvmlShutdown = lambda: None
    module.nvmlDeviceGetCount = lambda: len(gpus)
    module.nvmlDeviceGetHandleByIndex = handle
    module.nvmlDeviceGetPciInfo = lambda device: SimpleNamespace(domain=0, bus=device["bus"], device=0)
    module.nvmlDeviceGetUUID = lambda device: device["uuid"]
    module.nvmlDeviceGetName = lambda device: device["model"]
    module.nvmlDeviceGetMigMode = mig_mode
    module.nvmlDeviceGetMaxMigDeviceCount = lambda device: 7
    module.nvmlDeviceGetMigDeviceHandleByIndex = part_handle
    module.nvmlDeviceGetGpuInstanceId = lambda device: device["gpu_instance"]
    module.nvmlDeviceGetComputeInstanceId = lambda device: 0
    return module


def write(root: Path, files: dict[str, str]) -> Path:
    """Make files below a folder that stands for the root of a machine; return the folder."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


class _Elsewhere(World):
    """A world in which the machine is another one."""

    def __init__(self, root: Path, cpus: int | None) -> None:
        self._root = root
        self._cpus = cpus

    def machine(self) -> Machine:
        there = this_machine(self._root)
        return Machine(self._cpus or there.cpus, there.memory_bytes, there.gpus, there.gpus_note)


class _ServiceElsewhere(ServiceProcess):
    """A service on a machine that is described in a file."""

    def __init__(self, home: Path, description: Path, **environment: str) -> None:
        self._description = description
        super().__init__(home, **environment)

    def launch(self, *more: str) -> None:
        arguments = [str(self.home), str(self._description)]
        self.process = Forked(arguments, self._environment, self.log, self.log, module="tests.support.hardware")


@contextmanager
def service_elsewhere(
    home: Path,
    *,
    gpus: list[dict[str, Any]] | None = None,
    cpus: int = 0,
    files: dict[str, str] | None = None,
    **environment: str,
) -> Iterator[ServiceProcess]:
    """Yield a service on a machine with these GPUs, CPUs and files, and leave nothing of it behind."""
    driver = {} if gpus is None else {"dev/nvidiactl": ""}
    root = write(home / "root", {"proc/meminfo": "MemTotal: 25165824 kB\n", **driver, **(files or {})})
    description = home / "machine.json"
    description.write_text(json.dumps({"root": str(root), "gpus": gpus or [], "cpus": cpus}))
    service = _ServiceElsewhere(home, description, **environment)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()
        end_everything(service.home)


def main(arguments: list[str]) -> int:
    """Serve a home, the first argument, on the machine that a file describes, the second, until told to stop."""
    home, description = arguments
    described = json.loads(Path(description).read_text())
    sys.modules["pynvml"] = nvml(described["gpus"])
    world = _Elsewhere(Path(described["root"]), described["cpus"])
    asyncio.run(serve(Options(home=Path(home), embedded=True, grace_seconds=1), world))
    return 0
