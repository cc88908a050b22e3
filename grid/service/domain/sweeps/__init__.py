"""Turns script arguments into experiments: a pure function of text, strategy and seed.

Nothing here knows about runs, the database or the wire, and nothing is executed: values are parsed, and the grammar has
only a short list of forms.
"""

from __future__ import annotations

from grid.service.domain.sweeps._errors import SweepError
from grid.service.domain.sweeps._expansion import Expansion, count, expand
from grid.service.domain.sweeps._shape import Shape, shape
from grid.service.domain.sweeps._trials import Trial

__all__ = ["Expansion", "Shape", "SweepError", "Trial", "count", "expand", "shape"]
