"""The wire: requests to one service, with time-outs, retries, uploads and subscriptions.

The only file that imports gql and aiohttp. That takes a while, so others import this one inside their first call. Which
operations there are, and what is in their answers, is not known here; what the service's errors mean is in
:mod:`grid.chain.failures`.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import json
import logging
import os
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar
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

from grid import errors
from grid._version import __version__
from grid.chain import loop
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.failures import Answer, FailedTry, Failures
from grid.chain.large_body import LargeBody
from grid.chain.receiving import BrokenAnswer, Receiver, Series, blocking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

__all__ = ["Endpoint", "Operation", "RetryPolicy", "Transport"]

T = TypeVar("T")

# gql writes all that is sent and received into its log where a program asks for everything (`logging.DEBUG`). There may
# be secrets in it, such as a run's variables.
for _name in ("gql.transport.aiohttp", "gql.transport.common.base"):
    if not logging.getLogger(_name).level:
        logging.getLogger(_name).setLevel(logging.INFO)

# What each exception of gql means when no status, body or cause says it better.
_FAULTS: dict[type[gql_errors.TransportError], type[errors.GridError]] = {
    gql_errors.TransportError: errors.ServiceError,
    gql_errors.TransportProtocolError: errors.InvalidResponse,
    gql_errors.TransportServerError: errors.InvalidResponse,
    gql_errors.TransportQueryError: errors.ServiceError,
    gql_errors.TransportClosed: errors.ConnectionFailed,
    gql_errors.TransportConnectionFailed: errors.ConnectionFailed,
    gql_errors.TransportAlreadyConnected: errors.ConnectionFailed,
}
_REFUSED_CLOSE = frozenset({4401, 4403})  # of a WebSocket: unauthorized and forbidden, in graphql-transport-ws
_PASSING_CAUSES = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError, gql_errors.TransportClosed)
_HANDSHAKES = (aiohttp.WSServerHandshakeError, aiohttp.ClientHttpProxyError)

_IN_MEMORY = 1 << 20  # bytes; a larger upload is streamed
_LARGE_TEXT = 100_000  # characters, each of which may become six bytes
_CHUNK = 1 << 18
_BUFFER = 1 << 19  # bytes of a streamed answer that wait to be written before the service has to; twice at most
_EXCERPT = 1 << 16  # bytes that are read of an answer that is not what was asked for
_NOT_SATISFIABLE = 416
_FAREWELL = 0.5  # seconds that closing a WebSocket or a TLS connection may wait for the other side
_AHEAD = 4  # results of a subscription that are read before somebody takes them
_HEARTBEAT = 30.0  # seconds between pings on a subscription's WebSocket, so that a dead line is noticed


class Operation(Protocol):
    """A query as :mod:`grid.chain.registry` returns it."""

    @property
    def name(self) -> str:
        """The operation's name."""

    @property
    def text(self) -> str:
        """The document, fragments included."""


class Transport:
    """Carries requests to one service. Every method runs on an event loop, normally that of :mod:`grid.chain.loop`.

    The connection is made by the first request, and anew if the loop is a different one, as in a forked child.

    Parameters
    ----------
    endpoint
        The service and the user.
    policy
        Time-outs and retries of every request that has no policy of its own.
    """

    def __init__(self, endpoint: Endpoint, policy: RetryPolicy | None = None) -> None:
        self.endpoint = endpoint
        self.policy = policy or RetryPolicy.from_environment()
        self.requests_sent = 0
        """How many HTTP requests have been tried so far."""
        self._failures = Failures(endpoint)
        self._line: _Line | None = None

    async def execute(
        self,
        query: Operation,
        variables: dict[str, Any],
        *,
        policy: RetryPolicy | None = None,
    ) -> dict[str, Any]:
        """Send a query or a mutation, again if that may help, and return the ``data`` of the answer.

        Parameters
        ----------
        query
            What to ask. Everything the service offers may be repeated without harm.
        variables
            The values of its variables, as JSON has them.
        policy
            In place of the transport's own.

        Raises
        ------
        ConnectionFailed, RequestTimeout
            There was no answer, after all tries.
        InvalidResponse
            The answer is not GraphQL.
        GridError
            What the service's error code stands for.
        """
        policy = policy or self.policy

        async def once(patience: float) -> dict[str, Any]:
            line = self._connected()
            answer = _Answer()
            arguments = self._arguments(self.endpoint.graphql_url, policy, patience)
            arguments["raise_for_status"] = answer.receive
            request = _Request(query, variables)
            # As a file: aiohttp warns of a large body that it writes in one piece, which would keep the loop.
            body = json.dumps(request.payload).encode() if _is_large(variables) else b""
            if body:
                arguments |= {"json": None, "data": io.BytesIO(body)}
                arguments["headers"]["Content-Type"] = "application/json"
            self.requests_sent += 1
            try:
                await line.open()
                result = await line.http.execute(request, extra_args=arguments)
            except gql_errors.TransportError as error:
                raise self._failure(error, answer, patience) from None
            return self._failures.unpack(result.data, result.errors, answer)

        return await self._repeat(query.name, policy, policy.read_timeout, once)

    async def upload(
        self,
        path_or_url: str,
        archive: Path,
        size: int,
        content_type: str = "application/x-tar",
        *,
        policy: RetryPolicy | None = None,
    ) -> None:
        """Send a file with ``PUT``, again if that may help. A large file is read while it is sent.

        Parameters
        ----------
        path_or_url
            Where to: a path below the service's address. A whole URL works, too; the key is not sent to another host.
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
            message = f"{archive} has {actual} bytes, but {size} were announced: was it changed? Start again"
            raise errors.SourceError(message)

        async def once(patience: float) -> None:
            line = self._connected()
            answer = _Answer()
            arguments = self._arguments(url, policy, patience)
            arguments["headers"] |= {"Content-Type": content_type, "Content-Length": str(size)}
            self.requests_sent += 1
            try:
                session = await line.open()
                # Closed here: whatever reads it may have been abandoned half-way when the connection was cut.
                with archive.open("rb") as file:
                    body = file.read() if size <= _IN_MEMORY else _chunks(file)
                    async with session.put(url, data=body, **arguments) as response:
                        await answer.receive(response)
            except (aiohttp.ClientError, OSError) as error:
                raise self._failure(error, answer, patience) from None
            if not 200 <= answer.status < 300:  # noqa: PLR2004
                self._failures.unpack(None, answer.errors(), answer)
            if answer.body:  # an upload is answered with an empty body: this is a page of another program
                raise self._failures.stranger(answer)

        await self._repeat("the upload", policy, policy.read_timeout + size / policy.slowest_upload, once)

    async def stream(self, name: str, path: str, receiver: Receiver, *, policy: RetryPolicy | None = None) -> None:
        """Ask for something large, and hand it over while it arrives; go on where it broke off if that may help.

        Memory does not grow with what is sent: while the receiver is busy, the service waits.

        Parameters
        ----------
        name
            What is asked for, in the message of an error.
        path
            Where it is, below the service's address: never elsewhere, whatever the path looks like.
        receiver
            Takes it, and says how to ask for what is missing. It works in threads, on one thing at a time.
        policy
            In place of the transport's own. Its read time-out is for each piece; tries are counted anew whenever one of
            them has brought something.

        Raises
        ------
        GridError
            As :meth:`execute` does.
        OSError
            What the receiver could not do.
        """
        policy = policy or self.policy
        url = f"{self.endpoint.url}/{path.lstrip('/')}"
        series = Series(policy)
        while True:
            before = receiver.received
            try:
                await self._receive(url, receiver, policy)
            except FailedTry as failure:
                pause = series.pause(has_progressed=receiver.received > before)
                if pause is None or not _may_pass(failure, policy):
                    raise self._failures.last_word(name, failure, series.tries, series.begun) from None
            else:
                return
            await asyncio.sleep(pause)

    async def _receive(self, url: str, receiver: Receiver, policy: RetryPolicy) -> None:
        """Carry out one try of a stream."""
        request = await blocking(receiver.request)
        line, answer, pieces = self._connected(), _Answer(), _Pieces(receiver)
        arguments = self._arguments(url, policy, policy.read_timeout)
        arguments["timeout"] = aiohttp.ClientTimeout(sock_connect=policy.connect_timeout, sock_read=policy.read_timeout)
        # Compressed, it would have another length and other ranges than the file.
        arguments["headers"] |= {"Accept": "*/*", "Accept-Encoding": "identity", **request.headers}
        method = "GET" if request.body is None else "POST"
        self.requests_sent += 1
        try:
            session = await line.open()
            async with session.request(method, url, data=request.body, read_bufsize=_BUFFER, **arguments) as response:
                if response.status in (200, 206):
                    pieces.begin(response)
                    await self._take(response, pieces, policy)
                    await pieces.end()
                    return
                answer.note(response, await response.content.read(_EXCERPT))
        except BrokenAnswer as error:
            raise FailedTry(errors.InvalidResponse, str(error), again=True) from None
        except (aiohttp.ClientError, OSError) as error:
            if pieces.failed:
                raise
            raise self._failure(error, _Answer(), policy.read_timeout) from None
        finally:
            await pieces.settle()
        if answer.status == _NOT_SATISFIABLE:
            await blocking(receiver.begin_anew)
            raise FailedTry(errors.InvalidResponse, "the part that was asked for is not there", again=True)
        self._failures.unpack(None, answer.errors(), answer)

    async def _take(self, response: aiohttp.ClientResponse, pieces: _Pieces, policy: RetryPolicy) -> None:
        body = LargeBody.of(response, policy.read_timeout)
        if body is None:
            async for arrived in response.content.iter_any():
                await pieces.take(arrived)
            return
        with body:
            while piece := await body.piece():
                await pieces.take(piece)
                await pieces.wait()  # what it is written from is then overwritten

    async def subscribe(
        self, query: Operation, variables: dict[str, Any], *, policy: RetryPolicy | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Send a subscription, and yield the ``data`` of each of its results until the service ends it.

        It is sent once. Who goes on after a failure knows how: see :mod:`grid.session.streams`.

        Parameters
        ----------
        query
            What to watch.
        variables
            The values of its variables, as JSON has them.
        policy
            In place of the transport's own; only its time-outs count.

        Yields
        ------
        dict
            The ``data`` of a result. No more than a few are read ahead.

        Raises
        ------
        GridError
            As :meth:`execute` does.
        """
        begun = time.monotonic()
        try:
            async with aclosing(self._results(query, variables, policy or self.policy)) as results:
                async for result in results:
                    yield result
        except FailedTry as failure:
            raise self._failures.last_word(query.name, failure, 1, begun) from None

    async def _results(
        self, query: Operation, variables: dict[str, Any], policy: RetryPolicy
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the results that come over one WebSocket, or raise the `FailedTry` that ends it."""
        answer = _Answer()
        line = self._connected()
        connection = _Socket(
            url="ws" + self.endpoint.graphql_url.removeprefix("http"),
            subprotocols=[AIOHTTPWebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
            headers={"Authorization": self.endpoint.authorization},
            session=await line.open(),  # gql's own would stay open if the handshake failed
            proxy=_proxy(self.endpoint.url),
            heartbeat=_HEARTBEAT,
            connect_timeout=policy.connect_timeout,
            ack_timeout=policy.read_timeout,
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
                socket = connection.adapter.websocket  # gql drops it when it closes, and the close code with it
            async with aclosing(connection.subscribe(_Request(query, variables))) as results:
                async for result in results:
                    connection.room.release()
                    yield self._failures.unpack(result.data, result.errors, answer)
        except gql_errors.TransportQueryError as error:
            raise self._failures.refusal(error.errors, answer) or FailedTry(_FAULTS[type(error)], str(error)) from None
        except (gql_errors.TransportError, TimeoutError) as error:
            code = socket.close_code if socket is not None else None
            if code in _REFUSED_CLOSE:
                raise self._failures.denial(f"WebSocket closed with code {code}") from None
            raise self._failure(error, answer, policy.read_timeout) from None
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

    def _arguments(self, url: str, policy: RetryPolicy, patience: float) -> dict[str, Any]:
        headers = {"Accept": "application/graphql-response+json, application/json;q=0.9"}
        if urlsplit(url)[:2] == urlsplit(self.endpoint.url)[:2]:
            headers["Authorization"] = self.endpoint.authorization
        return {
            "headers": headers,
            "timeout": aiohttp.ClientTimeout(total=patience, sock_connect=min(policy.connect_timeout, patience)),
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
            left = max(deadline - (time.monotonic() - begun), 0.001) if policy.deadline else patience
            try:
                return await once(min(patience, left))
            except FailedTry as failure:
                if failure.kind is errors.RequestTimeout and left < patience:
                    failure.reason += f", all that was left of {deadline:g} s"
                raise

        retrying = AsyncRetrying(
            stop=stop_after_attempt(policy.tries) | stop_before_delay(deadline),
            wait=wait_exponential(policy.first_wait, policy.max_wait) + wait_random(0, policy.first_wait),
            retry=retry_if_exception(lambda error: _may_pass(error, policy)),
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except FailedTry as failure:
            raise self._failures.last_word(name, failure, tries, begun) from None

    def _failure(self, error: BaseException, answer: _Answer, patience: float) -> FailedTry:  # noqa: PLR0911 - a table
        """Return what an exception of gql or aiohttp means."""
        cause = error.__cause__ if isinstance(error, gql_errors.TransportError) and error.__cause__ else error
        if answer.status:
            return self._failures.stranger(answer)
        if isinstance(cause, _HANDSHAKES):
            answer.status, answer.body = cause.status, cause.message.encode()
            return self._failures.stranger(answer)
        if isinstance(cause, aiohttp.ClientResponseError):
            return FailedTry(
                errors.InvalidResponse, f"what answers there does not speak HTTP: {cause.message}", again=True
            )
        text = str(cause) or str(error) or type(cause).__name__
        if isinstance(cause, TimeoutError):
            return FailedTry(errors.RequestTimeout, str(cause) or f"no answer within {patience:.3g} s", again=True)
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            return FailedTry(errors.ConnectionFailed, f"its certificate is not trusted: {text}")
        if isinstance(
            cause, (*_PASSING_CAUSES, gql_errors.TransportConnectionFailed)
        ):  # the latter if gql names no cause
            return FailedTry(errors.ConnectionFailed, text, again=True)
        if isinstance(error, gql_errors.TransportError):
            return FailedTry(_FAULTS.get(type(error), errors.ServiceError), text)
        return FailedTry(errors.ConnectionFailed, text)


class _Answer(Answer):
    """An answer kept aside, because gql's exceptions hold neither status nor body."""

    async def receive(self, response: aiohttp.ClientResponse) -> None:
        # aiohttp calls this before gql reads. Reading here first means that a cut line or a time-out within the body
        # surfaces as what it is; gql would take it for a body that is not JSON.
        self.note(response, await response.read())

    def note(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.body = body
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "")
        if "Location" in response.headers:
            self.content_type += f", redirecting to {response.headers['Location'].partition('?')[0]}"


class _Pieces:
    """Hands a streamed answer to its receiver: one piece is written in a thread while the next one arrives."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._busy: asyncio.Future[None] | None = None
        self.failed = False
        """Whether it was the receiver that failed, and not the line."""

    def begin(self, response: aiohttp.ClientResponse) -> None:
        # It is not waited for: what has arrived when a line is cut is lost unless it was read before.
        if encoding := response.headers.get("Content-Encoding"):
            message = f"the answer is encoded as {encoding}, which nobody asked for"
            raise BrokenAnswer(message)
        self._start(self._receiver.begin, response.status, response.headers)

    async def take(self, piece: bytes | memoryview) -> None:
        await self.wait()
        self._start(self._receiver.take, piece)

    async def end(self) -> None:
        await self.wait()
        self._start(self._receiver.end)
        await self.wait()

    async def settle(self) -> None:
        """Wait until no thread works on the receiver any more."""
        if self._busy is not None:
            await asyncio.wait([self._busy])
            self._busy.exception()  # it has been raised, or gives way to what is raised now

    def _start(self, function: Callable[..., None], *arguments: Any) -> None:
        self._busy = asyncio.ensure_future(asyncio.to_thread(function, *arguments))

    async def wait(self) -> None:
        """Wait until the receiver has taken what it was given."""
        if self._busy is None:
            return
        busy = self._busy
        try:
            await asyncio.shield(busy)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.failed = True
            raise
        self._busy = None


class _Socket(AIOHTTPWebsocketsTransport):
    """A WebSocket on which no more is read than somebody takes: gql's own would fill the memory with the rest.

    While nobody takes anything, pings are not answered either, so that one of the two sides closes it in the end.
    Whoever listens is told so after what has been read.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.room = asyncio.Semaphore(_AHEAD)

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            # It may wait for room that nobody makes any more.
            if self.receive_data_task is not None:
                self.receive_data_task.cancel()
                await asyncio.wait({self.receive_data_task})

    async def _stop_listener(self, query_id: int) -> None:
        with suppress(gql_errors.TransportConnectionFailed):  # a line that was cut needs no farewell
            await super()._stop_listener(query_id)

    async def _receive_data_loop(self) -> None:
        try:
            await super()._receive_data_loop()
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever listens would wait for ever
            # Such as that a ping cannot be answered on a line that was cut since: gql expects no errors there.
            cut = gql_errors.TransportConnectionFailed(f"Error trying to receive data: {type(error).__name__}")
            cut.__cause__ = error
            await self._fail(cut, clean_close=False)

    async def _handle_answer(self, *answer: Any) -> None:
        await self.room.acquire()
        await super()._handle_answer(*answer)


class _Request(GraphQLRequest):
    """A request whose text is sent as it is: gql's own parses the text and prints it again for each payload."""

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
        await asyncio.sleep(0)  # the sockets are released one turn of the loop later


def _may_pass(error: BaseException, policy: RetryPolicy) -> bool:
    if not isinstance(error, FailedTry) or not error.again:
        return False
    return policy.reconnect or error.kind is not errors.ConnectionFailed


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL. This machine itself is never reached through one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    return None if local or proxy_bypass(host) else getproxies().get(parts.scheme)


def _is_large(variables: object) -> bool:
    """Return whether texts among the variables of an operation have very many characters in all."""
    if isinstance(variables, str):
        return len(variables) > _LARGE_TEXT
    inner = variables.values() if isinstance(variables, dict) else ()
    return sum(len(each) for each in inner if isinstance(each, str)) > _LARGE_TEXT or any(map(_is_large, inner))


async def _chunks(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    while chunk := file.read(_CHUNK):
        yield chunk
