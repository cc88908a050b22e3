"""Reads the ``Authorization`` header of a request. Whether its credentials are accepted is the domain's decision."""

from __future__ import annotations

import base64

from grid.service.api.errors import ApiError
from grid.shared.wire import ErrorCode

_LONGEST_NAME = 200


def credentials(authorization: str | None) -> tuple[str, str]:
    """Return the user's id (or name) and the key that an ``Authorization`` header holds, right or wrong.

    Parameters
    ----------
    authorization
        The header: HTTP Basic authentication. None if the request has none.

    Raises
    ------
    ApiError
        ``UNAUTHENTICATED`` if it is anything else.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the request needs HTTP Basic authentication: user id and API key")
    pair = _decode(encoded)
    if pair is None:
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the Authorization header is not HTTP Basic authentication")
    return pair


def claimed_user(authorization: str | None) -> str:
    """Return the user that an ``Authorization`` header names, right or wrong; an empty string if it names no user."""
    pair = _decode((authorization or "").partition(" ")[2])
    return pair[0][:_LONGEST_NAME] if pair else ""


def _decode(encoded: str) -> tuple[str, str] | None:
    """Decode a user and a key; None if this is not Base64, does not hold UTF-8, or has no colon."""
    try:
        user, colon, key = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (user, key) if colon else None
