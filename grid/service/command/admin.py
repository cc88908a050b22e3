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
from grid.service.system.settings import OptionError, TryLater
from grid.shared import homes, locks

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from grid.service.domain.accounts import Directory, User
    from grid.service.system.workspace import Workspace

__all__ = ["add_commands"]

_T = TypeVar("_T")
_Running = Callable[[Path], "dict[str, Any] | None"]

_REFUSED = 1
_START_SECONDS = 30.0


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

    def transact(self, statements: Callable[[Connection, Directory], _T]) -> _T:
        """Run statements in one transaction, which is committed before this returns."""
        return asyncio.run(self._database.write(lambda connection: statements(connection, self.directory)))

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
    except homes.HomeRefused as error:
        raise OptionError(str(error)) from error
    except DatabaseUnavailable as error:
        message = f"the database cannot be used: it {error.fault.words}; {error.fault.advice}. Then run this again"
        raise (TryLater if error.fault.passes else OptionError)(message) from error
    except OSError as error:
        raise OptionError(str(homes.explained(error, home))) from error
    return 0


# Users


def _add_user(operator: _Operator) -> None:
    key = operator.world.key()
    user = operator.transact(lambda connection, directory: directory.add_user(connection, operator.given.user, key))
    _print_credentials(operator, user, key)


def _rotate(operator: _Operator) -> None:
    key = operator.world.key()

    def write(connection: Connection, directory: Directory) -> tuple[User, bool]:
        from grid.service.domain.errors import AccountError  # noqa: PLC0415
        from grid.service.system.workspace import write_private  # noqa: PLC0415

        is_own = operator.is_own(connection, directory.user(connection, operator.given.user))
        user = directory.replace_keys(connection, operator.given.user, key)
        if is_own:
            # Within the transaction: a service that starts meanwhile also reads the file within one, so it can neither
            # bring back the old key nor miss the new one. If the commit fails, its next start accepts the new key.
            try:
                write_private(operator.key_file, key.encode())
            except OSError as error:
                message = f"cannot write {operator.key_file}: {error.strerror}; nothing was changed"
                raise AccountError(message) from error
        return user, is_own

    user, is_own = operator.transact(write)
    if is_own:
        _tell_service(operator, key)
    _print_credentials(operator, user, key)
    if is_own:
        sys.stderr.write(f"This is the key of {operator.workspace.home} itself: login() there uses the new one.\n")


def _tell_service(operator: _Operator, key: str) -> None:
    """Put the new key where logins find it, if a service is running; wait for one that is starting."""
    from grid.service.system.workspace import write_private  # noqa: PLC0415

    try:
        with _settled(operator.workspace, operator.running) as record:
            if record is not None and record["api_key"] != key:
                content = json.dumps({**record, "api_key": key}, indent=2)
                write_private(operator.workspace.service / homes.RECORD, content.encode())
    except locks.StillHeld:
        home = operator.workspace.home
        sys.stderr.write(
            f"warning: the service of {home} has been starting for {_START_SECONDS:g} s, and may still\n"
            "give login() the old key: stop it (python -m grid.service stop); the next login() starts it again.\n"
        )


def _print_credentials(operator: _Operator, user: User, key: str) -> None:
    record = operator.running()
    url = operator.given.url or (record["url"] if record else "")
    sys.stdout.write(json.dumps({"UserID": user.id, "APIKey": key, "URL": url}, indent=2) + "\n")
    sys.stdout.flush()
    # The name is safe to print: it was checked, or comes from the database.
    missing = "" if url else 'No service is running, and --url was not given: fill in its address under "URL".\n'
    sys.stderr.write(
        f"{user.name} saves this as ~/.grid/credentials.json (chmod 600), or passes it to login() as user_id, api_key\n"
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

    operator.transact(write)
    sys.stdout.write(f"disabled {operator.given.user}: their keys are refused; their runs continue and are kept\n")


def _enable(operator: _Operator) -> None:
    operator.transact(lambda connection, directory: directory.enable(connection, operator.given.user))
    sys.stdout.write(f"enabled {operator.given.user}\n")


def _list_users(operator: _Operator) -> None:
    from grid.service.store import team_rows, user_rows  # noqa: PLC0415

    users, memberships = operator.transact(
        lambda connection, _: (user_rows.all_users(connection), team_rows.all_memberships(connection))
    )
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
    _print_table(("NAME", "ID", "CREATED", "STATE", "TEAMS"), rows)


# Teams


def _add_team(operator: _Operator) -> None:
    operator.transact(lambda connection, directory: directory.add_team(connection, operator.given.team))
    sys.stdout.write(f"added the team {operator.given.team}\n")


def _join(operator: _Operator) -> None:
    given = operator.given
    operator.transact(lambda connection, directory: directory.join(connection, given.team, given.user))
    sys.stdout.write(f"{given.user} is in {given.team}\n")


def _leave(operator: _Operator) -> None:
    given = operator.given
    operator.transact(lambda connection, directory: directory.leave(connection, given.team, given.user))
    sys.stdout.write(f"{given.user} is no longer in {given.team}\n")


def _list_teams(operator: _Operator) -> None:
    from grid.service.store import team_rows  # noqa: PLC0415

    teams, memberships = operator.transact(
        lambda connection, _: (team_rows.all_teams(connection), team_rows.all_memberships(connection))
    )
    rows = [
        (
            team.name,
            _moment(team.created_at),
            ",".join(each.user for each in memberships if each.team == team.name) or "-",
        )
        for team in teams
    ]
    _print_table(("NAME", "CREATED", "USERS"), rows)


# What several commands need


@contextmanager
def _unchanged(workspace: Workspace, running: Callable[[], dict[str, Any] | None]) -> Iterator[None]:
    """Keep services from starting, so that a database is made or migrated only once, and not beneath a running one."""
    try:
        with _settled(workspace, running) as record:
            if record is not None and record["version"] != __version__:
                message = (
                    f"the service of {workspace.home} has version {record['version']}, and this is {__version__}: "
                    "stop it first (python -m grid.service stop)"
                )
                raise OptionError(message)
            yield
    except locks.StillHeld:
        message = f"the service of {workspace.home} has been starting for {_START_SECONDS:g} s: see its log"
        raise OptionError(message) from None


@contextmanager
def _settled(workspace: Workspace, running: Callable[[], dict[str, Any] | None]) -> Iterator[dict[str, Any] | None]:
    """Wait for a service that is starting; yield the record of the one that is running.

    If none is running, that is None, and none can start meanwhile, because its lock is held here.
    """
    record: dict[str, Any] | None = None

    def runs() -> bool:
        nonlocal record
        record = running()
        return record is not None

    try:
        lock = locks.acquire(workspace.service / homes.LOCK, seconds=_START_SECONDS, unless=runs)
    except locks.StillHeld:
        if record is None:
            raise
    else:
        with lock:
            yield None
        return
    yield record


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).isoformat()


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
