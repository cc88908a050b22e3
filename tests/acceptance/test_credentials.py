"""The file of credentials: when it is written, who can read it, and what is wrong with one."""

from __future__ import annotations

import json
import stat

import pytest

import grid
from grid import errors
from grid.session import session as sessions
from grid.shared.wire import grid_home
from tests.support.credentials import store
from tests.support.services import ServiceProcess, login_environment


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"UserID": "a", "APIKey": 1, "URL": "http://a"}', "\udcff"])
def test_credentials_file_that_is_not_one(content: str) -> None:
    """A file that cannot be read is an error that names it, not a reason to use another service."""
    path = store("http://127.0.0.1:1")
    path.write_text(content, errors="surrogateescape")

    with pytest.raises(errors.ConfigError, match=str(path)):
        grid.login()


def test_credentials_that_were_accepted_are_stored(service: ServiceProcess) -> None:
    """After a login with a key `login()` alone is enough, and only this user can read the file."""
    endpoint = service.endpoint
    grid.login(user_id=endpoint.user_id, api_key=endpoint.api_key, url=endpoint.url)
    path = grid_home() / "credentials.json"

    assert json.loads(path.read_text()) == {"UserID": endpoint.user_id, "APIKey": endpoint.api_key, "URL": endpoint.url}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in grid_home().iterdir()] == ["credentials.json"]
    sessions.use(None)
    grid.login()
    grid.login()
    assert sessions.current().url == endpoint.url
    grid.list_runs()


def test_credentials_of_the_environment_are_not_stored(
    service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says stays there."""
    for name, value in login_environment(service).items():
        monkeypatch.setenv(name, value)

    grid.login()

    assert grid.list_runs() is not None
    assert not grid_home().exists()


def test_credentials_file_that_others_can_read(service: ServiceProcess) -> None:
    """A file with a key in it that others can read causes a warning, which says what to do."""
    endpoint = service.endpoint
    path = store(endpoint.url, endpoint.user_id, endpoint.api_key)
    path.chmod(0o644)

    with pytest.warns(grid.GridWarning, match=f"chmod 600 {path}") as caught:
        grid.login()

    assert caught[0].filename == __file__
