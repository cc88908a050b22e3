"""Holds schema, queries, models, recorded answers and released files together: `python -m grid.schema_tools check`."""

from __future__ import annotations

from grid.schema_tools.queries import (
    check_cassettes,
    check_descriptions,
    check_models,
    check_queries,
    check_released,
    check_wire,
    diff_introspection,
    load_schema,
    main,
    release,
)
from grid.schema_tools.selections import Problem

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
