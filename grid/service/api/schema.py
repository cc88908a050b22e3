"""The schema that is executed: the schema file, bound to the resolvers of every noun.

A file of `resolvers` names what it binds to the schema in its `BINDABLES`. A new file is added to the list here.
"""

from __future__ import annotations

from pathlib import Path

from ariadne import load_schema_from_path, make_executable_schema
from graphql import GraphQLSchema

from grid.service.api.resolvers import clusters, experiments, runs, scalars, snapshots, subscriptions, viewer

SCHEMA_PATH = Path(__file__).parents[2] / "schema.graphql"
NOUNS = (viewer, runs, experiments, snapshots, clusters, subscriptions, scalars)


def executable_schema() -> GraphQLSchema:
    """Make the schema whose fields are answered by the resolvers."""
    bindables = [bindable for noun in NOUNS for bindable in noun.BINDABLES]
    return make_executable_schema(load_schema_from_path(SCHEMA_PATH), *bindables)
