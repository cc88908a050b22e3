"""The names that the grammar knows, and the nearest ones to a name that it does not know."""

from __future__ import annotations

import difflib

from grid.service.domain.sweeps._distributions import DISTRIBUTIONS
from grid.service.domain.sweeps._spacings import SIGNATURES

KNOWN = frozenset((*DISTRIBUTIONS, *SIGNATURES, "range", "switch"))

_ALIASES = {name.replace("_", ""): name for name in sorted(KNOWN)}
_SHORTEST = 5  # characters of a name that may be near another one: four letters are near too much
_LONGEST = 40
_NUMPY = ("np.random", "numpy.random")
_NEAR = 0.8


def near(name: str) -> list[str]:
    """Return the known names that `name` may stand for, the nearest first; none if it is another thing altogether.

    A path counts as its last part (``np.random.uniform``), and neither capitals nor underscores make a difference.
    """
    if len(name) > _LONGEST:
        return []
    path, _, last = name.rpartition(".")
    last = last.lower().replace("_", "")
    if last in _ALIASES and (len(last) > 1 or path in _NUMPY):
        return [_ALIASES[last]]
    if len(last) < _SHORTEST:
        return []
    known = [alias for alias in _ALIASES if len(alias) >= _SHORTEST]
    return [_ALIASES[alias] for alias in difflib.get_close_matches(last, known, n=3, cutoff=_NEAR)]
