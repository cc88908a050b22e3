"""Who may call: users, their keys, and what a request says of itself."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from sqlalchemy import Connection

from grid.service.api_errors import ApiError
from grid.service.sources import Sources
from grid.service.store import accounts
from grid.service.store.database import Database
from grid.wire import ErrorCode


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a key."""

    id: str
    name: str


class Accounts:
    """Users and keys. A key is 256 random bits, so that its SHA-256 is as good to keep as a slow hash would be."""

    def __init__(self, database: Database, sources: Sources) -> None:
        self._database = database
        self._sources = sources
        self._known: dict[str, User] = {}

    async def authenticate(self, authorization: str | None) -> User:
        """Return the user of an HTTP ``Authorization`` header: Basic, with the user's id (or name) and key.

        Raises
        ------
        ApiError
            ``UNAUTHENTICATED``, in the same words whatever is wrong.
        """
        user_id, key = _credentials(authorization or "")
        digest = _digest(key)
        user = self._known.get(digest)
        if user is None:
            row = await self._database.read(lambda connection: accounts.user_by_key(connection, digest))
            if row is not None:
                user = self._known[digest] = User(row.id, row.name)
        # People know their name, programs their id: either goes with the key.
        if user is None or not any(
            hmac.compare_digest(each.encode(), user_id.encode()) for each in (user.id, user.name)
        ):
            raise ApiError(ErrorCode.UNAUTHENTICATED, "the user id and the API key are not accepted")
        return user

    async def ensure(self, name: str, key: str) -> User:
        """Return the user of that name, who is made where there is none, and who is given the key.

        A key that somebody has stays theirs, and it is they who are returned: an account may change its name.
        """
        at, new_id, digest = self._sources.now(), self._sources.new_id(), _digest(key)

        def write(connection: Connection) -> User:
            row = accounts.user_by_key(connection, digest)
            if row is not None:
                return User(row.id, row.name)
            row = accounts.user_by_name(connection, name)
            if row is None:
                accounts.insert_user(connection, new_id, name, at)
            user = User(row.id if row else new_id, name)
            accounts.insert_key(connection, digest, user.id, at)
            return user

        return await self._database.write(write)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the request needs HTTP Basic authentication: user id and API key")
    try:
        user_id, colon, key = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the Authorization header is not HTTP Basic authentication")
    return user_id, key
