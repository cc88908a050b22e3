"""Pairs a database with one home: the files that its rows refer to lie in that home's folders, and in no other's."""

from __future__ import annotations

import secrets
from pathlib import Path

from grid.service.store import secret_rows
from grid.service.store.database import Database
from grid.service.system.settings import OptionError
from grid.service.system.workspace import Workspace, write_private

_NAME = "home"


async def pair(database: Database, workspace: Workspace) -> None:
    """Require that a database belongs to this home; one that belongs to no home yet does from now on.

    Raises
    ------
    OptionError
        If it belongs to another home: experiments that run there would be taken for lost here, and run again.
    """
    ours = _home_id(workspace.pairing)
    # The path is only for people to read: a home may be moved, and the id decides.
    mine = f"{ours} {workspace.home}".encode()
    theirs = (await database.write(lambda connection: secret_rows.secret(connection, _NAME, lambda: mine))).decode()
    known, _, path = theirs.partition(" ")
    if known != ours:
        message = (
            f"the database {database.name} belongs to another home, {path}, not to {workspace.home}: "
            "give each home a database of its own"
        )
        raise OptionError(message)


def _home_id(path: Path) -> str:
    # Written before the database records it: a home without an id could not be told from another one.
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        new = secrets.token_hex(16)
        write_private(path, new.encode())
        return new
