"""Uploads of archives, as a client announces them."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.support.raw_http import JSON, call, graphql, key_of
from tests.support.services import ServiceProcess

ANNOUNCE = """mutation($digest: String!, $size: Float!) {
  createSnapshot(input: {digest: $digest, sizeBytes: $size}) { uploadPath stored }
}"""


def announced(service: ServiceProcess, content: bytes) -> dict[str, Any]:
    """Announce an archive; return the service's answer."""
    variables = {"digest": hashlib.sha256(content).hexdigest(), "size": len(content)}
    answer = call(service, headers=[JSON, key_of(service)], body=graphql(ANNOUNCE, variables=variables))
    snapshot = answer.json["data"]["createSnapshot"]
    assert isinstance(snapshot, dict)
    return snapshot


def path_for(service: ServiceProcess, content: bytes) -> str:
    """The upload address of an archive that is not stored yet."""
    path = announced(service, content)["uploadPath"]
    assert isinstance(path, str)
    return path
