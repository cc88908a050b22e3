"""The interface of a cluster, as the domain needs it. The implementation for this machine is in `local_cluster`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grid.service.domain.catalogue import Catalogue, InstanceType

RUNNERS = {".sh": "bash", ".jl": "julia"}
"""The program that runs a script, by the script's suffix; Python runs all others."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Numbers of CPUs and GPUs."""

    cpus: int
    gpus: int


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
        """The CPUs and GPUs that all experiments share."""

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

    def command(self, script: str, arguments: Sequence[str], interpreter: str | None) -> tuple[str, ...]:
        """Return the command line of an experiment; its first word is the path of the program that runs the script."""

    def environment(self, row: Any, settings: Mapping[str, Any], gpu_ids: Sequence[int]) -> dict[str, str]:
        """Return all environment variables of an experiment.

        Parameters
        ----------
        row
            An experiment, with what its executor needs to know about its run.
        settings
            The run's settings.
        gpu_ids
            The GPUs that only this experiment uses.
        """
