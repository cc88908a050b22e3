"""What stands before the lines of a run's experiments, so that it can be seen whose they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from grid.shared.wire import EXPERIMENT_NAME

if TYPE_CHECKING:
    from grid.models import ExperimentRecord

_LONGEST = 40
"""How many characters of a value are shown."""


def labels(experiments: Iterable[ExperimentRecord], varying: Sequence[str]) -> dict[str, str]:
    """Return what to put before the lines of each experiment, by its name: `lr=0.1 seed=2 | `.

    It is what varies between them. Where nothing does, or several have the same, their index comes first. All are
    equally long.

    Parameters
    ----------
    experiments
        The experiments of one run, or those of them that are known.
    varying
        The names of the parameters that differ between the run's experiments.
    """
    records = list(experiments)
    words = {each.name: varied(each, varying) for each in records}
    counted = Counter(words.values())
    texts = {
        name: text if text and counted[text] == 1 else f"{_end(name)} {text}".rstrip() for name, text in words.items()
    }
    width = max(map(len, texts.values()), default=0)
    return {name: f"{text:<{width}} | " for name, text in texts.items()}


def varied(experiment: ExperimentRecord, varying: Sequence[str]) -> str:
    """Return by what an experiment differs from the others of its run: `lr=0.1 seed=2`."""
    given = experiment.parameters
    return " ".join(f"{name}={short(given[name])}" for name in varying if name in given)


def short(value: str) -> str:
    """Return a value as it stands in a line: cut if it is long, and with nothing in it that would break the line."""
    value = value if value.isprintable() else repr(value)
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"


def _end(name: str) -> str:
    """Return what tells an experiment from the others of its run: `exp3`."""
    parts = EXPERIMENT_NAME.fullmatch(name)
    return f"exp{parts['index']}" if parts else name
