"""A toy service that offers artifacts as it is told to, whether they are true or not; and experiments of it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from grid.chain.decoding import decode
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.experiment import Experiment
from grid.models import ExperimentRecord
from grid.session.session import Session
from tests.support.toy_service import serving

WHEN = "2021-08-10T16:59:58.044624+00:00"
LARGE = 300_000
"""A size that is not sent in a bundle."""


def sha256(content: bytes) -> str:
    """Return a digest as services write it."""
    return hashlib.sha256(content).hexdigest()


@dataclass
class Offer:
    """A file as it is listed and as it is sent. What is not said is true."""

    path: str
    content: bytes = b"content"
    size: int | None = None
    sha256: str | None = ""
    """None if the service does not know it yet."""
    etag: str = ""
    known_later: str = ""
    """The digest that the service has computed when it is asked for it."""
    sent_etag: str = ""

    @property
    def node(self) -> dict[str, Any]:
        """Return it as it is listed."""
        return {
            "path": self.path,
            "size": float(len(self.content) if self.size is None else self.size),
            "modifiedAt": WHEN,
            "etag": self.etag or f'"{sha256(self.content)[:8]}"',
            "downloadPath": f"/artifacts/e0/1?path={quote(self.path, safe='')}&signature=s3cret",
            "sha256": sha256(self.content) if self.sha256 == "" else self.sha256,
        }


@dataclass
class ArtifactService:
    """What it offers, and what it was asked."""

    offers: list[Offer] = field(default_factory=list)
    status: str = "SUCCEEDED"
    name: str = "clever-noether-1882-exp0"
    page: int = 1_000
    expired: int = 0
    """How many requests for each file, or bundle, are answered as if their addresses had expired."""
    is_gone: bool = False
    bundle: Callable[[list[Offer]], bytes] | None = None
    """Makes what is sent for a bundle; an archive of the files by default."""
    send: Callable[[Request, Offer], Response] | None = None
    """Answers a request for a file."""
    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def experiment(self, **policy: Any) -> Experiment:
        """Return its only experiment, as a session has it."""
        return Experiment(decode(ExperimentRecord, self._experiment()), self.session(**policy))

    def session(self, **policy: Any) -> Session:
        """Log in to it."""
        quick = {"first_wait": 0.001, "max_wait": 0.002, **policy}
        return Session(Endpoint(self.url, "ada", "key"), is_embedded=False, policy=RetryPolicy(**quick))

    def _experiment(self) -> dict[str, Any]:
        return {
            "id": "e0",
            "name": self.name,
            "status": self.status,
            "attempt": 1,
            "project": "p",
            "commitSha": "c",
            "parameters": {},
            "invocationCommand": "",
            "user": {"username": "ada"},
            "createdAt": WHEN,
            "startedRunningAt": WHEN,
            "finishedAt": WHEN,
        }

    async def graphql(self, request: Request) -> Response:
        """Answer an operation by its name."""
        asked = await request.json()
        operation, variables = asked["operationName"], asked["variables"]
        self.asked[operation] += 1
        answer = {
            "Login": lambda: {"apiVersion": 1, "viewer": {"id": "u0", "username": "ada"}},
            "GetExperiment": lambda: self._found({}),
            "GetArtifacts": lambda: self.artifacts(variables["first"], variables["after"]),
            "GetArtifact": lambda: self._found({"artifact": self._artifact(variables["path"])}),
            "GetBundle": lambda: self._found({"bundlePath": "/bundles/e0/1?signature=s3cret"}),
        }[operation]
        return JSONResponse({"data": answer()})

    def artifacts(self, first: int, after: str | None) -> dict[str, Any]:
        """Answer `GetArtifacts`."""
        return self._found({"artifacts": self._page(first, after)})

    def _found(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"experiment": None if self.is_gone else {**self._experiment(), **more}}

    def _artifact(self, path: str) -> dict[str, Any] | None:
        for offer in self.offers:
            if offer.path == path:
                return {**offer.node, "sha256": offer.node["sha256"] or offer.known_later or None}
        return None

    def _page(self, first: int, after: str | None) -> Any:
        start = int(after or 0)
        end = start + min(first, self.page)
        return {
            "attempt": 1,
            "nodes": [offer.node for offer in self.offers[start:end]],
            "pageInfo": {"hasNextPage": end < len(self.offers), "endCursor": str(end)},
        }

    async def file(self, request: Request) -> Response:
        """Send a file."""
        self.asked["GET"] += 1
        if (refusal := self._refusal(request.query_params["path"])) is not None:
            return refusal
        offer = next((offer for offer in self.offers if offer.path == request.query_params["path"]), None)
        if offer is None:
            error = {"message": "there is none", "extensions": {"code": "ARTIFACT_NOT_FOUND"}}
            return JSONResponse({"errors": [error]}, 404)
        if self.send is not None:
            return self.send(request, offer)
        return answered(request, offer.content, offer.sent_etag or offer.node["etag"])

    async def files(self, request: Request) -> Response:
        """Send a bundle."""
        self.asked["POST"] += 1
        if (refusal := self._refusal("")) is not None:
            return refusal
        paths = await request.json()
        offers = [offer for offer in self.offers if offer.path in paths]
        return Response((self.bundle or archive)(offers), media_type="application/x-tar")

    def _refusal(self, what: str) -> Response | None:
        self.refused[what] += 1
        if self.refused[what] > self.expired:
            return None
        error = {"message": "this address has expired", "extensions": {"code": "FORBIDDEN"}}
        return JSONResponse({"errors": [error]}, 403)


def answered(request: Request, content: bytes, etag: str) -> Response:
    """Answer as a service does: whole, or from where the request says if the file is still the same."""
    asked = request.headers.get("range")
    if asked is None or request.headers.get("if-range", etag) != etag:
        return Response(content, headers={"ETag": etag}, media_type="application/octet-stream")
    first, _, last = asked.removeprefix("bytes=").partition("-")
    end = min(int(last or len(content)) + 1, len(content)) if last else len(content)
    headers = {"ETag": etag, "Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
    return Response(content[int(first) : end], 206, headers, "application/octet-stream")


def archive(offers: list[Offer], **records: str) -> bytes:
    """Return an archive of these files, with their digests or with other records."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for offer in offers:
            member = tarfile.TarInfo(offer.path)
            member.size = len(offer.content)
            member.pax_headers = {"GRID.sha256": sha256(offer.content), "path": offer.path, **records}
            tar.addfile(member, io.BytesIO(offer.content))
    return out.getvalue()


@contextmanager
def artifact_service(*offers: Offer, **options: Any) -> Iterator[ArtifactService]:
    """Yield a running service that offers these files."""
    service = ArtifactService(list(offers), **options)
    routes = [
        Route("/graphql", service.graphql, methods=["POST"]),
        Route("/artifacts/{id}/{attempt}", service.file),
        Route("/bundles/{id}/{attempt}", service.files, methods=["POST"]),
    ]
    with serving(Starlette(routes=routes)) as url:
        service.url = url.removesuffix("/some/where")
        yield service
