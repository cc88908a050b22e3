"""The executable schema: the schema file, bound to the resolvers of every noun.

A file of `resolvers` lists what it binds to the schema in its `BINDABLES`. Add a new file to the list here.
"""

from __future__ import annotations

from pathlib import Path

from ariadne import load_schema_from_path, make_executable_schema
from graphql import GraphQLSchema

from grid.service.api.resolvers import (
    artifacts,
    clusters,
    events,
    experiments,
    logs,
    runs,
    scalars,
    snapshots,
    subscriptions,
    viewer,
)

SCHEMA_PATH = Path(__file__).parents[2] / "schema.graphql"
NOUNS = (viewer, runs, experiments, events, logs, artifacts, snapshots, clusters, subscriptions, scalars)


def executable_schema() -> GraphQLSchema:
    """Return the schema with its fields bound to their resolvers."""
    bindables = [bindable for noun in NOUNS for bindable in noun.BINDABLES]
    return make_executable_schema(load_schema_from_path(SCHEMA_PATH), *bindables)
