"""The wire: requests to one service, with time-outs, retries, uploads, subscriptions, and what its errors mean.

The only file that imports gql and aiohttp. That takes a while, so others import this one inside their first call. Which
operations there are, and what is in their answers, is not known here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from gql import GraphQLRequest
from gql.transport import exceptions as gql_errors
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from grid import errors, loop
from grid._version import __version__
from grid.endpoint import Endpoint, RetryPolicy
from grid.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from pathlib import Path

__all__ = ["Endpoint", "Operation", "RetryPolicy", "Transport"]

T = TypeVar("T")

_CODES: dict[ErrorCode, type[errors.GridError]] = {
    ErrorCode.UNAUTHENTICATED: errors.AuthenticationFailed,
    ErrorCode.FORBIDDEN: errors.PermissionDenied,
    ErrorCode.BAD_REQUEST: errors.ServiceError,
    ErrorCode.GRAPHQL_PARSE_FAILED: errors.ServiceTooOld,
    ErrorCode.GRAPHQL_VALIDATION_FAILED: errors.ServiceTooOld,
    ErrorCode.LIMIT_EXCEEDED: errors.LimitExceeded,
    ErrorCode.INVALID_ARGUMENT: errors.InvalidArgument,
    ErrorCode.INVALID_SWEEP: errors.SweepError,
    ErrorCode.UNSUPPORTED: errors.Unsupported,
    ErrorCode.RUN_NOT_FOUND: errors.RunNotFound,
    ErrorCode.EXPERIMENT_NOT_FOUND: errors.ExperimentNotFound,
    ErrorCode.CLUSTER_NOT_FOUND: errors.ClusterNotFound,
    ErrorCode.NAME_TAKEN: errors.NameTaken,
    ErrorCode.INVALID_SNAPSHOT: errors.SourceError,
    ErrorCode.UNAVAILABLE: errors.ConnectionFailed,
    ErrorCode.INTERNAL: errors.ServiceError,
}
# What each exception of gql is where no status, no body and no cause says it better.
_FAULTS: dict[type[gql_errors.TransportError], type[errors.GridError]] = {
    gql_errors.TransportError: errors.ServiceError,
    gql_errors.TransportProtocolError: errors.InvalidResponse,
    gql_errors.TransportServerError: errors.InvalidResponse,
    gql_errors.TransportQueryError: errors.ServiceError,
    gql_errors.TransportClosed: errors.ConnectionFailed,
    gql_errors.TransportConnectionFailed: errors.ConnectionFailed,
    gql_errors.TransportAlreadyConnected: errors.ConnectionFailed,
}
_ADVICE: dict[type[errors.GridError], str] = {
    errors.ConnectionFailed: "Check that the service runs and that the URL is right.",
    errors.RequestTimeout: "Try again later, or set GRID_HTTP_TIMEOUT to more seconds.",
    errors.InvalidResponse: "Check the URL: it has to be the address of a Grid service.",
    errors.ServiceTooOld: "Update the service, or use an older version of grid-runs with it.",
    errors.AuthenticationFailed: "Check GRID_USER_ID and GRID_API_KEY, or what login() was given.",
}
_PASSING_STATUS = frozenset({429, 502, 503, 504})
_REFUSED_STATUS = frozenset({401, 403})
_REFUSED_CLOSE = frozenset({4401, 4403})  # of a WebSocket: unauthorized and forbidden, in graphql-transport-ws
_PASSING_CAUSES = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError, gql_errors.TransportClosed)
_HANDSHAKES = (aiohttp.WSServerHandshakeError, aiohttp.ClientHttpProxyError)
_TIMEOUTS = (asyncio.TimeoutError, TimeoutError)  # two classes on Python 3.10

_EXCERPT = 200  # characters of a body that is no answer
_MESSAGE = 2_000  # characters of a message of the service
_IN_MEMORY = 1 << 20  # bytes; a larger upload is streamed
_CHUNK = 1 << 18
_SLOWEST_UPLOAD = 1 << 16  # bytes a second: an upload may take as long as its size at this speed, and a read time-out
_FAREWELL = 0.5  # seconds that closing a WebSocket or a TLS connection may wait for the other side
_HEARTBEAT = 30.0  # seconds between pings on a subscription's WebSocket, so that a dead line is noticed


class Operation(Protocol):
    """A query as :mod:`grid.registry` gives it."""

    @property
    def name(self) -> str:
        """The operation's name."""

    @property
    def text(self) -> str:
        """The document, fragments included."""


class Transport:
    """Carries requests to one service. Every method runs on an event loop, normally that of :mod:`grid.loop`.

    The connection is made by the first request, and again where the loop is another one: in a forked child.

    Parameters
    ----------
    endpoint
        The service and the user.
    policy
        Time-outs and retries of every request that brings none of its own.
    """

    def __init__(self, endpoint: Endpoint, policy: RetryPolicy | None = None) -> None:
        self.endpoint = endpoint
        self.policy = policy or RetryPolicy.from_environment()
        self.requests_sent = 0
        """How many HTTP requests were tried so far."""
        self._line: _Line | None = None

    async def execute(
        self,
        query: Operation,
        variables: dict[str, Any],
        *,
        policy: RetryPolicy | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Send a query or a mutation, again where that may help, and return the ``data`` of the answer.

        Parameters
        ----------
        query
            What to ask. Everything the service offers may be repeated without harm.
        variables
            The values of its variables, as JSON has them.
        policy
            In place of the transport's own.
        timeout
            Seconds for each try, in place of the policy's read time-out.

        Raises
        ------
        ConnectionFailed, RequestTimeout
            There was no answer, after all tries.
        InvalidResponse
            There was one that is not GraphQL.
        GridError
            What the service's error code stands for.
        """
        policy = policy or self.policy

        async def once(patience: float) -> dict[str, Any]:
            line = self._connected()
            answer = _Answer()
            arguments = self._arguments(answer, self.endpoint.graphql_url, policy, patience)
            self.requests_sent += 1
            try:
                await line.open()
                result = await line.http.execute(_Request(query, variables), extra_args=arguments)
            except gql_errors.TransportError as error:
                raise self._failure(error, answer, patience) from None
            return self._unpack(result.data, result.errors, answer)

        return await self._repeat(query.name, policy, timeout or policy.read_timeout, once)

    async def upload(
        self,
        path_or_url: str,
        archive: Path,
        size: int,
        content_type: str = "application/x-tar",
        *,
        policy: RetryPolicy | None = None,
    ) -> None:
        """Send a file with ``PUT``, again where that may help. A large one is read while it is sent.

        Parameters
        ----------
        path_or_url
            Where to: a path below the service's address. A whole URL works too; another host is not sent the key.
        archive
            The file.
        size
            Its size in bytes.
        content_type
            What it is.
        policy
            In place of the transport's own.

        Raises
        ------
        SourceError
            The file does not have that size, or the service does not accept its content.
        GridError
            As :meth:`execute` does.
        """
        policy = policy or self.policy
        whole = path_or_url.startswith(("http://", "https://"))
        url = path_or_url if whole else f"{self.endpoint.url}/{path_or_url.lstrip('/')}"
        actual = archive.stat().st_size  # noqa: ASYNC240 - a local file
        if actual != size:
            message = f"{archive} has {actual} bytes, and {size} were announced: was it changed? Start again"
            raise errors.SourceError(message)

        async def once(patience: float) -> None:
            line = self._connected()
            answer = _Answer()
            arguments = self._arguments(answer, url, policy, patience)
            arguments["headers"] |= {"Content-Type": content_type, "Content-Length": str(size)}
            self.requests_sent += 1
            try:
                session = await line.open()
                body = archive.read_bytes() if size <= _IN_MEMORY else _chunks(archive)  # noqa: ASYNC240
                async with session.put(url, data=body, **arguments):
                    pass
            except (aiohttp.ClientError, OSError, *_TIMEOUTS) as error:
                raise self._failure(error, answer, patience) from None
            if not 200 <= answer.status < 300:  # noqa: PLR2004
                self._unpack(None, answer.errors(), answer)

        await self._repeat("the upload", policy, policy.read_timeout + size / _SLOWEST_UPLOAD, once)

    async def subscribe(self, query: Operation, variables: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Send a subscription, and yield the ``data`` of each of its results until the service ends it.

        Nothing is tried twice: who watches knows best whether to begin again.

        Parameters
        ----------
        query
            What to watch.
        variables
            The values of its variables, as JSON has them.

        Yields
        ------
        dict
            The ``data`` of a result.

        Raises
        ------
        GridError
            As :meth:`execute` does; `ConnectionFailed` also where the line is cut.
        """
        begun, answer = time.monotonic(), _Answer()
        line = self._connected()
        connection = AIOHTTPWebsocketsTransport(
            url="ws" + self.endpoint.graphql_url.removeprefix("http"),
            subprotocols=[AIOHTTPWebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
            headers={"Authorization": self.endpoint.authorization},
            session=await line.open(),  # one of gql's own making would stay open where the handshake fails
            proxy=_proxy(self.endpoint.url),
            heartbeat=_HEARTBEAT,
            connect_timeout=self.policy.connect_timeout,
            ack_timeout=self.policy.read_timeout,
            close_timeout=2 * _FAREWELL,
            websocket_close_timeout=_FAREWELL,
            ssl_close_timeout=_FAREWELL,
        )
        socket = None
        self.requests_sent += 1
        try:
            try:
                await connection.connect()
            finally:
                socket = connection.adapter.websocket  # gql forgets it when it closes, and with it the close code
            async with aclosing(connection.subscribe(_Request(query, variables))) as results:
                async for result in results:
                    yield self._unpack(result.data, result.errors, answer)
        except gql_errors.TransportQueryError as error:
            failure = self._refusal(error.errors, answer) or _Failure(_FAULTS[type(error)], str(error))
            raise self._last_word(query.name, failure, 1, begun) from None
        except (gql_errors.TransportError, *_TIMEOUTS) as error:
            failure = self._failure(error, answer, self.policy.read_timeout)
            code = socket.close_code if socket is not None else None
            if code in _REFUSED_CLOSE:
                failure = self._denial(f"WebSocket closed with code {code}")
            raise self._last_word(query.name, failure, 1, begun) from None
        except _Failure as failure:
            raise self._last_word(query.name, failure, 1, begun) from None
        finally:
            await connection.close()

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        line, self._line = self._line, None
        if line is not None and line.is_here:
            await line.close()

    def _connected(self) -> _Line:
        # No `await` in here: of several tasks that come at once, the first makes the line and all use it.
        if self._line is None or not self._line.is_here:
            self._line = _Line(self.endpoint)
        return self._line

    def _arguments(self, answer: _Answer, url: str, policy: RetryPolicy, patience: float) -> dict[str, Any]:
        headers = {"Accept": "application/graphql-response+json, application/json;q=0.9"}
        if urlsplit(url)[:2] == urlsplit(self.endpoint.url)[:2]:
            headers["Authorization"] = self.endpoint.authorization
        return {
            "headers": headers,
            "timeout": aiohttp.ClientTimeout(total=patience, sock_connect=min(policy.connect_timeout, patience)),
            "raise_for_status": answer.receive,
            "allow_redirects": False,  # the key goes nowhere but where it was meant to go
            "proxy": _proxy(url),
        }

    async def _repeat(
        self, name: str, policy: RetryPolicy, patience: float, once: Callable[[float], Awaitable[T]]
    ) -> T:
        begun, deadline = time.monotonic(), policy.deadline or 2 * patience
        tries = 0

        async def attempt() -> T:
            nonlocal tries
            tries += 1
            return await once(min(patience, max(deadline - (time.monotonic() - begun), 0.001)))

        retrying = AsyncRetrying(
            stop=stop_after_attempt(policy.tries) | stop_before_delay(deadline),
            wait=wait_exponential(policy.first_wait, policy.max_wait) + wait_random(0, policy.first_wait),
            retry=retry_if_exception(lambda error: isinstance(error, _Failure) and error.again),
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except _Failure as failure:
            raise self._last_word(name, failure, tries, begun) from None

    def _last_word(self, name: str, failure: _Failure, tries: int, begun: float) -> errors.GridError:
        message = self._clean(failure.reason, _MESSAGE)
        if failure.again:
            count = "1 try" if tries == 1 else f"{tries} tries"
            message = f"{message} ({count} over {time.monotonic() - begun:.1f} s)"
        if failure.again or failure.kind in _ADVICE or failure.kind is errors.ServiceError:
            message = f"{name} at {self.endpoint.url}: {message}"
        return failure.kind(". ".join(filter(None, [message.rstrip("."), _ADVICE.get(failure.kind)])))

    def _failure(self, error: BaseException, answer: _Answer, patience: float) -> _Failure:  # noqa: PLR0911 - a table
        """Say what it means that gql or aiohttp raised `error`."""
        cause = error.__cause__ if isinstance(error, gql_errors.TransportError) and error.__cause__ else error
        if answer.status:
            return self._stranger(answer)
        if isinstance(cause, _HANDSHAKES):
            answer.status, answer.body = cause.status, cause.message.encode()
            return self._stranger(answer)
        if isinstance(cause, aiohttp.ClientResponseError):
            return _Failure(errors.InvalidResponse, f"what answers there does not speak HTTP: {cause.message}")
        text = str(cause) or str(error) or type(cause).__name__
        if isinstance(cause, _TIMEOUTS):
            return _Failure(errors.RequestTimeout, str(cause) or f"no answer within {patience:.3g} s", again=True)
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            return _Failure(errors.ConnectionFailed, f"its certificate is not trusted: {text}")
        if isinstance(cause, _PASSING_CAUSES):
            return _Failure(errors.ConnectionFailed, text, again=True)
        if isinstance(error, gql_errors.TransportError):
            return _Failure(_FAULTS.get(type(error), errors.ServiceError), text)
        return _Failure(errors.ConnectionFailed, text)

    def _unpack(self, result: Any, faults: Any, answer: _Answer) -> dict[str, Any]:
        failure = self._refusal(faults, answer)
        if failure is not None:
            raise failure
        if not isinstance(result, dict) or faults or answer.status >= 400:  # noqa: PLR2004
            raise self._stranger(answer)
        return result

    def _refusal(self, faults: Any, answer: _Answer) -> _Failure | None:
        """Say what the errors of the service mean; ``None`` where they are none that GraphQL knows."""
        if not isinstance(faults, list) or not faults or not isinstance(faults[0], dict):
            return None
        message, extensions = faults[0].get("message"), faults[0].get("extensions")
        if not isinstance(message, str):
            return None
        code = extensions.get("code") if isinstance(extensions, dict) else None
        kind = _CODES[ErrorCode(code)] if code in set(ErrorCode) else None
        if kind is errors.AuthenticationFailed or (kind is None and answer.status in _REFUSED_STATUS):
            return self._denial(message)
        if kind is errors.ServiceTooOld:
            message = f"the service does not know this query: {message}"
        elif kind is errors.ServiceError or kind is None:
            message = f"the service failed: {message}"
        passing = answer.status in _PASSING_STATUS
        kind = kind or (errors.ConnectionFailed if passing else errors.ServiceError)
        return _Failure(kind, message, again=passing or code == ErrorCode.UNAVAILABLE)

    def _denial(self, reason: str) -> _Failure:
        return _Failure(
            errors.AuthenticationFailed, f"the key of user id {self.endpoint.user_id!r} is not accepted: {reason}"
        )

    def _stranger(self, answer: _Answer) -> _Failure:
        """Say what an answer means that is not GraphQL."""
        body = self._clean(answer.body.decode(errors="replace"), _EXCERPT)
        reason = f"HTTP {answer.status}, {answer.content_type or 'no content type'}: {body!r}"
        if answer.status in _REFUSED_STATUS:
            return self._denial(reason)
        if answer.status in _PASSING_STATUS:
            return _Failure(errors.ConnectionFailed, reason, again=True)
        return _Failure(errors.InvalidResponse, f"the answer is not GraphQL: {reason}")

    def _clean(self, text: str, limit: int) -> str:
        """Leave out what must not reach a terminal or a log: secrets, control characters, and too much."""
        for secret in (self.endpoint.authorization.partition(" ")[2], self.endpoint.api_key):
            text = text.replace(secret, "***") if secret else text
        text = re.sub(r"//[^/\s@]+@", "//***@", text)
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        return text if len(text) <= limit else text[:limit] + "…"


class _Failure(Exception):
    """One try has failed: as what, why, and whether another may succeed."""

    def __init__(self, kind: type[errors.GridError], reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.again = again


class _Answer:
    """What came back, kept beside gql, whose exceptions tell neither the status nor the body."""

    status = 0
    content_type = ""
    body = b""

    async def receive(self, response: aiohttp.ClientResponse) -> None:
        # aiohttp calls this before gql reads. Reading here first means that a cut line or a time-out within the body
        # surfaces as what it is; gql would take it for a body that is no JSON.
        self.body = await response.read()
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "")
        if "Location" in response.headers:
            self.content_type += f", redirecting to {response.headers['Location'].partition('?')[0]}"

    def errors(self) -> Any:
        try:
            return orjson.loads(self.body)["errors"]
        except (ValueError, TypeError, KeyError, IndexError):
            return None


class _Request(GraphQLRequest):
    """A request whose text goes out as it is: gql's own is parsed once and printed for each payload."""

    def __init__(self, query: Operation, variables: dict[str, Any]) -> None:
        self.text = query.text
        self.variable_values = variables
        self.operation_name = query.name
        self.extensions = None

    @property
    def payload(self) -> dict[str, Any]:
        return {"query": self.text, "operationName": self.operation_name, "variables": self.variable_values}


class _Line:
    """The open connections of one loop in one process."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._opening = asyncio.Lock()
        self.http = AIOHTTPTransport(
            url=endpoint.graphql_url,
            headers={"User-Agent": f"grid/{__version__}"},
            json_deserialize=orjson.loads,
            ssl_close_timeout=_FAREWELL,  # type: ignore[arg-type, unused-ignore]
        )

    @property
    def is_here(self) -> bool:
        return self._loop is asyncio.get_running_loop() and self._pid == os.getpid()

    async def open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self.http.session is None:
                # Not `trust_env`: aiohttp then also reads .netrc, and refuses a request to a host that is listed there
                # because it has an Authorization header already. Proxies are found by `_proxy`.
                self.http.client_session_args = {
                    "connector": aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver()),
                    "cookie_jar": aiohttp.DummyCookieJar(),
                }
                await self.http.connect()
                loop.adopt(self)
            assert self.http.session is not None
            return self.http.session

    async def close(self) -> None:
        loop.release(self)
        await self.http.close()
        await asyncio.sleep(0)  # the sockets are given back one turn of the loop later


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment gives for a URL. This machine itself is never asked for through one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    return None if local or proxy_bypass(host) else getproxies().get(parts.scheme)


async def _chunks(archive: Path) -> AsyncGenerator[bytes, None]:
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
