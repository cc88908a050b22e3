"""Uploads to small real servers: what arrives, and what a refusal means."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from grid import errors
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
from tests.support.raw_service import KEY, QUICK, Server, fault, reply

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1000, 3 << 20])
def test_upload(server: Server, tmp_path: Path, size: int) -> None:
    """A file arrives as it is, small or large, at the path below the service's address, also when a try fails."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    server.answers = [reply("", 503), reply("", 201)]

    async def main() -> Transport:
        transport = Transport(Endpoint(server.url + "/graphql", "ada", KEY), RetryPolicy(**QUICK))
        await transport.upload("/snapshots/ab?signature=c%2Bd", archive, size)
        await transport.close()
        return transport

    assert asyncio.run(main()).requests_sent == 2
    for heard in server.heard:
        assert (heard.method, heard.path) == ("PUT", "/snapshots/ab?signature=c%2Bd")
        assert heard.body == archive.read_bytes()
        assert heard.headers["content-type"] == "application/x-tar"
        assert heard.headers["content-length"] == str(size)
        assert "transfer-encoding" not in heard.headers
        assert "authorization" in heard.headers


def upload(server: Server, archive: Path, size: int, address: str = "/snapshots/ab") -> None:
    """Upload a file in one try."""

    async def main() -> None:
        transport = Transport(Endpoint(server.url, "ada", KEY), RetryPolicy(tries=1, read_timeout=5))
        try:
            await transport.upload(address, archive, size)
        finally:
            await transport.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (fault("INVALID_SNAPSHOT", "bad tar", 422), errors.SourceError, "bad tar"),
        (fault("LIMIT_EXCEEDED", "too big", 413), errors.LimitExceeded, "too big"),
        (reply("Not found", 404, "text/plain"), errors.InvalidResponse, "Not found"),
        (reply("", 403), errors.AuthenticationFailed, "'ada'"),
        (reply("{}", 500), errors.InvalidResponse, "HTTP 500"),
        (lambda _: None, errors.ConnectionFailed, "the upload"),
    ],
)
def test_refused_upload(server: Server, tmp_path: Path, answer: Any, kind: type[errors.GridError], says: str) -> None:
    """The service's answer to an upload is mapped as it is for a query."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(b"tar")
    server.answers = [answer]
    with pytest.raises(kind, match=says) as raised:
        upload(server, archive, 3)
    assert type(raised.value) is kind


def test_upload_of_another_size(server: Server, tmp_path: Path) -> None:
    """A file that does not have the announced size is not sent."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(b"tar")
    with pytest.raises(errors.SourceError, match="3 bytes, but 4"):
        upload(server, archive, 4)
    assert server.heard == []


def test_upload_elsewhere_has_no_key(server: Server, tmp_path: Path) -> None:
    """A whole URL on another host gets the file and not the key."""
    archive = tmp_path / "snapshot.tar"
    archive.write_bytes(b"tar")
    with Server([reply("")]) as other:
        upload(server, archive, 3, other.url + "/bucket")
    assert server.heard == []
    assert other.heard[0].body == b"tar"
    assert "authorization" not in other.heard[0].headers
