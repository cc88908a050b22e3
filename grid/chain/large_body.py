"""The body of a large answer, received into two buffers that are used in turns.

aiohttp makes an object of each part that arrives, copies it while it looks for the end of the body, and once more when
it is read. For gigabytes that costs about as much as receiving them. So the connection of such an answer is taken from
aiohttp until the body is there, and is not used for anything else afterwards.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import aiohttp

__all__ = ["LargeBody"]

_LARGE = 1 << 22
"""How many bytes a body must have: below that, keeping the connection is worth more."""
_BUFFER = 1 << 21
"""How many bytes are received while as many are written; then the service has to wait."""


class LargeBody(asyncio.BufferedProtocol):
    """The body of a large answer, piece by piece; to be entered, and closed by leaving it.

    Parameters
    ----------
    response
        The answer.
    connection
        Its connection.
    length
        How many bytes its body has.
    patience
        The seconds within which something must arrive.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, connection: aiohttp.connector.Connection, length: int, patience: float
    ) -> None:
        assert connection.transport is not None
        assert connection.protocol is not None
        self._response = response
        self._transport, self._aiohttp = connection.transport, connection.protocol
        self._left = length
        self._patience = patience
        self._buffer, self._spare = memoryview(bytearray(_BUFFER)), memoryview(bytearray(_BUFFER))
        self._filled = 0
        self._first = b""
        self._has_arrived = asyncio.Event()
        self._lost: Exception | None = None

    @classmethod
    def of(cls, response: aiohttp.ClientResponse, patience: float) -> LargeBody | None:
        """Return the body of an answer; None if it is better read as usual."""
        length = response.content_length or 0
        connection = response.connection  # None if all of it is there already
        if length < _LARGE or "Transfer-Encoding" in response.headers or connection is None or connection.closed:
            return None
        return cls(response, connection, length, patience)

    def __enter__(self) -> Self:
        # Nothing can arrive meanwhile: the loop waits. What aiohttp has read is had first.
        while read := self._response.content.read_nowait():
            self._first += read
        self._left -= len(self._first)
        self._aiohttp.pause_reading()  # and so its clock stops, too
        self._transport.set_protocol(self)
        if self._left:
            self._transport.resume_reading()
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()  # aiohttp would not know what else comes

    async def piece(self) -> bytes | memoryview:
        """Wait for a piece; it is overwritten once the next one is asked for. An empty one is the end.

        Raises
        ------
        OSError
            If the connection has broken, or nothing has arrived for too long.
        """
        if self._first:
            first, self._first = self._first, b""
            return first
        if not self._filled and self._left:
            await self._arrival()
        filled, self._filled = self._filled, 0
        self._buffer, self._spare = self._spare, self._buffer
        if self._left and self._lost is None:
            self._transport.resume_reading()
        return self._spare[:filled]

    async def _arrival(self) -> None:
        self._has_arrived.clear()
        if self._lost is None:
            try:
                async with asyncio.timeout(self._patience):
                    await self._has_arrived.wait()
            except TimeoutError:
                message = f"nothing more has arrived for {self._patience:.3g} s"
                raise TimeoutError(message) from None
        if not self._filled:
            assert self._lost is not None
            raise self._lost

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop calls it
        """Return where the next bytes go."""
        return self._buffer[self._filled :][: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Note that bytes have arrived, and read no more if the buffer is full, or the body complete."""
        self._filled += nbytes
        self._left -= nbytes
        if self._filled == len(self._buffer) or not self._left:
            self._transport.pause_reading()
        self._has_arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will arrive."""
        self._lost = exc or ConnectionError("the connection was closed before all of the answer had arrived")
        self._aiohttp.connection_lost(exc)
        self._has_arrived.set()
