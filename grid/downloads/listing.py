"""Lists artifacts, page by page: those of one attempt, and those of all experiments of a run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grid.errors import ExperimentNotFound, RunNotFound
from grid.shared.wire import MAX_PAGE_SIZE, ExperimentStatus

if TYPE_CHECKING:
    from grid.models import ArtifactPage, ArtifactRecord
    from grid.session.outages import Lasting
    from grid.session.session import Session

__all__ = ["Page", "Whose", "page_of_attempt", "pages_of_attempt", "pages_of_run"]

_EXPERIMENTS = 50
"""Of how many experiments one request lists artifacts."""
_FIRST = 100
"""How many of each of them: what a request may cost allows no more, and most experiments leave fewer."""


@dataclass(frozen=True)
class Whose:
    """An attempt of an experiment."""

    id: str
    name: str
    attempt: int | None
    """Its number; None for the current one, whichever that is."""


@dataclass(frozen=True)
class Page:
    """Some of the artifacts of an attempt, in the order of their paths."""

    whose: Whose
    has_ended: bool
    """Whether the files were what they will be."""
    is_final: bool
    """Whether these will also be the files that are asked for: no other attempt can follow."""
    artifacts: tuple[ArtifactRecord, ...]
    bundle_path: str | None = field(repr=False)
    """Where to get several of them at once; None if that was not asked for."""
    after: str | None
    """Where the next page begins; None if this is the last one."""


async def pages_of_attempt(session: Lasting, whose: Whose, after: str | None = None) -> AsyncGenerator[Page, None]:
    """Yield all artifacts of an attempt.

    Raises
    ------
    ExperimentNotFound
        If there is no such experiment.
    InvalidArgument
        If it has no such attempt.
    """
    has_more = True
    while has_more:
        page = await page_of_attempt(session, whose, after)
        # Should another attempt follow meanwhile, the rest is still that of the one whose files were listed first.
        whose, after, has_more = page.whose, page.after, page.after is not None
        yield page


async def page_of_attempt(
    session: Session | Lasting,
    whose: Whose,
    after: str | None = None,
    *,
    first: int = MAX_PAGE_SIZE,
    within: float | None = None,
) -> Page:
    """Return a page of an attempt's artifacts; raises what `pages_of_attempt` does."""
    from grid import models  # noqa: PLC0415 - not before the first call

    answer = await session.ask(
        models.GetArtifacts, within=within, id=whose.id, attempt=whose.attempt, first=first, after=after
    )
    found = answer.experiment
    if found is None:
        raise gone(whose)
    return _page(whose, found.status, found.attempt, found.artifacts)


async def pages_of_run(
    session: Lasting, run: str, owner: str | None, is_same: Callable[[str], bool]
) -> AsyncGenerator[Page, None]:
    """Yield the artifacts of all experiments of a run: of many with one request, and what does not fit one by one.

    Parameters
    ----------
    session
        Whom to ask.
    run, owner
        The names of the run and of its owner; None for the user's own.
    is_same
        Whether an id is that of the run that is meant.

    Raises
    ------
    RunNotFound
        If the run no longer exists.
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    cursor, has_more = None, True
    while has_more:
        answer = await session.ask(
            models.GetRunArtifacts, run=run, owner=owner, experiments=_EXPERIMENTS, after=cursor, first=_FIRST
        )
        found = answer.run
        if found is None or not is_same(found.id):
            message = f"the run {run!r} no longer exists"
            raise RunNotFound(message)
        for each in found.experiments.nodes:
            whose = Whose(each.id, each.name, None)
            page = _page(whose, each.status, each.attempt, each.artifacts, each.bundle_path)
            yield page
            if page.after is not None:
                async with aclosing(pages_of_attempt(session, page.whose, page.after)) as rest:
                    async for further in rest:
                        yield further
        cursor, has_more = found.experiments.page_info.end_cursor, found.experiments.page_info.has_next_page


def gone(whose: Whose) -> ExperimentNotFound:
    """Return the error for an experiment that no longer exists."""
    return ExperimentNotFound(f"the experiment {whose.name!r} no longer exists")


def _page(
    whose: Whose, status: ExperimentStatus, current: int, found: ArtifactPage, bundle_path: str | None = None
) -> Page:
    listed = Whose(whose.id, whose.name, found.attempt)
    has_ended = status.is_terminal or found.attempt != current
    after = found.page_info.end_cursor if found.page_info.has_next_page else None
    is_final = status.is_final or (whose.attempt is not None and has_ended)
    return Page(listed, has_ended, is_final, found.nodes, bundle_path, after)
