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
    """A user whose key was accepted, or whom the database knows."""

    id: str
    name: str


class Accounts:
    """Users and keys. A key is 256 random bits, so its SHA-256 is as safe to store as a slow hash would be.

    Nothing is cached in memory: if any process replaces a key, disables a user or removes one from a team, the next
    request notices.
    """

    def __init__(self, database: Database, world: World) -> None:
        self._database = database
        self._world = world
        self._keys = user_rows.Keys(database)
        self.operator_id: str | None = None
        """The user whom the service adds for itself: the system account, who owns the home and everything in it."""

    def close(self) -> None:
        """Close the connection that looks up keys."""
        self._keys.close()

    async def authenticate(self, user_id: str, key: str) -> User:
        """Return the user of that id (or name) if the key is theirs.

        Raises
        ------
        Unauthenticated
            If not; the message is the same whatever is wrong.
        """
        # A key is looked up by its hash: the time that takes depends on the hash of what was sent, and reveals no key.
        found = await self._keys.owner(_digest(key))
        known_id, name, disabled_at = found or ("", "", None)
        # People know their name, programs their id: either is accepted. Always compare both, so that it takes the same
        # time.
        fits = hmac.compare_digest(known_id.encode(), user_id.encode())
        fits |= hmac.compare_digest(name.encode(), user_id.encode())
        if found is None or disabled_at is not None or not fits:
            raise Unauthenticated
        return User(known_id, name)

    async def enabled(self, user_id: str) -> User | None:
        """Return the user of that id, who has shown by other means than a key who they are; None if disabled."""
        row = await self._database.read(lambda connection: user_rows.by_id(connection, user_id))
        return None if row is None or row.disabled_at is not None else User(row.id, row.name)

    async def readable(self, viewer: User, owner: str | None) -> User | None:
        """Return the user of that name if the viewer may read their runs: one's own, and those of one's teammates.

        Parameters
        ----------
        viewer
            The user who asks.
        owner
            The name of the user whose runs are meant; None for the viewer.

        Returns
        -------
        User or None
            None if there is no such user, and also if they share no team with the viewer.
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
        """Return whether the viewer may read the runs of the user of that id."""
        if viewer.id == owner_id:
            return True
        return await self._database.read(lambda connection: team_rows.is_shared_by(connection, viewer.id, owner_id))

    async def ensure(self, name: str, key: str | Callable[[], str]) -> User:
        """Return the operator, the user of that name, adding one if there is none, and give them the key.

        If a user already has the key it stays theirs, and they are returned: an account may change its name. To read
        the key from a file, pass a function: it is called while no other process can change keys.
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

        user = await self._database.write(write)
        self.operator_id = user.id
        return user


class Directory:
    """What an operator can do with users and teams, each change within a transaction of the caller's.

    It refuses with `AccountError`. Whether a name is taken is decided by the database's index, not by a check before.
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
            message = f"there is already a user {name!r}; choose another name, or give them a new key: users rotate"
            raise AccountError(message) from None
        user_rows.insert_key(connection, _digest(key), user.id, self._world.now())
        return user

    def replace_keys(self, connection: Connection, name: str, key: str) -> User:
        """Give a user that key, and delete every other key of theirs."""
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
        """Return the user who has that key, if there is one."""
        row = user_rows.by_key(connection, _digest(key))
        return None if row is None else User(row.id, row.name)

    def add_team(self, connection: Connection, name: str) -> None:
        """Add a team without members."""
        _check_name("team", name)
        try:
            team_rows.insert(connection, self._world.new_id(), name, self._world.now())
        except AlreadyThere:
            message = f"there is already a team {name!r}; choose another name"
            raise AccountError(message) from None

    def join(self, connection: Connection, team: str, user: str) -> None:
        """Add a user to a team; do nothing if they are in it already."""
        team_id, user_id = self._team(connection, team).id, self._user(connection, user).id
        with suppress(AlreadyThere):
            team_rows.insert_membership(connection, team_id, user_id, self._world.now())

    def leave(self, connection: Connection, team: str, user: str) -> None:
        """Remove a user from a team. Refuse if they are not in it: a typing error must not look like a removal."""
        team_id, user_id = self._team(connection, team).id, self._user(connection, user).id
        if not team_rows.delete_membership(connection, team_id, user_id):
            message = f"the user {user!r} is not in the team {team!r}; teams list shows who is in which"
            raise AccountError(message)

    @staticmethod
    def _user(connection: Connection, name: str) -> Row[Any]:
        row = user_rows.by_name(connection, name)
        if row is None:
            message = f"there is no user {name!r}; users list shows all users"
            raise AccountError(message)
        return row

    @staticmethod
    def _team(connection: Connection, name: str) -> Row[Any]:
        row = team_rows.by_name(connection, name)
        if row is None:
            message = f"there is no team {name!r}; teams list shows all teams"
            raise AccountError(message)
        return row


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        message = (
            f"{name!r} cannot be the name of a {what}: 1 to 64 letters (a to z), digits, '.', '_' and '-' are allowed, "
            "beginning with a letter, a digit or '_'"
        )
        raise AccountError(message)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
