"""Script arguments to experiments, as a pure function of text, strategy and seed.

Nothing here knows runs, the database or the wire, and nothing is executed: values are parsed, and only the three forms
of the grammar are known.
"""

from __future__ import annotations

from grid.service.domain.sweeps._errors import SweepError
from grid.service.domain.sweeps._expansion import Expansion, Trial, count, expand

__all__ = ["Expansion", "SweepError", "Trial", "count", "expand"]
