"""Who may call and whose runs they may read: users, their keys and teams."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grid.service.domain.errors import AccountError, Unauthenticated
from grid.service.store import team_rows, user_rows
from grid.service.store.database import Database
from grid.service.store.faults import AlreadyThere
from grid.service.system.world import World

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a key."""

    id: str
    name: str


class Accounts:
    """Users and keys. A key is 256 random bits, so that its SHA-256 is as good to keep as a slow hash would be.

    Nothing of it is kept in memory: a key that is replaced and a user who is disabled or leaves a team, by whatever
    process, are so with the next request.
    """

    def __init__(self, database: Database, world: World) -> None:
        self._database = database
        self._world = world
        self._keys = user_rows.Keys(database)

    def close(self) -> None:
        """Let go of the database."""
        self._keys.close()

    async def authenticate(self, user_id: str, key: str) -> User:
        """Return the user of that id (or name), whose key it is.

        Raises
        ------
        Unauthenticated
            In the same words whatever is wrong.
        """
        # A key is looked for by its hash: how long that takes tells of the hash of what was sent, not of any key.
        found = await self._keys.owner(_digest(key))
        known_id, name, disabled_at = found or ("", "", None)
        # People know their name, programs their id: either goes with the key. Both are compared, whatever the first is.
        fits = hmac.compare_digest(known_id.encode(), user_id.encode())
        fits |= hmac.compare_digest(name.encode(), user_id.encode())
        if found is None or disabled_at is not None or not fits:
            raise Unauthenticated
        return User(known_id, name)

    async def readable(self, viewer: User, owner: str | None) -> User | None:
        """Return the user of that name if the viewer may read their runs: oneself, and who is in a team with one.

        Parameters
        ----------
        viewer
            Who asks.
        owner
            The name of whose runs are meant; None for the viewer's own.

        Returns
        -------
        User or None
            None whether there is no such user or they are in no team with the viewer.
        """
        if owner is None or owner == viewer.name:
            return viewer

        def read(connection: Connection) -> User | None:
            row = user_rows.by_name(connection, owner)
            if row is None or not team_rows.is_shared_by(connection, viewer.id, row.id):
                return None
            return User(row.id, row.name)

        return await self._database.read(read)

    async def may_read(self, viewer: User, owner_id: str) -> bool:
        """Whether the viewer may read the runs of the user of that id."""
        if viewer.id == owner_id:
            return True
        return await self._database.read(lambda connection: team_rows.is_shared_by(connection, viewer.id, owner_id))

    async def ensure(self, name: str, key: str | Callable[[], str]) -> User:
        """Return the user of that name, who is made where there is none, and who is given the key.

        A key that somebody has stays theirs, and it is they who are returned: an account may change its name. A key
        that is to be read from a file is read by a function, while no other process can change keys.
        """
        at, new_id = self._world.now(), self._world.new_id()

        def write(connection: Connection) -> User:
            digest = _digest(key if isinstance(key, str) else key())
            row = user_rows.by_key(connection, digest)
            if row is not None:
                return User(row.id, row.name)
            row = user_rows.by_name(connection, name)
            if row is None:
                user_rows.insert(connection, new_id, name, at)
            user = User(row.id if row else new_id, name)
            user_rows.insert_key(connection, digest, user.id, at)
            return user

        return await self._database.write(write)


class Directory:
    """Users and teams as an operator changes them, each change within a transaction of the caller's.

    Its refusals are `AccountError`. That a name is taken is said by the database's index, never by a look before.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def add_user(self, connection: Connection, name: str, key: str) -> User:
        """Add a user with that key."""
        _check_name("user", name)
        user = User(self._world.new_id(), name)
        try:
            user_rows.insert(connection, user.id, name, self._world.now())
        except AlreadyThere:
            message = f"there is a user {name!r} already; choose another name, or give them a new key: users rotate"
            raise AccountError(message) from None
        user_rows.insert_key(connection, _digest(key), user.id, self._world.now())
        return user

    def replace_keys(self, connection: Connection, name: str, key: str) -> User:
        """Give a user that key, and take every other from them."""
        user = self.user(connection, name)
        user_rows.delete_keys(connection, user.id)
        user_rows.insert_key(connection, _digest(key), user.id, self._world.now())
        return user

    def disable(self, connection: Connection, name: str) -> User:
        """Refuse a user's keys from now on."""
        row = self._user(connection, name)
        if row.disabled_at is None:
            user_rows.set_disabled(connection, row.id, self._world.now())
        return User(row.id, row.name)

    def enable(self, connection: Connection, name: str) -> User:
        """Accept a user's keys again."""
        user = self.user(connection, name)
        user_rows.set_disabled(connection, user.id, None)
        return user

    def user(self, connection: Connection, name: str) -> User:
        """Return the user of that name."""
        row = self._user(connection, name)
        return User(row.id, row.name)

    @staticmethod
    def user_of_key(connection: Connection, key: str) -> User | None:
        """Return the user whose key it is."""
        row = user_rows.by_key(connection, _digest(key))
        return None if row is None else User(row.id, row.name)

    def add_team(self, connection: Connection, name: str) -> None:
        """Add a team that nobody is in."""
        _check_name("team", name)
        try:
            team_rows.insert(connection, self._world.new_id(), name, self._world.now())
        except AlreadyThere:
            message = f"there is a team {name!r} already; choose another name"
            raise AccountError(message) from None

    def join(self, connection: Connection, team: str, user: str) -> None:
        """Let a user into a team; one who is in it stays."""
        team_id, user_id = self._team(connection, team).id, self._user(connection, user).id
        with suppress(AlreadyThere):
            team_rows.insert_membership(connection, team_id, user_id, self._world.now())

    def leave(self, connection: Connection, team: str, user: str) -> None:
        """Take a user out of a team. One who is not in it is refused: a slip must not pass for a lock."""
        team_id, user_id = self._team(connection, team).id, self._user(connection, user).id
        if not team_rows.delete_membership(connection, team_id, user_id):
            message = f"the user {user!r} is not in the team {team!r}; teams list shows who is in which"
            raise AccountError(message)

    @staticmethod
    def _user(connection: Connection, name: str) -> Row[Any]:
        row = user_rows.by_name(connection, name)
        if row is None:
            message = f"there is no user {name!r}; users list shows those there are"
            raise AccountError(message)
        return row

    @staticmethod
    def _team(connection: Connection, name: str) -> Row[Any]:
        row = team_rows.by_name(connection, name)
        if row is None:
            message = f"there is no team {name!r}; teams list shows those there are"
            raise AccountError(message)
        return row


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        message = (
            f"{name!r} is no name for a {what}: 1 to 64 letters of a to z, digits, '.', '_' and '-' are allowed, "
            "beginning with a letter, a digit or '_'"
        )
        raise AccountError(message)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
