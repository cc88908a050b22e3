"""Addresses, users and policies: what is accepted, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from grid import errors
from grid.chain.endpoint import Endpoint, RetryPolicy
from tests.support.raw_service import KEY


@pytest.mark.parametrize("given", ["", "/", "/graphql", "/graphql/"])
def test_endpoint_addresses(given: str) -> None:
    """The address may be given with or without the path of GraphQL."""
    endpoint = Endpoint("https://example.com/grid" + given, "ada", KEY)
    assert endpoint.url == "https://example.com/grid"
    assert endpoint.graphql_url == "https://example.com/grid/graphql"
    assert KEY not in repr(endpoint)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("127.0.0.1:8000", "https://"),
        ("ftp://example.com", "https://"),
        ("http://", "https://"),
        ("http://[::1", "https://"),
        ("http://example.com:99999", "https://"),
        ("http://example.com?a=1", "https://"),
        ("http://ada:hidden@example.com", "credentials"),
    ],
)
def test_wrong_address_is_refused(url: str, says: str) -> None:
    """What is not an address, or holds credentials, is refused, and the credentials are not repeated."""
    with pytest.raises(errors.InvalidArgument, match=says) as raised:
        Endpoint(url, "ada", KEY)
    assert "hidden" not in str(raised.value)


def test_user_id_with_colon_is_refused() -> None:
    """A user id with a colon is refused: it would change where the key begins."""
    with pytest.raises(errors.InvalidArgument, match="colon"):
        Endpoint("http://example.com", "a:b", KEY)


def test_policy_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`GRID_HTTP_TIMEOUT` sets the read time-out, and without it the defaults hold."""
    monkeypatch.delenv("GRID_HTTP_TIMEOUT", raising=False)
    assert RetryPolicy.from_environment() == RetryPolicy(tries=6, connect_timeout=10, read_timeout=30)
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", "2.5")
    assert RetryPolicy.from_environment() == RetryPolicy(read_timeout=2.5)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", "1e999"])
def test_policy_from_wrong_environment(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A time-out that is not a positive number is refused with its name and value."""
    monkeypatch.setenv("GRID_HTTP_TIMEOUT", text)
    with pytest.raises(errors.InvalidArgument, match=f"GRID_HTTP_TIMEOUT is '{text}'"):
        RetryPolicy.from_environment()


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"connect_timeout": 0}, {"deadline": -1}, {"first_wait": -1}])
def test_wrong_policy_is_refused(wrong: dict[str, Any]) -> None:
    """A policy that would never try, or never wait, is refused."""
    with pytest.raises(errors.InvalidArgument, match="not allowed"):
        RetryPolicy(**wrong)
