"""Checks the files of queries, alone and as the registry composes them, against the schema."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    NoUnusedFragmentsRule,
    OperationDefinitionNode,
    Source,
    parse,
    print_ast,
    specified_rules,
    validate,
)
from graphql.validation import NoDeprecatedCustomRule

from grid.chain.registry import MissingFragment, Registry, query_files
from grid.errors import ServiceTooOld
from grid.schema_tools.problems import Problem, place, problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from graphql import GraphQLSchema

    from grid.chain.registry import QueryFile

__all__ = ["check_queries", "composed", "parts_of"]


def check_queries(package: str | Path, schema: GraphQLSchema) -> list[Problem]:
    """Check every file of every version, alone and as the registry composes it, against the schema.

    Parameters
    ----------
    package
        The package or folder of queries, as for `grid.chain.registry.Registry`.
    schema
        The schema.
    """
    known = query_files(package)
    problems: list[Problem] = []
    for kind, group in (("operation", known.operations), ("fragment", known.fragments)):
        problems += [problem for file in _each(group) for problem in _problems_of_file(file, kind)]
    broken = {problem.file for problem in problems}
    used: set[str] = set()
    for version in range(1, known.latest + 1):
        registry = Registry(package, version=version)
        for name in known.operations:
            parts, found = parts_of(registry.parts, name)
            problems += found
            used |= {part.path for part in parts}
            if broken.isdisjoint(part.path for part in parts):
                problems += _problems_of_operation(registry, parts, schema)
        for name in known.fragments:
            parts, found = parts_of(registry.parts_of_fragment, name)
            problems += found
            if broken.isdisjoint(part.path for part in parts):
                problems += _problems_of_fragment(parts, schema)
    unused = [file for file in _each(known.fragments) if file.path not in used | broken]
    problems += [Problem(file.path, 1, f"no operation of any version uses the fragment {file.name}") for file in unused]
    return sorted(set(problems))


def parts_of(find: Callable[[str], Sequence[QueryFile]], name: str) -> tuple[Sequence[QueryFile], list[Problem]]:
    """Return the files that something is made of: none if the version does not have it yet, or if a file is missing."""
    try:
        return find(name), []
    except ServiceTooOld:
        return (), []
    except MissingFragment as missing:
        return (), [Problem(missing.path, missing.line, missing.reason)]


@functools.lru_cache(maxsize=256)
def _parsed(text: str, path: str) -> DocumentNode:
    return parse(Source(text, path))


def composed(parts: Sequence[QueryFile]) -> DocumentNode:
    """Return the document that files make together, in which every node knows its file."""
    definitions = [node for part in parts for node in _parsed(part.read(), part.path).definitions]
    return DocumentNode(definitions=tuple(definitions))


def _problems_of_file(file: QueryFile, kind: str) -> Iterator[Problem]:
    wanted = OperationDefinitionNode if kind == "operation" else FragmentDefinitionNode
    try:
        first, *more = _parsed(file.read(), file.path).definitions
    except GraphQLError as error:
        yield problem_of(error, file.path)
        return
    if not isinstance(first, (OperationDefinitionNode, FragmentDefinitionNode)) or not isinstance(first, wanted):
        yield Problem(
            *place(first), f"expected one {kind} here: operations belong in v1, v2, …, fragments in fragments/"
        )
        return
    name = first.name.value if first.name else "no name"
    if name != file.name:
        yield Problem(*place(first), f"the file is named {file.name}, but the {kind} in it {name}")
    if more:
        yield Problem(*place(more[0]), f"one {kind} per file: this belongs in another")


def _each(group: Mapping[str, Sequence[QueryFile]]) -> list[QueryFile]:
    return [file for versions in group.values() for file in versions]


def _problems_of_operation(registry: Registry, parts: Sequence[QueryFile], schema: GraphQLSchema) -> Iterator[Problem]:
    if not parts:
        return
    document = composed(parts)
    errors = validate(schema, document)
    yield from (problem_of(error, parts[0].path) for error in errors)
    if registry.version == registry.latest and not errors:
        deprecated = validate(schema, document, [NoDeprecatedCustomRule])
        yield from (problem_of(error, parts[0].path, note=True) for error in deprecated)
    # The registry composes by searching text, not by parsing: the two must agree.
    if print_ast(parse(registry.get(parts[0].name).text)) != print_ast(document):
        yield Problem(parts[0].path, 1, "the registry does not compose what the files say")


def _problems_of_fragment(parts: Sequence[QueryFile], schema: GraphQLSchema) -> Iterator[Problem]:
    if parts:
        rules = [rule for rule in specified_rules if rule is not NoUnusedFragmentsRule]
        yield from (problem_of(error, parts[0].path) for error in validate(schema, composed(parts), rules))
