"""The synchronous face of downloads: what is checked before they begin, and showing how far they are."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grid.chain import loop
from grid.chain.receiving import blocking
from grid.downloads.download import Download
from grid.downloads.tally import Tally
from grid.downloads.target import Target
from grid.errors import InvalidArgument
from grid.watching.display import check_progress, drawing_on

if TYPE_CHECKING:
    from grid.downloads.listing import Page
    from grid.session.outages import Lasting

__all__ = ["fetched"]


def fetched(
    session: Lasting,
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
    check_progress(progress)
    pattern = _compiled(match)
    tally = Tally()

    async def carry_out() -> list[Path]:
        # Closed here and not by the caller, whom Ctrl-C may send away while threads still work in the folder.
        target = await blocking(Target, Path(folder), undo=Target.close)
        try:
            return await Download(session, target, pattern, tally).carry_out(pages)
        finally:
            target.close()

    drawing = drawing_on(progress=progress)
    if drawing is None:
        return loop.run(carry_out())
    # Drawn by this thread, to which the terminal or the notebook belongs.
    paths: list[Path] = []
    try:
        for _ in loop.iterate(_ticks(carry_out(), drawing.interval, paths)):
            drawing.draw(tally.line(drawing.letters.between))
        drawing.draw(tally.line(drawing.letters.between))
    finally:
        drawing.end()
    return paths


async def _ticks(
    work: Coroutine[Any, Any, list[Path]], interval: float, results: list[Path]
) -> AsyncGenerator[None, None]:
    """Yield now and then until the work is done; it ends with this, if that is closed before."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=interval))[0]:
            yield
        results.extend(task.result())
    finally:
        task.cancel()
        await asyncio.wait([task])


def _compiled(match: str | re.Pattern[str] | None) -> re.Pattern[str] | None:
    if match is None:
        return None
    try:
        return re.compile(match)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        message = rf'match={match!r} is not a regular expression for paths, such as r"\.pt$": {error}'
        raise InvalidArgument(message) from None
