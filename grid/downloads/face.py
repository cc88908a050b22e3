"""The synchronous face of downloads: what is checked before they begin, and showing how far they are."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

from grid.chain import loop
from grid.chain.receiving import blocking
from grid.downloads.download import Download
from grid.downloads.tally import Tally
from grid.downloads.target import Target
from grid.errors import InvalidArgument

if TYPE_CHECKING:
    from grid.downloads.listing import Page
    from grid.session.session import Session

__all__ = ["fetched"]


def fetched(
    session: Session,
    pages: AsyncGenerator[Page, None],
    folder: str | os.PathLike[str],
    *,
    match: str | re.Pattern[str] | None,
    progress: bool | None,
) -> list[Path]:
    """Download what these pages list to a folder, and return where it is.

    Parameters
    ----------
    session
        Whom to ask.
    pages
        What there is.
    folder
        Where to; it is made if it is not there.
    match
        A regular expression that is found in the path of what is wanted; None for all.
    progress
        Whether to show how far it is; None for where somebody looks on.

    Raises
    ------
    InvalidArgument
        If `match` is no regular expression.
    GridError, OSError
        Whatever goes wrong first.
    """
    if progress is not None and not isinstance(progress, bool):
        message = f"progress={progress!r} must be True, False, or None for where somebody looks on"
        raise InvalidArgument(message)
    pattern = _compiled(match)
    tally = Tally()

    async def carry_out() -> list[Path]:
        # Closed here and not by the caller, whom Ctrl-C may send away while threads still work in the folder.
        target = await blocking(Target, Path(folder))
        try:
            return await Download(session, target, pattern, tally).carry_out(pages)
        finally:
            target.close()

    return loop.run(carry_out())


def _compiled(match: str | re.Pattern[str] | None) -> re.Pattern[str] | None:
    if match is None:
        return None
    try:
        return re.compile(match)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        message = rf'match={match!r} is not a regular expression for paths, such as r"\.pt$": {error}'
        raise InvalidArgument(message) from None
