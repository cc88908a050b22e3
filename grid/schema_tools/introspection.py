"""Compares what a service answers to introspection with a schema file, element by element. Sends nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    introspection_from_schema,
    specified_directives,
    specified_scalar_types,
)

from grid.schema_tools.problems import Problem, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from graphql import GraphQLSchema, Node

__all__ = ["Element", "diff_introspection", "elements"]

_STANDARD_SCALARS = frozenset(specified_scalar_types)
_STANDARD_DIRECTIVES = frozenset(directive.name for directive in specified_directives)


class Element(NamedTuple):
    """A type, field, argument, enum value or directive of a schema file; a coordinate is as in `Run.runs(first:)`."""

    coordinate: str
    description: str | None
    node: Node


def elements(schema: GraphQLSchema) -> Iterator[Element]:
    """Yield everything that a schema file defines, in the order of the file's types."""
    for directive in schema.directives:
        if directive.ast_node:
            yield Element(f"@{directive.name}", directive.description, directive.ast_node)
            yield from _parts(f"@{directive.name}", directive.args, "({}:)")
    for name, type_ in schema.type_map.items():
        if not type_.ast_node:
            continue
        yield Element(name, type_.description, type_.ast_node)
        if isinstance(type_, GraphQLEnumType):
            yield from _parts(name, type_.values, ".{}")
        elif isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType, GraphQLInputObjectType)):
            yield from _parts(name, type_.fields, ".{}")


def diff_introspection(introspection: Mapping[str, Any], schema: GraphQLSchema) -> list[Problem]:
    """Compare the answer to an introspection query with a schema.

    Parameters
    ----------
    introspection
        The answer to `graphql.get_introspection_query()`: the object that holds `__schema`, or the whole answer around
        it.
    schema
        The schema, as `grid.schema_tools.load_schema` returns it.

    Returns
    -------
    list of Problem
        Every difference, at the line of the file that differs; empty if there are none.

    Raises
    ------
    ValueError
        If it is not an answer to an introspection query.
    """
    answer = introspection.get("data", introspection)
    if not isinstance(answer, dict) or "__schema" not in answer:
        message = f"this is not an answer to an introspection query: expected __schema, got {sorted(introspection)}"
        raise ValueError(message)
    served = dict(_facts(answer["__schema"]))
    filed = dict(_facts(introspection_from_schema(schema)["__schema"]))
    places = {element.coordinate: place(element.node) for element in elements(schema)}
    start = (min(places.values())[0], 1) if places else ("<schema>", 1)

    def where(coordinate: str) -> tuple[str, int]:
        owner = coordinate.partition("(")[0]
        return places.get(coordinate) or places.get(owner) or places.get(owner.partition(".")[0]) or start

    problems = [Problem(*where(it), f"the service has no {it}") for it in filed if it not in served]
    problems += [Problem(*where(it), f"the service has {it}, the file does not") for it in served if it not in filed]
    for coordinate in filed.keys() & served.keys():
        for fact, value in filed[coordinate].items():
            if (found := served[coordinate].get(fact)) != value:
                message = f"{fact} of {coordinate} is {found!r} in the service, {value!r} in the file"
                problems.append(Problem(*where(coordinate), message))
    return sorted(problems)


def _parts(owner: str, parts: Mapping[str, Any], pattern: str) -> Iterator[Element]:
    for name, part in parts.items():
        coordinate = owner + pattern.format(name)
        if part.ast_node:
            yield Element(coordinate, part.description, part.ast_node)
        yield from _parts(coordinate, getattr(part, "args", {}), "({}:)")


def _facts(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each coordinate of an introspected schema with the facts about it."""
    roots = {fact: (schema.get(fact) or {}).get("name") for fact in ("queryType", "mutationType", "subscriptionType")}
    yield "schema", roots
    for type_ in schema["types"]:
        name = type_["name"]
        if name.startswith("__") or name in _STANDARD_SCALARS:
            continue
        yield (
            name,
            {
                "kind": type_["kind"],
                "description": type_.get("description"),
                "interfaces": sorted(it["name"] for it in type_.get("interfaces") or ()),
                "possible types": sorted(it["name"] for it in type_.get("possibleTypes") or ()),
            },
        )
        for group in ("fields", "inputFields", "enumValues"):
            for part in type_.get(group) or ():
                yield from _facts_of_part(f"{name}.{part['name']}", part)
    for directive in schema.get("directives") or ():
        if directive["name"] not in _STANDARD_DIRECTIVES:
            yield f"@{directive['name']}", {"description": directive.get("description")}
            for argument in directive.get("args") or ():
                yield from _facts_of_part(f"@{directive['name']}({argument['name']}:)", argument)


def _facts_of_part(coordinate: str, part: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        coordinate,
        {
            "description": part.get("description"),
            "type": _type(part["type"]) if part.get("type") else None,
            "default": part.get("defaultValue"),
            "deprecation": part.get("deprecationReason"),
        },
    )
    for argument in part.get("args") or ():
        yield from _facts_of_part(f"{coordinate}({argument['name']}:)", argument)


def _type(reference: Mapping[str, Any]) -> str:
    if reference["kind"] == "NON_NULL":
        return f"{_type(reference['ofType'])}!"
    if reference["kind"] == "LIST":
        return f"[{_type(reference['ofType'])}]"
    return str(reference["name"])
