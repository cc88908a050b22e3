"""Signed addresses: where bytes come from and go to over plain HTTP, for one user and for some minutes.

An address says what it is for, to whom it was given and how long it works, and carries a signature over all of that and
the method. It proves who has asked for it, not what that user may do by now: whoever answers a request looks that up.
Addresses are secrets, so nothing logs them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from grid.service.system.world import World

SECONDS = 15 * 60
"""How long an address works: a transfer must begin within this time."""

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


class AddressRefused(Exception):
    """An address is not one that the service has given away, or not for this method."""

    def __init__(self) -> None:
        super().__init__(
            "the service has not given away this address, or not for this: createSnapshot returns one for an upload, "
            "and artifacts have theirs for downloads"
        )


class AddressExpired(Exception):
    """An address was given away too long ago."""

    def __init__(self) -> None:
        super().__init__("this address has expired: ask for a new one where you got it")


@dataclass(frozen=True, slots=True)
class Address:
    """A path with its query, below the service's own address, and until when it works."""

    path: str
    expires_at: int
    """Microseconds since the epoch."""


class Addresses:
    """Makes addresses, and tells those that it has made from others.

    Parameters
    ----------
    secret
        What they are signed with; the same for every service of this home.
    world
        Has the time.
    """

    def __init__(self, secret: bytes, world: World) -> None:
        self._secret = secret
        self._world = world

    def sign(self, method: str, path: str, user_id: str, what: Mapping[str, str] | None = None) -> Address:
        """Return an address for one user.

        Parameters
        ----------
        method
            The method that it works for.
        path
            Its path, without anything that must be quoted.
        user_id
            The user.
        what
            What else the query says.
        """
        expires_at = self._world.now() + SECONDS * 1_000_000
        query = {**(what or {}), "user": user_id, "expires": str(expires_at)}
        query["signature"] = self._signature(method, path, query.items())
        return Address(f"{path}?{urlencode(query)}", expires_at)

    def check(self, method: str, path: str, query: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Return what the query of an address says, among it the ``user``.

        Parameters
        ----------
        method, path, query
            What was requested.

        Raises
        ------
        AddressRefused
            If it is no address of ours.
        AddressExpired
            If it no longer works.
        """
        given = [(name, value) for name, value in query if name != "signature"]
        signatures = [value for name, value in query if name == "signature"]
        said = dict(given)
        expected = self._signature(method, path, given)
        is_ours = len(signatures) == 1 and hmac.compare_digest(expected, _ascii(signatures[0]))
        if not is_ours or not _WHOLE_NUMBER.fullmatch(said.get("expires", "")):
            raise AddressRefused
        if self._world.now() > int(said["expires"]):
            raise AddressExpired
        return said

    def _signature(self, method: str, path: str, query: Iterable[tuple[str, str]]) -> str:
        # In any order: a program on the way may sort them. As JSON, in which no two requests look alike.
        text = json.dumps([method, path, sorted(query)])
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def _ascii(text: str) -> str:
    return text if text.isascii() else ""
