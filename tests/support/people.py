"""Users and teams of a service under test, made as an operator makes them: by commands, as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from grid.chain.endpoint import Endpoint
from grid.session.session import Session
from tests.support.commands import run
from tests.support.environments import clean_environment
from tests.support.services import ServiceProcess


def operate(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the service on a home; it may fail."""
    return run([*arguments], clean_environment(home.parent))


def operated(home: Path, *arguments: str) -> str:
    """Run a command of the service on a home, which must succeed; return what it printed."""
    told = operate(home, *arguments)
    assert told.returncode == 0, told.stderr
    return told.stdout


def endpoint_of(printed: str) -> Endpoint:
    """Read what `users add` and `users rotate` print."""
    credentials = json.loads(printed)
    return Endpoint(credentials["URL"], credentials["UserID"], credentials["APIKey"])


def add_user(service: ServiceProcess, name: str, *teams: str) -> Endpoint:
    """Add a user of a running service to existing teams; return the endpoint with the user's key."""
    endpoint = endpoint_of(operated(service.home, "users", "add", name))
    for team in teams:
        operated(service.home, "teams", "join", team, name)
    return endpoint


def session_of(endpoint: Endpoint) -> Session:
    """Log in as that user; the session is not this process's until `grid.session.session.use` makes it so."""
    session = Session(endpoint, is_embedded=False)
    session.interpreter = sys.executable
    return session
