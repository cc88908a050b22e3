"""The function ``login``: which service to use, and as whom, settled once for everything else in this process."""

from __future__ import annotations

import os
import shlex
import warnings
from typing import Any

from grid.chain.endpoint import Endpoint
from grid.definition.checks import check_text
from grid.errors import GridWarning, InvalidArgument
from grid.session import credentials, embedded
from grid.session.session import Session, endpoint_of, use
from grid.session.waiting import told
from grid.shared.wire import grid_home


def login(
    username: str | None = None, user_id: str | None = None, api_key: str | None = None, *, url: str | None = None
) -> None:
    """Open the session that everything else in this process uses.

    With nothing given and nothing configured, the embedded service of this machine is used, and started if it is not
    running. Calling it again opens a new session.

    Parameters
    ----------
    username, user_id
        Who you are at the service: one of the two goes with a key.
    api_key
        Your key. Once a key that is given here has been accepted, address, user and key are stored in
        ``$GRID_HOME/credentials.json``, readable by you only, and ``login()`` is enough from then on.
    url
        The address of the service, such as ``https://grid.example.org``.

    Raises
    ------
    InvalidArgument
        If something is not text, a user comes without a key or a key without a user, or the stored key is that of
        another service.
    AuthenticationFailed
        If the service does not accept the key.
    ConnectionFailed, RequestTimeout, InvalidResponse
        If nothing, or something else, answers at the address; or the embedded service cannot be started.

    Warns
    -----
    GridWarning
        If the embedded service was started with another ``CUDA_VISIBLE_DEVICES`` than this process has.

    Notes
    -----
    Arguments win over the environment (``GRID_URL``, ``GRID_USER_ID``, ``GRID_API_KEY``), which wins over
    ``credentials.json``. In the environment user and key count only together.

    If something keeps it waiting for more than three seconds, it says on stderr what that is.

    Examples
    --------
    >>> from grid import login
    >>> login()
    """
    _check_texts(username=username, user_id=user_id, api_key=api_key, url=url)
    chosen = credentials.resolve(user_id or username, api_key, url)
    record = None
    if chosen is None:
        record = embedded.find_or_start()
        endpoint = endpoint_of(record)
    else:
        endpoint = Endpoint(chosen.url, chosen.user_id, chosen.api_key)
    with told(f"the service at {endpoint.url} to answer"):
        session = Session(endpoint, is_embedded=chosen is None)
    use(session)
    if record is not None:
        _warn_of_other_gpus(record)
    if chosen is not None and api_key is not None:
        credentials.store(chosen)


def _warn_of_other_gpus(record: dict[str, Any]) -> None:
    """Warn if the service was given other GPUs than this process: experiments run on those of the service."""
    name = "CUDA_VISIBLE_DEVICES"
    here, there = os.environ.get(name), record.get(name.lower())
    # A service of an older version does not say. An experiment sees its own GPUs only, which is as it should be.
    if here == there or name.lower() not in record or "GRID_EXPERIMENT_ID" in os.environ:
        return
    this, its = (f"is {value!r}" if value is not None else "is not set" for value in (here, there))
    message = (
        f"{name} {this} here, but {its} for the embedded service, whose GPUs experiments use; to start it again with "
        f"yours: python -m grid.service stop --home {shlex.quote(str(grid_home()))}, and then login()"
    )
    warnings.warn(message, GridWarning, stacklevel=3)


def _check_texts(**given: object) -> None:
    for name, value in given.items():
        try:
            check_text(name, "" if value is None else value)
        except InvalidArgument:
            if name != "api_key":
                raise
            message = "api_key must be a string without NUL characters"  # and is never shown
            raise InvalidArgument(message) from None
