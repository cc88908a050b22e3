"""Requests without any of the client's own code, and counting those that a session sends."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grid.chain.endpoint import Endpoint
from grid.session.session import Session


@contextmanager
def requests(session: Session) -> Iterator[list[int]]:
    """Yield a list that afterwards holds how many requests the session sent meanwhile."""
    sent: list[int] = []
    before = session.transport.requests_sent
    yield sent
    sent.append(session.transport.requests_sent - before)


def ask(endpoint: Endpoint | str, query: str, authorization: str | None = None, **variables: Any) -> dict[str, Any]:
    """Send a GraphQL request without any of the client's own code; return the answer, errors and all.

    An endpoint brings its key along; an address does not, and `authorization` is sent as it is.
    """
    if isinstance(endpoint, Endpoint):
        endpoint, authorization = endpoint.graphql_url, endpoint.authorization
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(endpoint, body, {"Content-Type": "application/json"})
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def code_of(answer: dict[str, Any]) -> str:
    """The code of the only error of an answer."""
    (error,) = answer["errors"]
    return error["extensions"]["code"]
