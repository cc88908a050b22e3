"""Artifacts of experiments, as a client asks for them and gets them."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from grid.chain.endpoint import Endpoint
from tests.support.raw_http import Answer, Headers, call
from tests.support.requests import ask
from tests.support.services import ServiceProcess

PAGE = """
query($id: ID!, $attempt: Int, $first: Int! = 1000, $after: String) {
  experiment(id: $id) {
    artifacts(attempt: $attempt, first: $first, after: $after) {
      attempt
      nodes { path size modifiedAt etag sha256 downloadPath }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""
ONE = """
query($id: ID!, $attempt: Int, $path: String!, $wait: Float! = 20) {
  experiment(id: $id) {
    artifact(attempt: $attempt, path: $path) { path size etag downloadPath sha256(waitSeconds: $wait) }
  }
}
"""
BUNDLE = "query($id: ID!, $attempt: Int) { experiment(id: $id) { bundlePath(attempt: $attempt) } }"


def page_of(endpoint: Endpoint, experiment_id: str, **variables: Any) -> dict[str, Any]:
    """A page of artifacts."""
    answer = ask(endpoint, PAGE, id=experiment_id, **variables)
    page = answer["data"]["experiment"]["artifacts"]
    assert isinstance(page, dict)
    return page


def paths_of(endpoint: Endpoint, experiment_id: str, **variables: Any) -> list[str]:
    """The paths of the artifacts of a page."""
    return [node["path"] for node in page_of(endpoint, experiment_id, **variables)["nodes"]]


def one_of(endpoint: Endpoint, experiment_id: str, path: str, **variables: Any) -> Any:
    """One artifact, or None."""
    return ask(endpoint, ONE, id=experiment_id, path=path, **variables)["data"]["experiment"]["artifact"]


def download_path(endpoint: Endpoint, experiment_id: str, path: str, **variables: Any) -> str:
    """Where an artifact can be had."""
    return str(one_of(endpoint, experiment_id, path, **variables)["downloadPath"])


def bundle_path(endpoint: Endpoint, experiment_id: str, **variables: Any) -> str:
    """Where many artifacts can be had."""
    return str(ask(endpoint, BUNDLE, id=experiment_id, **variables)["data"]["experiment"]["bundlePath"])


def bundle(service: ServiceProcess, path: str, paths: list[str], headers: Headers = ()) -> Answer:
    """Ask for many artifacts."""
    return call(service, "POST", path, headers, json.dumps(paths).encode())


def members(answer: Answer) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """The members of an archive with their content, by their paths."""
    assert answer.status == 200, answer
    found = {}
    with tarfile.open(fileobj=io.BytesIO(answer.body), mode="r:") as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            found[member.name] = (member, content.read())
    return found
