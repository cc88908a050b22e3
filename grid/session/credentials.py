"""Which service, and who we are there: by arguments, environment or ``credentials.json``; else the embedded one."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from grid.errors import ConfigError, GridWarning, InvalidArgument
from grid.shared.wire import GRAPHQL_PATH, grid_home


@dataclass(frozen=True, slots=True)
class Credentials:
    """A service's address, a user's id or name there, and their key."""

    url: str
    user_id: str
    api_key: str = field(repr=False)


def path() -> Path:
    """Return where credentials are stored."""
    return grid_home() / "credentials.json"


def resolve(user: str | None, api_key: str | None, url: str | None) -> Credentials | None:
    """Return the credentials that arguments, environment and file amount to; None for the embedded service.

    Raises
    ------
    InvalidArgument
        If what was given is not enough, or a stored key would go to a service other than its own.
    ConfigError
        If the file is malformed or cannot be read.
    """
    if (user is None) != (api_key is None):
        given, missing = ("an API key", "a username or user_id") if user is None else ("a user", "api_key")
        message = f"login() was given {given} without {missing}: give both, or neither"
        raise InvalidArgument(message)
    if user == "" or api_key == "":
        message = "login() was given an empty user or API key: leave both out, or give both"
        raise InvalidArgument(message)
    wanted = url or os.environ.get("GRID_URL") or None
    if user is None and os.environ.get("GRID_API_KEY") and os.environ.get("GRID_USER_ID"):
        user, api_key = os.environ["GRID_USER_ID"], os.environ["GRID_API_KEY"]
    # Read only if it is needed: a broken file must not keep its user from logging in anew.
    stored = None if wanted and user is not None else _read()
    if user is not None and api_key is not None:
        address = wanted or (stored.url if stored else None)
        if address is None:
            message = "there is a key but no address of a service: call login(url=…), or set GRID_URL"
            raise InvalidArgument(message)
        return Credentials(address, user, api_key)
    if wanted is None:
        return stored
    if stored is None:
        message = (
            f"there is no key for {wanted}: call login(user_id=…, api_key=…), or set GRID_USER_ID and GRID_API_KEY"
        )
        raise InvalidArgument(message)
    if _plain(wanted) != _plain(stored.url):
        message = (
            f"there is no key for {wanted}: the one in {path()} is for {stored.url}, and goes nowhere else; "
            "call login(user_id=…, api_key=…), or set GRID_USER_ID and GRID_API_KEY"
        )
        raise InvalidArgument(message)
    return stored


def store(credentials: Credentials) -> None:
    """Write the file, readable by this user only."""
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {"UserID": credentials.user_id, "APIKey": credentials.api_key, "URL": credentials.url}
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        json.dump(content, out, indent=2)
    temporary.replace(file)


def _read() -> Credentials | None:
    file = path()
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file} cannot be read: {error}"
        raise ConfigError(message) from error
    if os.name == "posix" and file.stat().st_mode & 0o077:
        message = f"{file} holds a key and can be read by others: run chmod 600 {file}"
        warnings.warn(message, GridWarning, stacklevel=4)
    try:
        content = json.loads(text)
        values = [content[name] for name in ("URL", "UserID", "APIKey")]
    except (ValueError, TypeError, KeyError):
        values = []
    if not values or not all(isinstance(value, str) and value for value in values):
        message = (
            f'{file} is not a JSON object with the strings "UserID", "APIKey" and "URL"; '
            "delete it, or log in with user_id, api_key and url"
        )
        raise ConfigError(message)
    return Credentials(*values)


def _plain(url: str) -> str:
    return url.rstrip("/").removesuffix(GRAPHQL_PATH).rstrip("/")
