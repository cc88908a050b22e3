"""What the domain asks of a cluster, whatever it is made of. The answers of this machine are in `local_cluster`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grid.service.domain.catalogue import Catalogue, InstanceType

RUNNERS = {".sh": "bash", ".jl": "julia"}
"""What runs a script, by the end of its name; any other is run by Python."""


@dataclass(frozen=True, slots=True)
class Resources:
    """CPUs and GPUs."""

    cpus: int
    gpus: int


class Cluster(Protocol):
    """Where experiments run."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def catalogue(self) -> Catalogue:
        """The types of machine that may be asked for."""

    @property
    def resources(self) -> Resources:
        """What experiments share."""

    def check(self, settings: Mapping[str, Any]) -> tuple[InstanceType, Resources, list[str]]:
        """Return the machine asked for, what an experiment gets of ours, and what is done otherwise than asked for.

        Parameters
        ----------
        settings
            The fields of ``RunSettingsInput``.

        Raises
        ------
        Unsupported, InstanceTypeMissing
            Where the run would not be what was asked for.
        """

    def check_space(self, size_bytes: int, copies: int) -> None:
        """Refuse working copies that would not find space.

        Parameters
        ----------
        size_bytes
            Of the source code.
        copies
            How many working copies there may be at once: when an experiment has ended, what it did not change is
            removed.

        Raises
        ------
        TooLittleSpace
            Where they need more than is free.
        """

    def command(self, script: str, arguments: Sequence[str], interpreter: str | None) -> tuple[str, ...]:
        """Return the command line of an experiment, with the path of what runs its script."""

    def environment(self, row: Any, settings: Mapping[str, Any], gpu_ids: Sequence[int]) -> dict[str, str]:
        """Return the whole environment of an experiment.

        Parameters
        ----------
        row
            An experiment with what its executor needs to know of its run.
        settings
            The run's settings.
        gpu_ids
            The GPUs that are its own.
        """
