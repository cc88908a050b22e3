"""Holds schema, queries, models, recorded answers and released files together: `python -m grid.schema_tools check`.

For developers of Grid, and for users with queries of their own. How a model is compared with a selection, an answer to
introspection with a schema, and a recorded answer with a model is written in `grid.schema_tools`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import inspect
import sys
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLEnumType,
    GraphQLError,
    NoUnusedFragmentsRule,
    OperationDefinitionNode,
    Source,
    build_ast_schema,
    parse,
    print_ast,
    specified_rules,
    validate,
)
from graphql.validation import NoDeprecatedCustomRule

from grid.chain.decoding import Model
from grid.chain.registry import MissingFragment, Registry, query_files
from grid.errors import ServiceTooOld
from grid.schema_tools.introspection import diff_introspection, elements
from grid.schema_tools.recordings import check_cassettes
from grid.schema_tools.selections import Problem, Selection, compare, place, place_of_class
from grid.shared import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from graphql import GraphQLSchema

    from grid.chain.registry import QueryFile

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

_RELEASED = "released.sha256"


def load_schema(path: Path | None = None) -> GraphQLSchema:
    """Return a schema file as a schema whose parts know their file and line.

    Parameters
    ----------
    path
        The file; None for the one that is shipped.

    Raises
    ------
    GraphQLError
        If it is no schema.
    """
    file = path or Path(str(files("grid") / "schema.graphql"))
    return build_ast_schema(parse(Source(file.read_text(encoding="utf-8"), str(file))))


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
            parts, found = _parts(registry.parts, name)
            problems += found
            used |= {part.path for part in parts}
            if broken.isdisjoint(part.path for part in parts):
                problems += _problems_of_operation(registry, parts, schema)
        for name in known.fragments:
            parts, found = _parts(registry.parts_of_fragment, name)
            problems += found
            if broken.isdisjoint(part.path for part in parts):
                problems += _problems_of_fragment(parts, schema)
    unused = [file for file in _each(known.fragments) if file.path not in used | broken]
    problems += [Problem(file.path, 1, f"no operation of any version uses the fragment {file.name}") for file in unused]
    return sorted(set(problems))


def check_models(package: str | Path, models: ModuleType, schema: GraphQLSchema) -> list[Problem]:
    """Check that each operation's class in a module has exactly the fields that the newest version selects.

    The selections of older versions are held against the same classes: what they lack needs a default.

    Parameters
    ----------
    package
        The package or folder of queries, as for `grid.chain.registry.Registry`.
    models
        The module of the models.
    schema
        The schema.
    """
    problems: set[Problem] = set()
    seen: set[type[Any]] = set()
    for name, versions in query_files(package).operations.items():
        model = getattr(models, name, None)
        if not (isinstance(model, type) and issubclass(model, Model)):
            problems.add(Problem(versions[-1].path, 1, f"{models.__name__} has no model {name} for this operation"))
            continue
        for selection in _selections(package, name, schema):
            for compared, problem in compare(model, selection):
                seen.update(compared.__mro__ if compared else ())
                problems.update([problem] if problem else ())
    for cls in vars(models).values():
        if isinstance(cls, type) and issubclass(cls, Model) and cls is not Model and cls not in seen:
            problems.add(Problem(*place_of_class(cls), f"no operation is named {cls.__name__}, and none selects one"))
    return sorted(problems)


def check_wire(schema: GraphQLSchema) -> list[Problem]:
    """Check that the enums which client and service share are those of the schema, in the same order."""
    problems = []
    for name, enum in inspect.getmembers(wire, lambda member: isinstance(member, type) and issubclass(member, Enum)):
        if enum.__module__ != wire.__name__:
            continue
        words = [member.value for member in enum]
        described = schema.get_type(name)
        if not isinstance(described, GraphQLEnumType):
            problems.append(Problem(*place_of_class(enum), f"the schema has no enum {name}"))
        elif words != list(described.values):
            message = f"{name} is {', '.join(words)}, but the schema says {', '.join(described.values)}"
            problems.append(Problem(*place_of_class(enum), message))
        problems += [
            Problem(*place_of_class(enum), f"{name}.{member.name} has another value than its name: {member.value}")
            for member in enum
            if member.name != member.value
        ]
    return problems


def check_descriptions(schema: GraphQLSchema) -> list[Problem]:
    """Check that every type, field, argument and enum value of the schema is described."""
    return [
        Problem(*place(element.node), f"{element.coordinate} has no description")
        for element in elements(schema)
        if not (element.description or "").strip()
    ]


def check_released(package: str | Path) -> list[Problem]:
    """Check that no file that was released has changed since; a folder without a list has released nothing.

    Parameters
    ----------
    package
        The package or folder of queries.
    """
    folder = _folder(package)
    problems = []
    for line, digest, path in _released(folder):
        file = folder / path
        if not path:
            problems.append(Problem(str(folder / _RELEASED), line, "expected a digest, two spaces and a path"))
        elif not file.is_file():
            problems.append(Problem(str(folder / _RELEASED), line, f"{path} was released and is gone: put it back"))
        elif _digest(file) != digest:
            message = "this file was released and must not change: put it back, and make the change in a newer version"
            problems.append(Problem(str(file), 1, message))
    return problems


def release(package: str | Path, tag: str) -> list[str]:
    """Write down the digests of all files that were not released before.

    Parameters
    ----------
    package
        The package or folder of queries.
    tag
        The version tag that will contain them.

    Returns
    -------
    list of str
        The paths that were added, below the folder.

    Raises
    ------
    ValueError
        If a file that was released before has changed.
    """
    problems = check_released(package)
    if problems:
        raise ValueError("\n".join(map(str, problems)))
    folder = _folder(package)
    known = {path for _, _, path in _released(folder)}
    paths = sorted(file.relative_to(folder).as_posix() for file in folder.glob("v*/**/*.graphql"))
    new = [path for path in paths if path not in known]
    if new:
        with (folder / _RELEASED).open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"\n# {tag}\n")
            file.writelines(f"{_digest(folder / path)}  {path}\n" for path in new)
    return new


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 where everything holds."""
    options = _parser().parse_args(arguments)
    package = Path(options.queries) if Path(options.queries).is_dir() else options.queries
    try:
        if options.command == "release":
            added = release(package, options.tag)
            sys.stdout.write("".join(f"{path}\n" for path in added) or "nothing is new\n")
            return 0
        problems = _check_all(package, options)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    failures = sum(not problem.note for problem in problems)
    verdict = f"{failures} problem{'s' if failures > 1 else ''}" if failures else "schema, queries and models fit"
    sys.stdout.write(f"{verdict}\n")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m grid.schema_tools", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check that schema, queries, models and recorded answers fit together")
    check.add_argument("--schema", type=Path, metavar="FILE", help="another schema than the one that is shipped")
    check.add_argument("--models", metavar="MODULE", help="the module of the models (default: none for other queries)")
    check.add_argument("--cassettes", type=Path, metavar="DIR", help="a folder of recorded requests and answers")
    released = commands.add_parser("release", help="write down the digests of the files that a version tag contains")
    released.add_argument("tag", metavar="TAG", help="the version tag")
    for command in (check, released):
        command.add_argument(
            "--queries",
            default="grid.queries",
            metavar="PACKAGE_OR_DIR",
            help="another package or folder of queries, with folders v1, v2, … (default: %(default)s)",
        )
    return parser


def _check_all(package: str | Path, options: argparse.Namespace) -> list[Problem]:
    try:
        schema = load_schema(options.schema)
    except GraphQLError as error:
        return [_problem(error, str(options.schema))]
    except OSError as error:
        message = f"the schema cannot be read: {error}"
        raise ValueError(message) from error
    problems = (
        check_wire(schema) + check_descriptions(schema) + check_queries(package, schema) + check_released(package)
    )
    name = options.models or ("grid.models" if package == "grid.queries" else None)
    if name is None:
        return problems
    try:
        models = importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = f"there is no module {name!r} to read models from: {error}"
        raise ValueError(message) from error
    problems += check_models(package, models, schema)
    return problems + (check_cassettes(options.cassettes, package, models) if options.cassettes else [])


@functools.lru_cache(maxsize=256)
def _parsed(text: str, path: str) -> DocumentNode:
    return parse(Source(text, path))


def _document(parts: Sequence[QueryFile]) -> DocumentNode:
    """Return the document that files make, in which every node knows its file."""
    definitions = [node for part in parts for node in _parsed(part.read(), part.path).definitions]
    return DocumentNode(definitions=tuple(definitions))


def _problem(error: GraphQLError, path: str, *, note: bool = False) -> Problem:
    if error.nodes:
        return Problem(*place(error.nodes[0]), error.message, note)
    return Problem(path, error.locations[0].line if error.locations else 1, error.message, note)


def _problems_of_file(file: QueryFile, kind: str) -> Iterator[Problem]:
    wanted = OperationDefinitionNode if kind == "operation" else FragmentDefinitionNode
    try:
        first, *more = _parsed(file.read(), file.path).definitions
    except GraphQLError as error:
        yield _problem(error, file.path)
        return
    if not isinstance(first, (OperationDefinitionNode, FragmentDefinitionNode)) or not isinstance(first, wanted):
        yield Problem(
            *place(first), f"expected one {kind} here: operations stand in v1, v2, …, fragments in fragments/"
        )
        return
    name = first.name.value if first.name else "no name"
    if name != file.name:
        yield Problem(*place(first), f"the file is named {file.name}, but the {kind} in it {name}")
    if more:
        yield Problem(*place(more[0]), f"one {kind} a file: this belongs into another")


def _each(group: Mapping[str, Sequence[QueryFile]]) -> list[QueryFile]:
    return [file for versions in group.values() for file in versions]


def _parts(find: Callable[[str], Sequence[QueryFile]], name: str) -> tuple[Sequence[QueryFile], list[Problem]]:
    """Return the files that something is made of: none where a version has none yet, or where one is missing."""
    try:
        return find(name), []
    except ServiceTooOld:
        return (), []
    except MissingFragment as missing:
        return (), [Problem(missing.path, missing.line, missing.reason)]


def _selections(package: str | Path, name: str, schema: GraphQLSchema) -> Iterator[Selection]:
    """Yield what each version of an operation selects, where it differs from the next; faults are found elsewhere."""
    latest = query_files(package).latest
    parts = {version: _parts(Registry(package, version=version).parts, name)[0] for version in range(1, latest + 1)}
    for version in range(1, latest + 1):
        if not parts[version] or parts[version] == parts.get(version + 1):
            continue
        try:
            definitions = _document(parts[version]).definitions
        except GraphQLError:
            continue
        fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}
        for node in definitions:
            if isinstance(node, OperationDefinitionNode):
                yield Selection(schema, node, fragments, version, newest=version == latest)


def _problems_of_operation(registry: Registry, parts: Sequence[QueryFile], schema: GraphQLSchema) -> Iterator[Problem]:
    if not parts:
        return
    document = _document(parts)
    errors = validate(schema, document)
    yield from (_problem(error, parts[0].path) for error in errors)
    if registry.version == registry.latest and not errors:
        deprecated = validate(schema, document, [NoDeprecatedCustomRule])
        yield from (_problem(error, parts[0].path, note=True) for error in deprecated)
    # The registry composes by searching text, not by parsing: the two must come to the same.
    if print_ast(parse(registry.get(parts[0].name).text)) != print_ast(document):
        yield Problem(parts[0].path, 1, "the registry does not compose what the files say")


def _problems_of_fragment(parts: Sequence[QueryFile], schema: GraphQLSchema) -> Iterator[Problem]:
    if parts:
        rules = [rule for rule in specified_rules if rule is not NoUnusedFragmentsRule]
        yield from (_problem(error, parts[0].path) for error in validate(schema, _document(parts), rules))


def _folder(package: str | Path) -> Path:
    return Path(str(files(package))) if isinstance(package, str) else package


def _released(folder: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, digest and path of each entry; the path is empty where the line cannot be read."""
    file = folder / _RELEASED
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            digest, _, path = line.partition("  ")
            yield number, digest, path.strip()


def _digest(file: Path) -> str:
    # A checkout on Windows may have other ends of line.
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
