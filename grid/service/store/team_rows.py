"""Statements about teams and their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from grid.service.store.faults import AlreadyThere
from grid.service.store.tables import memberships, teams, users


def by_name(connection: Connection, name: str) -> Row[Any] | None:
    """Return the team of that name."""
    return connection.execute(sa.select(teams).where(teams.c.name == name)).one_or_none()


def all_teams(connection: Connection) -> Sequence[Row[Any]]:
    """Return every team, ordered by name."""
    return connection.execute(sa.select(teams).order_by(teams.c.name)).all()


def insert(connection: Connection, team_id: str, name: str, at: int) -> None:
    """Insert a team without members.

    Raises
    ------
    AlreadyThere
        If a team has that name. The transaction can then no longer be used.
    """
    try:
        connection.execute(sa.insert(teams).values(id=team_id, name=name, created_at=at))
    except sa.exc.IntegrityError as error:
        raise AlreadyThere(name) from error


def all_memberships(connection: Connection) -> Sequence[Row[Any]]:
    """Return who is in which team: the names ``user`` and ``team``, ordered by team, then by user."""
    query: sa.Select[Any] = sa.select(users.c.name.label("user"), teams.c.name.label("team"))
    everyone = query.select_from(memberships.join(users).join(teams)).order_by(teams.c.name, users.c.name)
    return connection.execute(everyone).all()


def insert_membership(connection: Connection, team_id: str, user_id: str, at: int) -> None:
    """Add a user to a team.

    Raises
    ------
    AlreadyThere
        If they are in it already. The transaction goes on.
    """
    try:
        with connection.begin_nested():  # on some databases a failing statement ends the transaction around it
            connection.execute(sa.insert(memberships).values(team_id=team_id, user_id=user_id, created_at=at))
    except sa.exc.IntegrityError as error:
        raise AlreadyThere from error


def delete_membership(connection: Connection, team_id: str, user_id: str) -> bool:
    """Remove a user from a team; return whether they were in it."""
    gone = sa.delete(memberships).where(memberships.c.team_id == team_id, memberships.c.user_id == user_id)
    return connection.execute(gone).rowcount > 0


def is_shared_by(connection: Connection, user_id: str, other_id: str) -> bool:
    """Return whether two users are in a team together."""
    theirs = memberships.alias()
    together = sa.exists().where(
        memberships.c.team_id == theirs.c.team_id, memberships.c.user_id == user_id, theirs.c.user_id == other_id
    )
    return bool(connection.execute(sa.select(together)).scalar())
