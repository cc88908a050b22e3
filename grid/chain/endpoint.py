"""Where a service is, who asks, and how long to wait for an answer. Sends nothing: see `transport`."""

from __future__ import annotations

import base64
import math
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from grid import errors
from grid.shared.wire import GRAPHQL_PATH

__all__ = ["Endpoint", "RetryPolicy"]


@dataclass(frozen=True)
class Endpoint:
    """Where a service is, and who asks.

    Parameters
    ----------
    url
        The service's address, as in ``http://127.0.0.1:1234``; a trailing ``/graphql`` is dropped.
    user_id
        The user's id.
    api_key
        The user's key. It is never shown.

    Raises
    ------
    InvalidArgument
        If the URL is not that of a service, or contains credentials; or the user id contains a colon.
    """

    url: str
    user_id: str
    api_key: str = field(repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if "@" in self.url:
            message = "the URL of the service contains credentials: leave them out, and pass them as user id and key"
            raise errors.InvalidArgument(message)
        if not usable or parts.query or parts.fragment:
            message = (
                f"{self.url!r} does not look like the URL of a service, such as https://host or http://127.0.0.1:8000"
            )
            raise errors.InvalidArgument(message)
        if ":" in self.user_id:
            message = f"the user id {self.user_id!r} contains a colon, which no user id does"
            raise errors.InvalidArgument(message)
        object.__setattr__(self, "url", self.url.rstrip("/").removesuffix(GRAPHQL_PATH).rstrip("/"))

    @property
    def graphql_url(self) -> str:
        """Where queries go."""
        return self.url + GRAPHQL_PATH

    @property
    def authorization(self) -> str:
        """The value of the header that proves who asks."""
        return "Basic " + base64.b64encode(f"{self.user_id}:{self.api_key}".encode()).decode()


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for an answer, and how often to ask.

    Parameters
    ----------
    tries
        How many times a request is sent at most.
    connect_timeout
        Seconds to make a connection.
    read_timeout
        Seconds for one try as a whole.
    first_wait, max_wait
        Seconds between tries: the first wait, and the longest. Each doubles the one before and adds a random part.
    deadline
        Seconds for all tries together: the last one is cut short by it. If it is ``None``, each try has its full
        time, and none begins later than twice that time after the first, so that a service that hangs gets two tries.
    slowest_upload
        Bytes per second: one try of an upload may take as long as it would at this speed, plus a read time-out.
    patience
        Seconds from the first failure for which an embedded service that is there and does not answer is asked again.
    outage
        Seconds from the first failure for which a service is asked again that somebody has followed something at.
    reconnect
        Whether a failed connection is tried again; ``False`` leaves that to a caller that may know another address.

    Raises
    ------
    InvalidArgument
        If a number is out of range.
    """

    tries: int = 6
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    first_wait: float = 0.1
    max_wait: float = 5.0
    deadline: float | None = None
    slowest_upload: float = 2.0**16
    patience: float = 30.0
    outage: float = 600.0
    reconnect: bool = True

    def __post_init__(self) -> None:
        times = [self.connect_timeout, self.read_timeout, self.slowest_upload]
        times += [] if self.deadline is None else [self.deadline]
        usable = self.tries >= 1 and self.first_wait >= 0 and min(self.max_wait, self.patience, self.outage) >= 0
        if not usable or not all(0 < seconds < math.inf for seconds in times):
            message = (
                f"{self} is not allowed: it needs at least one try, and times in seconds that are positive and finite"
            )
            raise errors.InvalidArgument(message)

    @classmethod
    def from_environment(cls) -> RetryPolicy:
        """Return the default policy, with the read time-out that ``GRID_HTTP_TIMEOUT`` sets, in seconds.

        Raises
        ------
        InvalidArgument
            If the variable is not a positive number.
        """
        text = os.environ.get("GRID_HTTP_TIMEOUT", "").strip()
        if not text:
            return cls()
        try:
            return cls(read_timeout=float(text))
        except ValueError:  # InvalidArgument is one, too
            message = f"GRID_HTTP_TIMEOUT is {text!r}: it must be a positive number of seconds, such as 30"
            raise errors.InvalidArgument(message) from None
