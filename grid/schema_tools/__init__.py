"""Checks that schema, queries, models, recordings and released files agree: `python -m grid.schema_tools check`."""

from __future__ import annotations

from grid.schema_tools.command import main
from grid.schema_tools.introspection import diff_introspection
from grid.schema_tools.models import check_models, check_wire
from grid.schema_tools.problems import Problem
from grid.schema_tools.queries import check_queries
from grid.schema_tools.recordings import check_cassettes
from grid.schema_tools.released import check_released, release
from grid.schema_tools.schema import check_descriptions, load_schema

__all__ = [
    "Problem",
    "check_cassettes",
    "check_descriptions",
    "check_models",
    "check_queries",
    "check_released",
    "check_wire",
    "diff_introspection",
    "load_schema",
    "main",
    "release",
]
