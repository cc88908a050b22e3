"""The session of this process: which service it speaks to, as whom, and with which version of the queries."""

from __future__ import annotations

import math
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidResponse,
    NotLoggedIn,
    ServiceTooOld,
)
from grid.session import embedded

if TYPE_CHECKING:
    from grid.chain.receiving import Receiver
    from grid.chain.registry import Registry
    from grid.chain.transport import Transport
    from grid.models import Model, Viewer

_M = TypeVar("_M", bound="Model")
_T = TypeVar("_T")

_current: Session | None = None


class Session:
    """A service that has accepted our key.

    Parameters
    ----------
    endpoint
        Where it is and who we are.
    is_embedded
        Whether it is the embedded one, which is found or started again when it has gone.
    registry
        The queries; by default those of this distribution.
    new_key
        Makes the key of a run that will be started: different each time, 16 to 64 letters and digits.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        is_embedded: bool,
        policy: RetryPolicy | None = None,
        registry: Registry | None = None,
        new_key: Callable[[], str] = secrets.token_hex,
    ) -> None:
        from grid.chain.registry import Registry  # noqa: PLC0415 - not before the first call
        from grid.chain.transport import Transport  # noqa: PLC0415

        self.is_embedded = is_embedded
        self.new_key = new_key
        self.interpreter = sys.executable if is_embedded else None
        self.asks_since: float | None = None
        """Since when no WebSocket could be had: see :mod:`grid.session.streams`. None while that is not known."""
        self.policy = policy or RetryPolicy.from_environment()
        self.registry = registry or Registry()
        self.transport: Transport = Transport(endpoint, self.policy)
        self._handshake()

    @property
    def url(self) -> str:
        """The address of the service."""
        return self.transport.endpoint.url

    def execute(self, model: type[_M], *, within: float | None = None, **variables: Any) -> _M:
        """Do what `ask` does, and wait for it.

        Parameters
        ----------
        model
            A class of :mod:`grid.models` that has the name of an operation.
        within
            Seconds for all tries together, which start no service; None for the usual patience.
        variables
            The operation's variables, as JSON has them.

        Raises
        ------
        GridError
            If anything went wrong: see :mod:`grid.errors`.
        """
        from grid.chain import loop  # noqa: PLC0415 - not before the first call

        return loop.run(self.ask(model, within=within, **variables))

    async def ask(self, model: type[_M], *, within: float | None = None, **variables: Any) -> _M:
        """Send the operation that the model is named after, and return its answer as that model.

        Runs on the background loop, as all that is asynchronous here. The parameters are those of `execute`.

        Raises
        ------
        GridError
            If anything went wrong: see :mod:`grid.errors`.
        """
        query = self.registry.get(model.__name__)
        if within is not None:
            hurry = replace(self.policy, connect_timeout=within, read_timeout=within, deadline=within)
            answer = await self.transport.execute(query, variables, policy=hurry)
        else:
            answer = await self._patiently(lambda way, policy: way.execute(query, variables, policy=policy))
        return self._decoded(model, answer)

    def upload(self, path: str, archive: Path, size: int) -> None:
        """Send a file to where the service said, below its address."""
        from grid.chain import loop  # noqa: PLC0415 - not before the first call

        loop.run(self._patiently(lambda way, policy: way.upload(path, archive, size, policy=policy)))

    async def stream(self, name: str, path: str, receiver: Receiver) -> None:
        """Fetch something large from where the service said, below its address, and hand it over while it arrives.

        Runs on the background loop.

        Parameters
        ----------
        name
            What it is, in the message of an error.
        path
            Where it is.
        receiver
            Takes it, and says what is missing.

        Raises
        ------
        GridError, OSError
            If anything went wrong, with the request or with what the receiver works with.
        """
        while True:
            before = receiver.received
            try:
                return await self._patiently(lambda way, policy: way.stream(name, path, receiver, policy=policy))
            except ConnectionFailed:
                # While something arrives, a service that goes and comes back often is one to be patient with.
                if receiver.received <= before:
                    raise

    def subscribe(self, model: type[_M], **variables: Any) -> Iterator[_M]:
        """Yield what `listen` yields, and wait for it."""
        from grid.chain import loop  # noqa: PLC0415 - not before the first call

        return loop.iterate(self.listen(model, **variables))

    async def listen(self, model: type[_M], **variables: Any) -> AsyncGenerator[_M, None]:
        """Send the subscription that the model is named after once, and yield its answers until the service ends it.

        A connection that is cut ends it with an error: :mod:`grid.session.streams` goes on then. Runs on the background
        loop.

        Raises
        ------
        GridError
            If anything went wrong: see :mod:`grid.errors`.
        """
        query = self.registry.get(model.__name__)
        async with aclosing(self.transport.subscribe(query, variables, policy=self.policy)) as answers:
            async for answer in answers:
                yield self._decoded(model, answer)

    def _decoded(self, model: type[_M], answer: dict[str, Any]) -> _M:
        from grid.chain.decoding import decode  # noqa: PLC0415 - not before the first call

        try:
            return decode(model, answer)
        except InvalidResponse as error:
            message = f"{model.__name__} at {self.url}: {error}"
            raise InvalidResponse(message) from error

    def _handshake(self) -> None:
        from grid.models import Login  # noqa: PLC0415 - not before the first call

        newest, self.registry = self.registry, self.registry.at(1)  # which every service understands
        answer = self.execute(Login)
        if answer.api_version < 1:
            message = (
                f"the service at {self.url} speaks version {answer.api_version} of the queries, but this client needs "
                "version 1 or newer: update the service"
            )
            raise ServiceTooOld(message)
        self.viewer: Viewer = answer.viewer
        self.registry = newest.at(min(answer.api_version, newest.version))

    async def _patiently(self, send: Callable[[Transport, RetryPolicy], Awaitable[_T]]) -> _T:
        if not self.is_embedded:
            return await send(self.transport, self.policy)
        # The service may have gone, have come back elsewhere, or be about to go and look alive: everything that we ask
        # for may be asked again. How long that takes depends on the machine, so tries are not counted. If nothing
        # answers the first, we check whether the service is elsewhere now.
        policy, pause = replace(self.policy, reconnect=False), self.policy.first_wait
        deadline, is_last = math.inf, False
        while True:
            way = self.transport
            try:
                return await send(way, policy)
            except (ConnectionFailed, AuthenticationFailed) as error:
                now = time.monotonic()
                deadline = min(deadline, now + self.policy.patience)
                is_late = now >= deadline
                moved = await self._find_again(way)
                # A service that is there, and says that it cannot, has then been asked often enough.
                is_refusal = isinstance(error, AuthenticationFailed) or (
                    policy is self.policy and error._is_answer  # noqa: SLF001 - not for users
                )
                if is_last or (not moved and (is_late or is_refusal)):
                    raise
                # Found somewhere else, it is asked once more, however late that is.
                is_last = is_late
            if not moved:
                import asyncio  # noqa: PLC0415 - not before the first call

                await asyncio.sleep(pause)
                pause = min(2 * pause, self.policy.max_wait)
            policy = self.policy

    async def _find_again(self, way: Transport) -> bool:
        """Find or start the embedded service; return whether it is elsewhere than where somebody has just asked."""
        from grid.chain import loop  # noqa: PLC0415 - not before the first call
        from grid.chain.transport import Transport  # noqa: PLC0415

        # Starting it takes a while, in which the loop has others to serve.
        endpoint = endpoint_of(await loop.in_thread(embedded.find_or_start, "grid-embedded"))
        if endpoint != self.transport.endpoint:
            self.transport = Transport(endpoint, self.policy)
        return endpoint != way.endpoint


def current() -> Session:
    """Return the session of this process.

    Raises
    ------
    NotLoggedIn
        If there is no session.
    """
    if _current is None:
        raise NotLoggedIn
    return _current


def use(session: Session | None) -> None:
    """Make a session the one that this process uses."""
    global _current  # noqa: PLW0603 - one session for each process is what the interface says
    _current = session


def endpoint_of(record: Mapping[str, Any]) -> Endpoint:
    """Return where the embedded service is, given what it says about itself."""
    return Endpoint(record["url"], record["user_id"], record["api_key"])
