"""The local cluster, which is this machine: its resources, what it can do for a run, and how it runs a script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grid.service.domain.catalogue import Catalogue, InstanceType
from grid.service.domain.cluster import RUNNERS, Resources
from grid.service.domain.errors import ArgumentUnsupported, RunnerMissing, TooFewGpus, TooLittleSpace
from grid.service.system import gpus
from grid.service.system.gpus import Gpus
from grid.service.system.machine import Machine
from grid.service.system.settings import OptionError, Options
from grid.service.system.workspace import Workspace
from grid.shared import environment
from grid.shared.wire import DEFAULT_CLUSTER, experiment_name, memory_bytes, memory_text

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
        runner = RUNNERS.get(Path(settings["entrypoint"]).suffix)
        if runner is not None and shutil.which(runner) is None:
            raise RunnerMissing(settings["entrypoint"], runner)

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
                settings["framework"] == "TORCHELASTIC",
                "framework 'torchelastic': the local cluster starts the script itself, without an elastic launcher",
            ),
        )

    def check_space(self, size_bytes: int, copies: int) -> None:
        """See `Cluster.check_space`."""
        needed, free = copies * size_bytes, shutil.disk_usage(self._workspace.experiments).free
        if needed > free:
            raise TooLittleSpace(copies, needed, free)

    def command(self, script: str, arguments: Sequence[str], interpreter: str | None) -> tuple[str, ...]:
        """See `Cluster.command`."""
        runner = RUNNERS.get(Path(script).suffix, interpreter or "python3")
        return (shutil.which(runner) or runner, script, *arguments)

    def environment(self, row: Any, settings: Mapping[str, Any], gpu_ids: Sequence[str]) -> dict[str, str]:
        """See `Cluster.environment`. From the service's own it takes what `grid.shared.environment` says."""
        path = os.environ.get("PATH", os.defpath)
        if row.interpreter:
            path = os.pathsep.join((str(Path(row.interpreter).parent), path))
        return {
            **environment.of_script(os.environ),
            "GRID_HOME": str(self._workspace.home),
            "PATH": path,
            # What a script writes is in the file at once, whatever happens to its process next.
            "PYTHONUNBUFFERED": "1",
            **settings["environment"],
            gpus.VISIBLE: self._gpus.variable(gpu_ids),
            gpus.ORDER: gpus.BY_ADDRESS,
            "GRID_CLUSTER_ID": row.cluster,
            "GRID_EXPERIMENT_ID": row.id,
            "GRID_EXPERIMENT_NAME": experiment_name(row.run_name, row.index),
            "GRID_INSTANCE_TYPE": settings["instanceType"],
            "GRID_RUN_NAME": row.run_name,
            "GRID_USER_ID": row.user_id,
        }
