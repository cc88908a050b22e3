"""Checks that schema, queries, models, recordings and released files agree: `python -m grid.schema_tools check`.

For developers of Grid, and for users with queries of their own. The checks themselves, and the comparison of a
service's introspection with a schema, are functions of `grid.schema_tools`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from graphql import GraphQLError

from grid.schema_tools.models import check_models, check_wire
from grid.schema_tools.problems import Problem, problem_of
from grid.schema_tools.queries import check_queries
from grid.schema_tools.recordings import check_cassettes
from grid.schema_tools.released import check_released, release
from grid.schema_tools.schema import check_descriptions, load_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 if everything fits."""
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
    check.add_argument("--schema", type=Path, metavar="FILE", help="a schema other than the one that is shipped")
    check.add_argument("--models", metavar="MODULE", help="the module of the models (default: none for other queries)")
    check.add_argument("--cassettes", type=Path, metavar="DIR", help="a folder of recorded requests and answers")
    released = commands.add_parser("release", help="record the digests of the files that a version tag contains")
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
        return [problem_of(error, str(options.schema))]
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
