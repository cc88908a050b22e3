"""Requests to a service as a stranger may write them: any header, any body, without any of the client's own code."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

from tests.support.requests import ask
from tests.support.services import ServiceProcess

JSON = ("Content-Type", "application/json")
UPLOAD = "/snapshots/" + "0" * 64
PROTOCOL = "graphql-transport-ws"

Headers = Sequence[tuple[str, str | None]]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, which must be a JSON object."""
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict), self
        return parsed

    @property
    def codes(self) -> list[str]:
        """The code of each error."""
        return [error["extensions"]["code"] for error in self.json["errors"]]


def address_of(service: ServiceProcess) -> tuple[str, int]:
    """The host and the port of a service."""
    parts = urlsplit(service.endpoint.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def key_of(service: ServiceProcess) -> tuple[str, str]:
    """The header that says whose request it is."""
    return ("Authorization", service.endpoint.authorization)


class Line:
    """A connection that stays open from one request to the next, and is reopened if the service has closed it."""

    def __init__(self, service: ServiceProcess) -> None:
        self._host = urlsplit(service.endpoint.url).netloc
        self._connection = http.client.HTTPConnection(*address_of(service), timeout=60)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Send a request with these headers; ``Host`` and ``Content-Length`` are added unless they are among them.

        A header whose value is None is left out altogether.
        """
        was_open = self._connection.sock is not None
        try:
            try:
                return self._call(method, path, headers, body)
            except ConnectionError:
                # The service closes connections that were idle for some seconds.
                if not was_open:
                    raise
                self._connection.close()
                return self._call(method, path, headers, body)
        except BaseException:
            # Half a request must not be the beginning of the next.
            self._connection.close()
            raise

    def _call(self, method: str, path: str, headers: Headers, body: bytes) -> Answer:
        names = {name.lower() for name, _ in headers}
        self._connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if "host" not in names:
            self._connection.putheader("Host", self._host)
        for name, value in headers:
            if value is not None:
                self._connection.putheader(name, value.encode("latin-1"))
        if "content-length" not in names and (body or method not in {"GET", "HEAD"}):
            self._connection.putheader("Content-Length", str(len(body)))
        self._connection.endheaders(body or None)
        response = self._connection.getresponse()
        content = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def call(
    service: ServiceProcess, method: str = "POST", path: str = "/graphql", headers: Headers = (), body: bytes = b""
) -> Answer:
    """Send one request, as `Line.call` does, over a connection of its own."""
    with Line(service) as line:
        return line.call(method, path, headers, body)


def graphql(query: str, **more: Any) -> bytes:
    """The body of a GraphQL request."""
    return json.dumps({"query": query, **more}).encode()


VIEWER = graphql("{ viewer { username } }")
PAUSE = graphql('mutation { pauseCluster(name: "local") { name } }')


def refused(answer: Answer, status: int, code: str, home: Path) -> None:
    """Require an answer that refuses in the shape of GraphQL's errors, and reveals nothing."""
    assert (answer.status, answer.codes) == (status, [code]), answer
    assert "data" not in answer.json
    says_nothing(answer, home)


def says_nothing(answer: Answer, home: Path) -> None:
    """Require that an answer reveals no path and no traceback, and that no page of another site can read it."""
    text = answer.body.decode()
    assert not re.search(r"Traceback|site-packages|\.py\b|line \d+|sqlalchemy|SELECT ", text), text
    assert str(home) not in text
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "server" not in answer.headers


def is_paused(service: ServiceProcess) -> bool:
    """Whether the cluster is paused."""
    answer = ask(service.endpoint, '{ cluster(name: "local") { paused } }')
    paused = answer["data"]["cluster"]["paused"]
    assert isinstance(paused, bool)
    return paused


def basic(user: str, key: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


def opened(
    service: ServiceProcess, headers: dict[str, str] | None = None, protocol: str = PROTOCOL
) -> ClientConnection:
    """Open a WebSocket."""
    host, port = address_of(service)
    more = dict(headers or {})
    name = more.pop("Host", f"{host}:{port}")
    return connect(
        f"ws://{name}/graphql",
        sock=socket_to(host, port),
        subprotocols=[protocol],  # type: ignore[list-item]
        additional_headers=more,
        open_timeout=60,
        proxy=None,
    )


def socket_to(host: str, port: int) -> socket.socket:
    """Connect to an address, whatever name the request will have."""
    return socket.create_connection((host, port), timeout=30)
