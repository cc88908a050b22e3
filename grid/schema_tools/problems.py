"""What a check reports: a problem, and the file and line where it is found."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from graphql import GraphQLError, Node

__all__ = ["Problem", "place", "place_of_class", "problem_of"]


class Problem(NamedTuple):
    """Something that does not hold, and where; a note is worth knowing and breaks nothing."""

    file: str
    line: int
    message: str
    note: bool = False

    def __str__(self) -> str:
        file, here = Path(self.file), Path.cwd()
        shown = file.relative_to(here) if file.is_relative_to(here) else file
        return f"{shown}:{self.line}: {'note: ' if self.note else ''}{self.message}"


def problem_of(error: GraphQLError, path: str, *, note: bool = False) -> Problem:
    """Return an error of graphql-core as a problem; `path` is the file to name if the error itself names none."""
    if error.nodes:
        return Problem(*place(error.nodes[0]), error.message, note)
    return Problem(path, error.locations[0].line if error.locations else 1, error.message, note)


def place(node: Node) -> tuple[str, int]:
    """Return the file and the line of a piece of GraphQL."""
    if node.loc is None:
        return "<unknown>", 1
    return node.loc.source.name, node.loc.start_token.line


def place_of_class(model: type[Any], attribute: str = "") -> tuple[str, int]:
    """Return the file and the line of a class, or of the line that declares one of its attributes."""
    owner = next((base for base in model.__mro__ if attribute in inspect.get_annotations(base)), model)
    try:
        file = inspect.getsourcefile(owner) or "<unknown>"
        lines, first = inspect.getsourcelines(owner)
    except (OSError, TypeError):
        return f"<{owner.__module__}>", 1
    wanted = re.compile(rf"\s+{attribute}\s*:" if attribute else r"\s*class\b")
    return file, first + next((offset for offset, line in enumerate(lines) if wanted.match(line)), 0)
