"""The interface of a cluster, as the domain needs it. The implementation for this machine is in `local_cluster`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from grid.service.domain.catalogue import Catalogue, InstanceType
from grid.service.domain.launching import Launch


@dataclass(frozen=True, slots=True)
class Resources:
    """Numbers of CPUs and GPUs, and bytes of memory."""

    cpus: int
    gpus: int
    memory: int = 0

    def holds(self, each: Resources) -> int:
        """Return how many experiments that need this can run at once; at least one."""
        pairs = ((self.cpus, each.cpus), (self.gpus, each.gpus), (self.memory, each.memory))
        return max(1, min(there // needed for there, needed in pairs if needed))


class Cluster(Protocol):
    """Where experiments run."""

    @property
    def name(self) -> str:
        """The name by which users choose it."""

    @property
    def catalogue(self) -> Catalogue:
        """The instance types that may be asked for."""

    @property
    def resources(self) -> Resources:
        """What all experiments share."""

    @property
    def limits_memory(self) -> bool:
        """Whether an experiment cannot use more memory than it asked for."""

    @property
    def gpu_ids(self) -> Sequence[str]:
        """The ids of the GPUs that all experiments share, in the order in which they are handed out."""

    def gpu_id(self, stored: str | int) -> str:
        """Return the id of a GPU as an attempt's row has it, be it of an older service."""

    def check(self, settings: Mapping[str, Any]) -> tuple[InstanceType, Resources, list[str]]:
        """Return the instance type, the resources of each experiment, and warnings about what differs from the request.

        Parameters
        ----------
        settings
            The fields of ``RunSettingsInput``.

        Raises
        ------
        Unsupported, InstanceTypeMissing
            If the run would not be what was asked for.
        """

    def check_space(self, size_bytes: int, copies: int) -> None:
        """Refuse a run whose working copies would not fit on the disk.

        Parameters
        ----------
        size_bytes
            The size of the source code.
        copies
            How many working copies there may be at the same time: when an experiment has ended, the files that it did
            not change are removed.

        Raises
        ------
        TooLittleSpace
            If they need more space than is free.
        """

    def check_data(self, settings: Mapping[str, Any]) -> None:
        """Refuse a run if what it links into working copies is not there. It may take long, so it is for threads.

        Raises
        ------
        DataMissing
            If some of it does not exist where experiments run.
        """

    def check_launcher(
        self, launch: Launch, settings: Mapping[str, Any], interpreter: str | None, tree: Path | None
    ) -> None:
        """Refuse a run whose launcher cannot be found. It looks into files, so it is for threads.

        Parameters
        ----------
        launch
            How the run is started.
        settings
            The fields of ``RunSettingsInput``.
        interpreter
            The interpreter that was recorded with the run, if any.
        tree
            Where its source code lies; None where that is not here: then a program in it is not looked for.

        Raises
        ------
        LauncherMissing
            If there is no such program.
        """

    def command(self, row: Any, settings: Mapping[str, Any], launch: Launch) -> tuple[str, ...]:
        """Return the command line of an experiment; its first word is the path of the program that runs the script.

        Parameters
        ----------
        row
            An experiment, with what its executor needs to know about its run.
        settings
            The run's settings.
        launch
            How the run is started.
        """

    def environment(
        self, row: Any, settings: Mapping[str, Any], launch: Launch, gpu_ids: Sequence[str]
    ) -> dict[str, str]:
        """Return all environment variables of an experiment.

        Parameters
        ----------
        row
            An experiment, with what its executor needs to know about its run.
        settings
            The run's settings.
        launch
            How the run is started.
        gpu_ids
            The GPUs that only this experiment uses.
        """
