"""Checks recorded requests and answers against queries and models. Recording is not done here."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from graphql import GraphQLError, OperationDefinitionNode, parse, print_ast

from grid.chain.decoding import Model, decode
from grid.chain.registry import Registry, query_files
from grid.errors import InvalidResponse, ServiceTooOld
from grid.schema_tools.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

__all__ = ["check_cassettes"]


class _Interaction(NamedTuple):
    """A request and its answer as one entry of a cassette holds them."""

    file: str
    line: int
    request: Any
    answer: Any

    def problem(self, message: str) -> Problem:
        return Problem(self.file, self.line, message)


def check_cassettes(folder: Path, package: str | Path, models: ModuleType) -> list[Problem]:
    """Check that every recorded answer decodes into its model and encodes back to itself.

    Parameters
    ----------
    folder
        The folder of the cassettes: YAML as vcrpy writes it. There may be none yet.
    package
        The package or folder of queries: a recorded query must be one of them, in any version.
    models
        The module of the models.
    """
    texts: dict[str, dict[str, int]] = {}
    known = query_files(package)
    for version in range(1, known.latest + 1):
        registry = Registry(package, version=version)
        for name in known.operations:
            text = _text(registry, name)
            if text is not None:
                texts.setdefault(name, {})[text] = version
    problems: list[Problem] = []
    for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        for entry in _interactions(file):
            if isinstance(entry, Problem):
                problems.append(entry)
            elif isinstance(entry.request, dict) and isinstance(entry.request.get("query"), str):
                problems += _check(entry, texts, known.latest, models)
    return problems


def _text(registry: Registry, name: str) -> str | None:
    """Return an operation as it would be recorded; if it is faulty, other checks say so."""
    try:
        return print_ast(parse(registry.get(name).text))
    except (ServiceTooOld, ValueError, GraphQLError):
        return None


def _check(entry: _Interaction, texts: dict[str, dict[str, int]], latest: int, models: ModuleType) -> Iterator[Problem]:
    try:
        document = parse(entry.request["query"])
    except GraphQLError as error:
        yield entry.problem(f"the recorded query is not GraphQL: {error.message}")
        return
    names = [
        node.name.value for node in document.definitions if isinstance(node, OperationDefinitionNode) and node.name
    ]
    name = entry.request.get("operationName") or (names[0] if names else None)
    version = texts.get(name, {}).get(print_ast(document)) if name else None
    if version is None:
        yield entry.problem(f"the recorded query {name} is not that of any version: record it again")
        return
    model = getattr(models, str(name), None)
    if not (isinstance(model, type) and issubclass(model, Model)):
        return  # `check_models` says so
    if not isinstance(entry.answer, dict):
        yield entry.problem(f"the recorded answer to {name} is not a JSON object")
        return
    if entry.answer.get("errors"):
        return
    try:
        encoded = decode(model, entry.answer.get("data")).to_dict()  # type: ignore[arg-type]
    except InvalidResponse as error:
        yield entry.problem(str(error))
        return
    difference = _difference(entry.answer["data"], encoded, "data", may_grow=version != latest)
    if difference:
        yield entry.problem(f"the recorded answer to {name} does not encode back to itself: {difference}")


def _difference(recorded: Any, encoded: Any, path: str, *, may_grow: bool) -> str | None:
    """Return where two JSON values differ. What an older version did not select, the model may add by its defaults."""
    if isinstance(recorded, dict) and isinstance(encoded, dict):
        for key in recorded:
            if key not in encoded:
                return f"{path}.{key} is lost"
        for key in encoded:
            if key not in recorded and not may_grow:
                return f"{path}.{key} is added"
        pairs = [(f"{path}.{key}", recorded[key], encoded[key]) for key in recorded]
    elif isinstance(recorded, list) and isinstance(encoded, list) and len(recorded) == len(encoded):
        pairs = [(f"{path}[{i}]", one, other) for i, (one, other) in enumerate(zip(recorded, encoded, strict=True))]
    else:
        return None if recorded == encoded else f"{path} was {recorded!r} and becomes {encoded!r}"
    found = (_difference(one, other, place, may_grow=may_grow) for place, one, other in pairs)
    return next((difference for difference in found if difference), None)


def _interactions(file: Path) -> Iterator[_Interaction | Problem]:
    import yaml  # noqa: PLC0415  # only where there are cassettes

    text = file.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        yield Problem(str(file), mark.line + 1 if mark else 1, "this cassette is not YAML")
        return
    entries = content.get("interactions") if isinstance(content, dict) else None
    if not isinstance(entries, list) or root is None:
        yield Problem(str(file), 1, "this is not a cassette: expected a list of interactions")
        return
    nodes = next(value for key, value in root.value if key.value == "interactions")
    for node, entry in zip(nodes.value, entries, strict=True):
        request, response = entry.get("request") or {}, entry.get("response") or {}
        body = response.get("body")
        answer = body.get("string") if isinstance(body, dict) else body
        yield _Interaction(str(file), node.start_mark.line + 1, _json(request.get("body")), _json(answer))


def _json(body: Any) -> Any:
    """Return what a recorded body holds, or None if that is not JSON."""
    if not isinstance(body, (str, bytes)):
        return body
    try:
        if isinstance(body, bytes) and body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        return json.loads(body)
    except (OSError, ValueError):
        return None
