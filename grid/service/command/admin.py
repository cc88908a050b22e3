"""The operator's commands `users` and `teams`. Changes take effect immediately, whether or not a service is running.

`accounts.Directory` decides what may be done with users and teams. This file handles arguments, the files that hold the
key of the home's own user, and output: a key is printed once, to stdout, and nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from grid._version import __version__
from grid.service.command import options
from grid.service.command.own_key import START_SECONDS, KeyFiles, settled
from grid.service.command.printing import OutputFile, print_text
from grid.service.system.settings import OptionError, TryLater
from grid.shared import homes, locks

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from grid.service.domain.accounts import Directory, User
    from grid.service.system.workspace import Workspace

__all__ = ["add_commands"]

_T = TypeVar("_T")
_Running = Callable[[Path], "dict[str, Any] | None"]

_REFUSED = 1


def add_commands(commands: Any, running: _Running) -> None:
    """Add the commands `users` and `teams`.

    Parameters
    ----------
    commands
        What `ArgumentParser.add_subparsers` returns.
    running
        Returns the record of the service that is running in a home; None if there is none.
    """
    for group, text, add in (
        ("users", "Manage who may call the service: add, list, disable, enable, rotate.", _add_users),
        ("teams", "Manage who may read whose runs: add, list, join, leave.", _add_teams),
    ):
        parser = commands.add_parser(group, help=text, description=text)
        add(parser.add_subparsers(required=True, metavar="command"), running)


def _add_users(commands: Any, running: _Running) -> None:
    for name, action, text in (
        ("add", _add_user, "Add a user and print the key, which is not shown again."),
        ("rotate", _rotate, "Give a user a new key and print it. All their older keys stop working at once."),
        ("disable", _disable, "Refuse a user's keys from now on. Their runs continue and are kept."),
        ("enable", _enable, "Accept the keys of a disabled user again."),
    ):
        parser = _command(commands, running, name, action, text)
        parser.add_argument("user", metavar="NAME", help="the user's name")
        if action in (_add_user, _rotate):
            parser.add_argument("--url", help="the address at which the user reaches the service (default: its own)")
    _command(commands, running, "list", _list_users, "List users: name, id, when they were added, state, teams.")


def _add_teams(commands: Any, running: _Running) -> None:
    for name, action, text in (
        ("add", _add_team, "Add an empty team."),
        ("join", _join, "Add a user to a team: its members may read each other's runs."),
        ("leave", _leave, "Remove a user from a team, effective at once."),
    ):
        parser = _command(commands, running, name, action, text)
        parser.add_argument("team", metavar="TEAM", help="the team's name")
        if action is not _add_team:
            parser.add_argument("user", metavar="USER", help="the user's name")
    _command(commands, running, "list", _list_teams, "List teams and their members.")


def _command(commands: Any, running: _Running, name: str, action: _Action, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--home", type=options.path, help="the folder that holds everything (GRID_HOME; else ~/.grid)")
    parser.add_argument("--database", default="", help="the --database that `serve` was given (default: in the home)")
    parser.set_defaults(command=lambda home, given: _run(action, home, given, running))
    return parser


class _Operator:
    """What a command works with: the home, its database, its users and teams, and its service if one is running."""

    def __init__(self, workspace: Workspace, given: argparse.Namespace, running: _Running) -> None:
        # Imported here: the other commands do not need these.
        from grid.service.domain.accounts import Directory  # noqa: PLC0415
        from grid.service.store.database import Database  # noqa: PLC0415
        from grid.service.system.world import World  # noqa: PLC0415

        self.given = given
        self.workspace = workspace
        self._running = running
        self.world = World()
        self.directory = Directory(self.world)
        with _unchanged(workspace, self.running):
            self._database = Database(given.database or workspace.database)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def running(self) -> dict[str, Any] | None:
        """Return the record of the service that is running in the home; None if there is none."""
        return self._running(self.workspace.home)

    def transact(self, statements: Callable[[Connection, Directory], _T], said: Callable[[_T], str]) -> _T:
        """Run statements in one transaction, which is committed before this returns, and print what was done.

        A file may be on a disk that has no room for what is printed, and a key cannot be printed again. So into a file
        it is printed before the commit; if that cannot be done, nothing is, and nothing is left in the file. Anything
        else takes it afterwards: nobody may keep the database waiting by not reading from a pipe.
        """
        output = OutputFile.of(sys.stdout)

        def write(connection: Connection) -> _T:
            result = statements(connection, self.directory)
            if output is not None:
                print_text(said(result), "nothing was changed")
            return result

        try:
            result = asyncio.run(self._database.write(write))
        except BaseException:
            if output is not None:
                output.undo()
            raise
        if output is None:
            print_text(said(result), "what it says is done")
        return result

    @property
    def key_file(self) -> Path:
        """The file that holds the key of the home's own user."""
        return self.workspace.service / homes.KEY

    def is_own(self, connection: Connection, user: User) -> bool:
        """Return whether this is the home's own user: the system account, whose key the service itself makes."""
        try:
            key = self.key_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return False
        return self.directory.user_of_key(connection, key) == user


_Action = Callable[[_Operator], None]


def _run(action: _Action, home: Path, given: argparse.Namespace, running: _Running) -> int:
    from grid.service.domain.errors import AccountError  # noqa: PLC0415
    from grid.service.store.faults import DatabaseUnavailable  # noqa: PLC0415
    from grid.service.system.workspace import Workspace  # noqa: PLC0415

    workspace = Workspace(home)
    if not (given.database or workspace.database.exists() or action in (_add_user, _add_team)):
        message = f"no service has ever used {home}, so it has no users; choose another folder with --home or GRID_HOME"
        raise OptionError(message)
    try:
        homes.prepare(home)
        operator = _Operator(workspace, given, running)
        try:
            action(operator)
        finally:
            operator.close()
    except AccountError as error:
        sys.stderr.write(f"error: {error}\n")
        return _REFUSED
    except DatabaseUnavailable as error:
        message = f"the database cannot be used: it {error.fault.words}; {error.fault.advice}. Then run this again"
        raise (TryLater if error.fault.passes else OptionError)(message) from error
    except OSError as error:
        raise homes.explained(error, home) from error
    return 0


# Users


def _add_user(operator: _Operator) -> None:
    key = operator.world.key()
    operator.transact(
        lambda connection, directory: directory.add_user(connection, operator.given.user, key),
        lambda user: _credentials(operator, user, key),
    )
    _explain_credentials(operator, operator.given.user)


def _rotate(operator: _Operator) -> None:
    key = operator.world.key()
    files = KeyFiles(operator.workspace, operator.running, key)

    def write(connection: Connection, directory: Directory) -> tuple[User, bool]:
        is_own = operator.is_own(connection, directory.user(connection, operator.given.user))
        user = directory.replace_keys(connection, operator.given.user, key)
        if is_own:
            # Within the transaction: a service that starts meanwhile also reads the file within one, so it can neither
            # bring back the old key nor miss the new one.
            files.replace()
        return user, is_own

    with files:
        user, is_own = operator.transact(write, lambda result: _credentials(operator, result[0], key))
        if is_own:
            files.tell_service()
    _explain_credentials(operator, user.name)
    if is_own:
        sys.stderr.write(f"This is the key of {operator.workspace.home} itself: login() there uses the new one.\n")


def _credentials(operator: _Operator, user: User, key: str) -> str:
    return json.dumps({"UserID": user.id, "APIKey": key, "URL": _url(operator)}, indent=2) + "\n"


def _url(operator: _Operator) -> str:
    record = operator.running()
    return str(operator.given.url or (record["url"] if record else ""))


def _explain_credentials(operator: _Operator, name: str) -> None:
    # The name is safe to print: it was checked, or comes from the database.
    missing = (
        "" if _url(operator) else 'No service is running, and --url was not given: fill in its address under "URL".\n'
    )
    sys.stderr.write(
        f"{name} saves this as ~/.grid/credentials.json (chmod 600), or passes it to login() as user_id, api_key\n"
        f"and url. The key is stored nowhere else and will not be shown again.\n{missing}"
    )


def _disable(operator: _Operator) -> None:
    def write(connection: Connection, directory: Directory) -> None:
        from grid.service.domain.errors import AccountError  # noqa: PLC0415

        if operator.is_own(connection, directory.user(connection, operator.given.user)):
            message = (
                f"{operator.given.user!r} cannot be disabled: it is the user of {operator.workspace.home} itself, whom "
                "login() on this machine logs in; give it another key with users rotate, or stop the service with "
                "python -m grid.service stop"
            )
            raise AccountError(message)
        directory.disable(connection, operator.given.user)

    said = f"disabled {operator.given.user}: their keys are refused; their runs continue and are kept\n"
    operator.transact(write, lambda _: said)


def _enable(operator: _Operator) -> None:
    user = operator.given.user
    operator.transact(lambda connection, directory: directory.enable(connection, user), lambda _: f"enabled {user}\n")


def _list_users(operator: _Operator) -> None:
    from grid.service.store import team_rows, user_rows  # noqa: PLC0415

    def table(read: tuple[Sequence[Row[Any]], Sequence[Row[Any]]]) -> str:
        users, memberships = read
        rows = [
            (
                user.name,
                user.id,
                _moment(user.created_at),
                "active" if user.disabled_at is None else "disabled",
                ",".join(each.team for each in memberships if each.user == user.name) or "-",
            )
            for user in users
        ]
        return _table(("NAME", "ID", "CREATED", "STATE", "TEAMS"), rows)

    operator.transact(
        lambda connection, _: (user_rows.all_users(connection), team_rows.all_memberships(connection)), table
    )


# Teams


def _add_team(operator: _Operator) -> None:
    team = operator.given.team
    operator.transact(
        lambda connection, directory: directory.add_team(connection, team), lambda _: f"added the team {team}\n"
    )


def _join(operator: _Operator) -> None:
    given = operator.given
    operator.transact(
        lambda connection, directory: directory.join(connection, given.team, given.user),
        lambda _: f"{given.user} is in {given.team}\n",
    )


def _leave(operator: _Operator) -> None:
    given = operator.given
    operator.transact(
        lambda connection, directory: directory.leave(connection, given.team, given.user),
        lambda _: f"{given.user} is no longer in {given.team}\n",
    )


def _list_teams(operator: _Operator) -> None:
    from grid.service.store import team_rows  # noqa: PLC0415

    def table(read: tuple[Sequence[Row[Any]], Sequence[Row[Any]]]) -> str:
        teams, memberships = read
        rows = [
            (
                team.name,
                _moment(team.created_at),
                ",".join(each.user for each in memberships if each.team == team.name) or "-",
            )
            for team in teams
        ]
        return _table(("NAME", "CREATED", "USERS"), rows)

    operator.transact(
        lambda connection, _: (team_rows.all_teams(connection), team_rows.all_memberships(connection)), table
    )


# What several commands need


@contextmanager
def _unchanged(workspace: Workspace, running: Callable[[], dict[str, Any] | None]) -> Iterator[None]:
    """Keep services from starting, so that a database is made or migrated only once, and not beneath a running one."""
    try:
        with settled(workspace, running) as record:
            if record is not None and record["version"] != __version__:
                message = (
                    f"the service of {workspace.home} has version {record['version']}, and this is {__version__}: "
                    "stop it first (python -m grid.service stop)"
                )
                raise OptionError(message)
            yield
    except locks.StillHeld:
        message = f"the service of {workspace.home} has been starting for {START_SECONDS:g} s: see its log"
        raise OptionError(message) from None


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).isoformat()


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "".join(f"{line.rstrip()}\n" for line in lines)
