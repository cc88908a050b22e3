"""The local cluster, which is this machine: its resources, what it can do for a run, and how it runs a script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from grid.service.domain import data_links
from grid.service.domain.catalogue import Catalogue, InstanceType
from grid.service.domain.cluster import Resources
from grid.service.domain.errors import (
    ArgumentUnsupported,
    DataMissing,
    LauncherMissing,
    RunnerMissing,
    TooFewGpus,
    TooLittleSpace,
)
from grid.service.domain.launching import RUNNERS, Launch, module_of
from grid.service.system import gpus
from grid.service.system.gpus import Gpus
from grid.service.system.machine import Machine
from grid.service.system.settings import OptionError, Options
from grid.service.system.workspace import Workspace
from grid.shared import environment
from grid.shared.wire import DEFAULT_CLUSTER, experiment_name, memory_bytes, memory_text

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS")
"""How many threads numeric libraries use: left alone, each of several experiments takes the whole machine."""

_NO_DATASTORES = "the local cluster has no datastores; give the script a path"


class LocalCluster:
    """The machine that the service runs on, as a `Cluster`.

    Parameters
    ----------
    catalogue
        The instance types that may be asked for.
    resources
        What all experiments share.
    shared
        Which GPUs these are.
    workspace
        Where working copies are made.
    limits_memory
        Whether an experiment cannot use more memory than it asked for.
    """

    name = DEFAULT_CLUSTER

    def __init__(
        self, catalogue: Catalogue, resources: Resources, shared: Gpus, workspace: Workspace, *, limits_memory: bool
    ) -> None:
        self.catalogue = catalogue
        self.resources = resources
        self.gpu_ids = [each.id for each in shared.usable]
        self._gpus = shared
        self._workspace = workspace
        self.limits_memory = limits_memory

    @classmethod
    def of(
        cls, machine: Machine, options: Options, catalogue: Catalogue, workspace: Workspace, *, limits_memory: bool
    ) -> LocalCluster:
        """Return a cluster with what the machine has, or as much of it as the options say.

        Raises
        ------
        OptionError
            If they say more GPUs than can be used.
        """
        try:
            chosen = gpus.choose(machine.gpus, machine.gpus_note, os.environ, options.gpus)
        except gpus.NoSuchGpus as error:
            message = f"--gpus={options.gpus}: {error}"
            raise OptionError(message) from error
        memory = options.memory_bytes or machine.memory_bytes
        resources = Resources(options.cpus or machine.cpus, len(chosen.usable), memory)
        return cls(catalogue, resources, chosen, workspace, limits_memory=limits_memory)

    def check(self, settings: Mapping[str, Any]) -> tuple[InstanceType, Resources, list[str]]:
        """See `Cluster.check`."""
        instance = self.catalogue.find(settings["instanceType"])
        self._refuse(settings)
        warnings = [warning for condition, warning in self._differences(settings) if condition]
        cpus = settings["cpus"] or instance.cpus
        gpu_count = settings["gpus"] or instance.gpus
        if cpus > self.resources.cpus:
            warnings.append(
                f"each experiment asks for {cpus} CPUs; this machine has {self.resources.cpus}, so it gets those"
            )
            cpus = self.resources.cpus
        if gpu_count > self.resources.gpus:
            raise TooFewGpus(gpu_count, self.resources.gpus, self._gpus.note)
        if gpu_count:
            warnings += self._about_gpus(gpu_count)
        memory = memory_bytes(settings["memory"])
        if memory > self.resources.memory:
            warnings.append(
                f"each experiment asks for {settings['memory']} of memory; "
                f"this machine has {memory_text(self.resources.memory)}, so it gets that"
            )
            memory = self.resources.memory
        if not gpu_count and self.resources.gpus:
            warnings.append(
                'no GPUs were asked for, so experiments run with CUDA_VISIBLE_DEVICES=""; gpus=1 gives each of them one'
            )
        return instance, Resources(cpus, gpu_count, memory), warnings

    def _about_gpus(self, asked: int) -> Sequence[str]:
        """Return warnings for a run whose experiments get that many GPUs each."""
        warnings = [self._gpus.doubt] if self._gpus.doubt else []
        if asked > 1 and any(each.is_part for each in self._gpus.usable):
            warnings.append(f"each experiment asks for {asked} GPUs; of those that MIG has made, CUDA uses only one")
        return warnings

    def gpu_id(self, stored: str | int) -> str:
        """See `Cluster.gpu_id`."""
        return self._gpus.find(stored)

    def _refuse(self, settings: Mapping[str, Any]) -> None:
        if settings["dockerfile"]:
            raise ArgumentUnsupported(
                f"dockerfile={settings['dockerfile']!r}", "the local cluster does not build images"
            )
        for field, name in (("datastoreName", "datastore_name"), ("datastoreVersion", "datastore_version")):
            if settings[field]:
                raise ArgumentUnsupported(f"{name}={settings[field]!r}", _NO_DATASTORES)
        if settings["datastoreMountDir"]:
            raise ArgumentUnsupported("datastore_mount_dir", _NO_DATASTORES)
        if any((settings.get("actions") or {}).values()):
            raise ArgumentUnsupported(
                "actions", "the local cluster does not run shell commands around a script; put them into it"
            )
        entrypoint = settings["entrypoint"]
        runner = None if module_of(entrypoint) else RUNNERS.get(Path(entrypoint).suffix)
        if settings.get("launcher"):
            return  # that starts the script, whatever it is
        if runner is not None and settings["framework"] == "TORCHELASTIC":
            raise ArgumentUnsupported("framework 'torchelastic'", f"torchrun starts Python only, not {entrypoint!r}")
        if runner is not None and shutil.which(runner) is None:
            raise RunnerMissing(entrypoint, runner)

    def _differences(self, settings: Mapping[str, Any]) -> Sequence[tuple[bool, str]]:
        no_limit = (
            f"memory={settings['memory']!r}: each experiment waits until that much is free, but nothing keeps it from "
            "using more: the service has no control group of its own, see docs/service.md"
        )
        return (
            (
                bool(settings["dependencyFile"]),
                f"dependency_file={settings['dependencyFile']!r}: the local cluster uses your installed packages",
            ),
            (settings["useSpot"], "use_spot only changes the estimate: the local cluster is never preempted"),
            (bool(settings["memory"]) and not self.limits_memory, no_limit),
            (
                bool(settings["scratchSize"]) or settings["scratchMountPath"] != "/tmp/scratch",  # noqa: S108
                "scratch_size and scratch_mount_path: the local cluster mounts no scratch disk; use a temporary folder",
            ),
            (
                settings["framework"] == "TORCHELASTIC" and bool(settings.get("launcher")),
                f"framework 'torchelastic' is a launcher itself: launcher={settings.get('launcher')!r} takes its place",
            ),
        )

    def check_space(self, size_bytes: int, copies: int) -> None:
        """See `Cluster.check_space`."""
        needed, free = copies * size_bytes, shutil.disk_usage(self._workspace.experiments).free
        if needed > free:
            raise TooLittleSpace(copies, needed, free)

    def check_data(self, settings: Mapping[str, Any]) -> None:
        """See `Cluster.check_data`."""
        if missing := data_links.missing(settings.get("data") or {}):
            raise DataMissing(missing)

    def check_launcher(
        self, launch: Launch, settings: Mapping[str, Any], interpreter: str | None, tree: Path | None
    ) -> None:
        """See `Cluster.check_launcher`."""
        if not launch.launcher:
            return
        program = launch.launcher_of(0)[0]
        # One that is named by a path is looked for from the folder where the script starts.
        place = _program(program, interpreter, settings)
        if place is not None and tree is None and not Path(place).is_absolute():
            return
        if place is not None and shutil.which((tree or Path()) / launch.folder / place) is not None:
            return
        beside = Path(interpreter).parent if interpreter else None
        if settings.get("launcher"):
            where = f"in {beside} or on the service's PATH" if beside else "on the service's PATH"
            advice = (
                f"install it {where}, or give its whole path"
                if "/" not in program
                else "it must be there and executable; a program of the source code is named from the working folder"
            )
            raise LauncherMissing(f"launcher={settings['launcher']!r}", program, advice)
        advice = f"install PyTorch for {interpreter or 'the Python of the service'}, or choose another framework"
        raise LauncherMissing("framework 'torchelastic'", program, advice)

    def command(self, row: Any, settings: Mapping[str, Any], launch: Launch) -> tuple[str, ...]:
        """See `Cluster.command`."""
        arguments: Sequence[str] = orjson.loads(row.arguments)
        program, *words = launch.launcher_of(row.index) or [launch.runner]
        if launch.launcher:
            found = _program(program, row.interpreter, settings)
        elif program == "python":
            found = shutil.which(row.interpreter or "python3")
            program = row.interpreter or "python3"
        else:
            found = shutil.which(program)
        return (found or program, *words, *launch.target, *arguments)

    def environment(
        self, row: Any, settings: Mapping[str, Any], launch: Launch, gpu_ids: Sequence[str]
    ) -> dict[str, str]:
        """See `Cluster.environment`. From the service's own it takes what `grid.shared.environment` says."""
        own: Mapping[str, str] = settings["environment"]
        work = self._workspace.attempt(row.id, row.attempt, row.layout).work
        first = [str(work / path) for path in launch.import_paths]
        python_path = os.pathsep.join(filter(None, [*first, own.get("PYTHONPATH")]))
        threads = max(min(row.cpus, self.resources.cpus) // launch.processes(row.gpus), 1)
        return {
            **environment.of_script(os.environ),
            "GRID_HOME": str(self._workspace.home),
            "PATH": _path(row.interpreter, {}),
            # What a script writes is in the file at once, whatever happens to its process next.
            "PYTHONUNBUFFERED": "1",
            # There is no screen: whatever a configuration of its user's says, pictures are made for files.
            "MPLBACKEND": "Agg",
            **dict.fromkeys(_THREADS, str(threads)),
            **own,
            **({"PYTHONPATH": python_path} if python_path else {}),
            "GRID_REPEAT": str(row.index % settings.get("repeats", 1)),
            gpus.VISIBLE: self._gpus.variable(gpu_ids),
            gpus.ORDER: gpus.BY_ADDRESS,
            "GRID_CLUSTER_ID": row.cluster,
            "GRID_EXPERIMENT_ID": row.id,
            "GRID_EXPERIMENT_NAME": experiment_name(row.run_name, row.index),
            "GRID_INSTANCE_TYPE": settings["instanceType"],
            "GRID_RUN_NAME": row.run_name,
            "GRID_USER_ID": row.user_id,
        }


def _path(interpreter: str | None, own: Mapping[str, str]) -> str:
    """Return the PATH of a run's experiments, given the run's own variables."""
    path = os.environ.get("PATH", os.defpath)
    if interpreter:
        path = os.pathsep.join((str(Path(interpreter).parent), path))
    return own.get("PATH", path)


def _program(word: str, interpreter: str | None, settings: Mapping[str, Any]) -> str | None:
    """Return the path of the program that a launcher begins with, or None if there is none.

    `python` is the interpreter that is recorded with the run, which need not have that name.
    """
    if "/" in word:
        return word
    if word == "python" and interpreter:
        return interpreter
    path = _path(interpreter, settings.get("environment") or {})
    return shutil.which(word, path=path) or (shutil.which("python3", path=path) if word == "python" else None)
