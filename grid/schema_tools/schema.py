"""Reads a schema, and checks that it describes itself."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from graphql import Source, build_ast_schema, parse

from grid.schema_tools.introspection import elements
from grid.schema_tools.problems import Problem, place

if TYPE_CHECKING:
    from graphql import GraphQLSchema

__all__ = ["check_descriptions", "load_schema"]


def load_schema(path: Path | None = None) -> GraphQLSchema:
    """Return a schema file as a schema whose parts know their file and line.

    Parameters
    ----------
    path
        The file; None for the one that is shipped.

    Raises
    ------
    GraphQLError
        If it is not a schema.
    """
    file = path or Path(str(files("grid") / "schema.graphql"))
    return build_ast_schema(parse(Source(file.read_text(encoding="utf-8"), str(file))))


def check_descriptions(schema: GraphQLSchema) -> list[Problem]:
    """Check that every type, field, argument and enum value of the schema is described."""
    return [
        Problem(*place(element.node), f"{element.coordinate} has no description")
        for element in elements(schema)
        if not (element.description or "").strip()
    ]
