"""The schema that the service answers with is the one that is shipped."""

from __future__ import annotations

import asyncio

import aiohttp
from graphql import get_introspection_query

from grid.schema_tools import diff_introspection, load_schema
from tests.support import ServiceProcess


def test_introspection_equals_the_file(service: ServiceProcess) -> None:
    """People build tools on the file: what the running service says of itself is the same to the last description."""
    query = get_introspection_query(descriptions=True, specified_by_url=True, input_value_deprecation=True)

    async def ask() -> object:
        headers = {"authorization": service.endpoint.authorization}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(service.endpoint.graphql_url, json={"query": query}) as answer,
        ):
            return (await answer.json(content_type=None))["data"]

    assert diff_introspection(asyncio.run(ask()), load_schema()) == []
