"""What is decided about a request before anything of it is read: where it may come from, and who has failed too often.

Who may call is decided by `accounts`, what may be asked by `limits`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from grid.service.api.errors import ApiError, coded, internal
from grid.service.system.settings import Options
from grid.shared.wire import ErrorCode

__all__ = ["FailedLogins", "guarded", "is_loopback", "refuse"]

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OWN_SITE = frozenset({b"same-origin", b"none"})
"""What a browser says of a request that no other site's page has caused."""

_MOST_KEPT = 10_000
_NOTHING: Mapping[str, str] = {}


def guarded(app: ASGIApp, options: Options) -> ASGIApp:
    """Wrap an application so that no page of a browser reaches it, and none of its faults the client.

    A request is refused unless its ``Host`` is a name of this service: a page that had its own name point to this
    machine is stopped by that. So is one that a browser says another site's page has caused. Programs other than
    browsers send neither ``Origin`` nor ``Sec-Fetch-Site``.

    Parameters
    ----------
    app
        The application.
    options
        Where the service listens, and the names that it has besides.

    Returns
    -------
    ASGI application
        The application behind its guards. An exception that it lets out is answered as a fault without a word of it.
    """
    is_known = _names(options)

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _foreign(scope["headers"], is_known)
        if refusal is not None:
            await refuse(scope, send, *refusal)
            return
        has_begun = False

        async def watching(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await app(scope, receive, watching)
        except (ClientDisconnect, WebSocketDisconnect):
            return  # nobody waits for an answer
        except Exception as fault:  # noqa: BLE001 - of the application, whatever it is
            error = internal(fault)
            if not has_begun:
                await _answer(scope, send, HTTPStatus.INTERNAL_SERVER_ERROR, error)

    return guard


async def refuse(
    scope: Scope, send: Send, status: HTTPStatus, error: ApiError, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer a request, or the opening of a WebSocket, with an error in the shape of GraphQL's.

    Parameters
    ----------
    scope, send
        As ASGI gives them.
    status
        The HTTP status.
    error
        Why.
    headers
        More headers of the answer.
    """
    await _answer(scope, send, status, coded(error, error.code), headers)


async def _answer(
    scope: Scope,
    send: Send,
    status: HTTPStatus,
    error: dict[str, object],
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", _NOTHING):
            await send({"type": "websocket.close"})  # which the server makes a 403 of
            return
    body = orjson.dumps({"errors": [error]}, default=str)
    fixed = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": f"{kind}.start", "status": int(status), "headers": [*fixed, *headers]})
    await send({"type": f"{kind}.body", "body": body})


def is_loopback(host: str) -> bool:
    """Whether who listens on this address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(options: Options) -> Callable[[str], bool]:
    """Return what says whether a name in lower case, without a port, is one of the service's."""
    names = _LOOPBACK_NAMES | {name.lower().strip("[]") for name in (options.host, *options.allowed_hosts)}
    if is_loopback(options.host):
        return names.__contains__
    names |= {socket.gethostname().lower()}

    def is_known(name: str) -> bool:
        # Anybody's name can be made to point here, but what stands for itself points nowhere else.
        return name in names or _is_address(name)

    return is_known


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _foreign(
    headers: Sequence[tuple[bytes, bytes]], is_known: Callable[[str], bool]
) -> tuple[HTTPStatus, ApiError] | None:
    """Say why a request with these headers is not answered; None where it is."""
    hosts = [value for name, value in headers if name == b"host"]
    host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
    parts = _AUTHORITY.fullmatch(host)
    if parts is None or not is_known(parts["v6"] or parts["name"]):
        given = ", ".join(value.decode("latin-1")[:100] for value in hosts) or "missing"
        message = (
            f"the Host of the request is {given!r}, which is no name of this service; "
            "whoever runs it adds one with: serve --allowed-host NAME"
        )
        return HTTPStatus.MISDIRECTED_REQUEST, ApiError(ErrorCode.FORBIDDEN, message)
    for name, value in headers:
        if name == b"origin" and not _is_same(value.decode("latin-1").lower(), host):
            message = f"requests of web pages from {value.decode('latin-1')[:100]!r} are not answered"
            return HTTPStatus.FORBIDDEN, ApiError(ErrorCode.FORBIDDEN, message)
        if name == b"sec-fetch-site" and value.strip().lower() not in _OWN_SITE:
            message = "requests that a page of another site has caused are not answered"
            return HTTPStatus.FORBIDDEN, ApiError(ErrorCode.FORBIDDEN, message)
    return None


def _is_same(origin: str, host: str) -> bool:
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    # Either scheme: what encrypts for the service stands in front of it.
    return port is not None and authority.removesuffix(port) == host.removesuffix(port)


class FailedLogins:
    """Counts wrong keys by the address that they came from and by the user that they were for.

    A bucket of tokens for each: a failure takes one, and they come back with time. Only failures are counted and
    refused, so that nobody locks out somebody with the right key, however many share an address.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    FOR_ADDRESS = 100
    FOR_USER = 30
    PER_SECOND = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # How many tokens were there, and when. The one that was used longest ago is forgotten first: it is full again.
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def note(self, address: str, user: str) -> float:
        """Count a failure.

        Parameters
        ----------
        address
            Where the request came from.
        user
            Whose id or name it gave; empty where it gave none.

        Returns
        -------
        float
            After how many seconds another one is allowed; 0 where this one was.
        """
        waits = [self._take(("address", address), self.FOR_ADDRESS)]
        if user:
            waits.append(self._take(("user", user), self.FOR_USER))
        return max(waits)

    def _take(self, key: tuple[str, str], size: float) -> float:
        now = self._clock()
        tokens, at = self._buckets.pop(key, (size, now))
        tokens = min(size, tokens + max(0.0, now - at) * self.PER_SECOND)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self.PER_SECOND
        self._buckets[key] = (tokens if wait else tokens - 1, now)
        while len(self._buckets) > _MOST_KEPT:
            self._buckets.popitem(last=False)
        return wait
