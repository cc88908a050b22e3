"""The ``Authorization`` header of a request. Whether what it says is accepted is the domain's to decide."""

from __future__ import annotations

import base64

from grid.service.api.errors import ApiError
from grid.shared.wire import ErrorCode


def credentials(authorization: str | None) -> tuple[str, str]:
    """Return the user's id (or name) and the key that an ``Authorization`` header holds, right or wrong.

    Parameters
    ----------
    authorization
        The header: HTTP Basic authentication. None where the request has none.

    Raises
    ------
    ApiError
        ``UNAUTHENTICATED`` where it is not that.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the request needs HTTP Basic authentication: user id and API key")
    try:
        user_id, colon, key = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # no base64, no ASCII to begin with, or no UTF-8 within
        colon = ""
    if not colon:
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the Authorization header is not HTTP Basic authentication")
    return user_id, key
