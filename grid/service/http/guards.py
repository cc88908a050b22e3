"""Decides about a request before it is read: where it may come from, and who has failed to log in too often.

`accounts` decides who may call, `limits` what may be asked.
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
from uvicorn.protocols.utils import ClientDisconnected

from grid.service.api.errors import ApiError, coded, internal
from grid.service.system.settings import Options
from grid.shared.wire import ErrorCode

__all__ = ["FailedLogins", "guarded", "is_loopback", "refuse"]

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OWN_SITE = frozenset({b"same-origin", b"none"})
"""How a browser marks a request that was not caused by a page of another site."""

_MAX_BUCKETS = 10_000
_NOTHING: Mapping[str, str] = {}


def guarded(app: ASGIApp, options: Options) -> ASGIApp:
    """Wrap an application so that foreign web pages cannot reach it, and its faults do not reach clients.

    A request is refused unless its ``Host`` is a name of this service: this stops a page whose own name was made to
    point to this machine. It is also refused if the browser says that a page of another site has caused it. Programs
    other than browsers send neither ``Origin`` nor ``Sec-Fetch-Site``.

    Parameters
    ----------
    app
        The application.
    options
        The address that the service listens on, and its other names.

    Returns
    -------
    ASGI application
        The guarded application. An exception that it raises is answered as an internal error without details.
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
        except (ClientDisconnect, WebSocketDisconnect, ClientDisconnected):
            return  # the client has disconnected
        except Exception as fault:  # noqa: BLE001 - any fault of the application
            error = internal(fault)
            if not has_begun:
                await _answer(scope, send, HTTPStatus.INTERNAL_SERVER_ERROR, error)

    return guard


async def refuse(
    scope: Scope, send: Send, status: HTTPStatus, error: ApiError, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer a request, or the opening of a WebSocket, with an error in the form of GraphQL's errors.

    Parameters
    ----------
    scope, send
        As ASGI passes them.
    status
        The HTTP status.
    error
        The reason.
    headers
        Additional headers of the answer.
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
            await send({"type": "websocket.close"})  # the server turns this into a 403
            return
    body = orjson.dumps({"errors": [error]}, default=str)
    fixed = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": f"{kind}.start", "status": int(status), "headers": [*fixed, *headers]})
    await send({"type": f"{kind}.body", "body": body})


def is_loopback(host: str) -> bool:
    """Return whether a service that listens on this address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(options: Options) -> Callable[[str], bool]:
    """Return a function that tells whether a name, in lower case and without a port, is one of the service's."""
    names = _LOOPBACK_NAMES | {name.lower().strip("[]") for name in (options.host, *options.allowed_hosts)}
    if is_loopback(options.host):
        return names.__contains__
    names |= {socket.gethostname().lower()}

    def is_known(name: str) -> bool:
        # Any name can be made to point to this machine, but an IP address is what it is.
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
    """Return why a request with these headers is refused; None if it is not."""
    hosts = [value for name, value in headers if name == b"host"]
    host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
    parts = _AUTHORITY.fullmatch(host)
    if parts is None or not is_known(parts["v6"] or parts["name"]):
        given = ", ".join(value.decode("latin-1")[:100] for value in hosts) or "missing"
        message = (
            f"the Host of the request is {given!r}, which is not a name of this service; "
            "its operator can add a name with: serve --allowed-host NAME"
        )
        return HTTPStatus.MISDIRECTED_REQUEST, ApiError(ErrorCode.FORBIDDEN, message)
    for name, value in headers:
        if name == b"origin" and not _is_same(value.decode("latin-1").lower(), host):
            message = f"requests from web pages of {value.decode('latin-1')[:100]!r} are not answered"
            return HTTPStatus.FORBIDDEN, ApiError(ErrorCode.FORBIDDEN, message)
        if name == b"sec-fetch-site" and value.strip().lower() not in _OWN_SITE:
            message = "requests caused by a page of another site are not answered"
            return HTTPStatus.FORBIDDEN, ApiError(ErrorCode.FORBIDDEN, message)
    return None


def _is_same(origin: str, host: str) -> bool:
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    # Either scheme: a proxy in front of the service may add the encryption.
    return port is not None and authority.removesuffix(port) == host.removesuffix(port)


class FailedLogins:
    """Counts wrong keys by the address that sent them and by the user that they were for.

    Each has a bucket of tokens: a failure takes one, and they come back with time. Only failures are counted and
    refused, so that a user with the right key is never locked out, however many share an address.

    Parameters
    ----------
    clock
        Returns seconds that never go backwards.
    """

    FOR_ADDRESS = 100
    FOR_USER = 30
    PER_SECOND = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # How many tokens were left, and when. The least recently used bucket is forgotten first: it is full again.
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def note(self, address: str, user: str) -> float:
        """Count a failure.

        Parameters
        ----------
        address
            The address that the request came from.
        user
            The id or name of the user that it gave; empty if it gave none.

        Returns
        -------
        float
            The number of seconds after which another failure is allowed; 0 if this one was.
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
        while len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return wait
