"""The instance types that may be asked for, and what they cost. An operator can replace the file."""

from __future__ import annotations

import csv
import difflib
import math
from dataclasses import dataclass
from pathlib import Path

from grid.service.domain.errors import InstanceTypeMissing

DEFAULT_PATH = Path(__file__).with_name("instance-types.csv")

_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One line of the catalogue; prices in US dollars per hour."""

    name: str
    nickname: str
    cpus: int
    gpus: int
    memory_gib: float
    accelerator: str | None
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float

    def hourly_cost(self, *, experiments: int, use_spot: bool) -> float:
        """Return what that many experiments at once cost in US dollars per hour, to the cent."""
        return round(experiments * (self.spot_usd_per_hour if use_spot else self.on_demand_usd_per_hour), 2)


class Catalogue:
    """The instance types, by name and by nickname."""

    def __init__(self, types: list[InstanceType]) -> None:
        self.types = types
        self._by_name = {word: each for each in reversed(types) for word in (each.nickname, each.name)}

    @classmethod
    def read(cls, path: Path = DEFAULT_PATH) -> Catalogue:
        """Read a catalogue from a CSV file with the columns of the one that is shipped.

        Raises
        ------
        ValueError
            If the file is not such a catalogue; the message names the file and the line.
        """
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            types = []
            for row in rows:
                try:
                    types.append(
                        InstanceType(
                            name=row["name"],
                            nickname=row["nickname"],
                            cpus=int(_number(row, "cpus", least=1)),
                            gpus=int(_number(row, "gpus")),
                            memory_gib=_number(row, "memory_gib"),
                            accelerator=row["accelerator"] or None,
                            on_demand_usd_per_hour=_number(row, "on_demand_usd_per_hour"),
                            spot_usd_per_hour=_number(row, "spot_usd_per_hour"),
                        )
                    )
                except (KeyError, TypeError, ValueError) as error:
                    message = f"{path}:{rows.line_num}: not a line of a catalogue of instance types: {error!r}"
                    raise ValueError(message) from error
        if not types:
            message = f"{path}: the catalogue of instance types is empty"
            raise ValueError(message)
        return cls(types)

    def find(self, name: str) -> InstanceType:
        """Return the type of that name or nickname.

        Raises
        ------
        InstanceTypeMissing
            If there is no such type; the error has the closest names.
        """
        try:
            return self._by_name[name]
        except KeyError:
            name = name[:_MAX_NAME]  # so that the search for close names takes no time, however long it is
            near = difflib.get_close_matches(name.lower(), self._by_name, n=4, cutoff=0.4)
            raise InstanceTypeMissing(name, near) from None


def _number(row: dict[str, str], column: str, *, least: float = 0) -> float:
    value = float(row[column])
    if not least <= value < math.inf:
        message = f"{column} is {row[column]}, but must be at least {least:g}"
        raise ValueError(message)
    return value
