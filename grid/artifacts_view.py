"""The mapping view of the files that an experiment leaves behind: live and lazy, fetched page by page when needed."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from dataclasses import replace
from typing import TYPE_CHECKING

from grid.artifact import Artifact
from grid.definition.checks import check_attempt
from grid.downloads.listing import Page, Whose, page_of_attempt, pages_of_attempt
from grid.errors import ArtifactNotFound, GridError
from grid.views import REPR_SECONDS, describe_artifact, describe_mapping, no_such

if TYPE_CHECKING:
    from grid.session.session import Session

_MAX_SHOWN = 100


class ArtifactsView(Mapping[str, Artifact]):
    """The files that the script of an experiment has made or changed, by path, in the order of their paths.

    Each access asks the service, but for what can no longer change. A path that begins with ``../`` lies beside the
    working copy.
    """

    def __init__(self, session: Session, whose: Callable[[], Whose]) -> None:
        self._session = session
        self._whose = whose
        self._kept: list[Page] | None = None

    def of(self, attempt: int) -> ArtifactsView:
        """Return the same view of another attempt.

        Parameters
        ----------
        attempt
            Its number, from 1; :attr:`Experiment.attempt` is that of the current one.

        Raises
        ------
        InvalidArgument
            If there can be no such attempt; one that there is not yet is refused when it is looked at.

        Examples
        --------
        >>> list(experiment.artifacts.of(1))  # doctest: +SKIP
        ['ckpt/epoch-1.pt']
        """
        check_attempt(attempt)
        return ArtifactsView(self._session, lambda: replace(self._whose(), attempt=attempt))

    def __len__(self) -> int:
        return sum(len(page.artifacts) for page in self._pages())

    def __iter__(self) -> Iterator[str]:
        for page in self._pages():
            yield from (record.path for record in page.artifacts)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._find(path) is not None

    def __getitem__(self, path: object) -> Artifact:
        found = self._find(path) if isinstance(path, str) else None
        if found is None:
            raise ArtifactNotFound(no_such("artifact", path, f"the experiment {self._whose().name!r}", self._some()))
        return found

    def values(self) -> ValuesView[Artifact]:
        """Return the artifacts, fetched page by page."""
        return _Values(self)

    def items(self) -> ItemsView[str, Artifact]:
        """Return paths and artifacts, fetched page by page."""
        return _Items(self)

    def __repr__(self) -> str:
        try:
            page = self._first()
        except GridError as error:
            return describe_mapping((), f"the artifacts could not be fetched: {error}")
        entries = [(record.path, describe_artifact(record, record.sha256)) for record in page.artifacts]
        return describe_mapping(entries, "and more" if page.after is not None else "")

    def _repr_html_(self) -> str:
        from grid.notebook import artifacts_html, failed_html  # noqa: PLC0415 - for a notebook

        try:
            page = self._first()
        except GridError as error:
            return failed_html(error)
        return artifacts_html(page.artifacts, has_more=page.after is not None)

    def _first(self) -> Page:
        from grid.chain import loop  # noqa: PLC0415 - not before the first call

        return loop.run(page_of_attempt(self._session, self._whose(), first=_MAX_SHOWN, within=REPR_SECONDS))

    def _pages(self) -> Iterator[Page]:
        from grid.chain import loop  # noqa: PLC0415 - not before the first call
        from grid.session.outages import Lasting  # noqa: PLC0415

        whose = self._whose()
        if self._kept is not None:
            yield from self._kept
            return
        pages = []
        for page in loop.iterate(pages_of_attempt(Lasting(self._session), whose)):
            pages.append(page)
            yield page
        # `list(view)` asks for the length first: without this it would read everything twice.
        self._kept = pages if pages[0].is_final else None

    def _artifacts(self) -> Iterator[Artifact]:
        return (Artifact(record, page, self._session) for page in self._pages() for record in page.artifacts)

    def _find(self, path: str) -> Artifact | None:
        from grid.chain import loop  # noqa: PLC0415 - not before the first call
        from grid.downloads.remote import Remote  # noqa: PLC0415
        from grid.session.outages import Lasting  # noqa: PLC0415

        whose = self._whose()
        page = Page(whose, has_ended=False, is_final=False, artifacts=(), bundle_path=None, after=None)
        found = loop.run(Remote(Lasting(self._session), page).look(path))
        if found.artifact is None:
            return None
        attempt = found.attempt if whose.attempt is None else whose.attempt
        has_ended = found.status.is_terminal or attempt != found.attempt
        page = replace(page, whose=replace(whose, attempt=attempt), has_ended=has_ended)
        return Artifact(found.artifact, page, self._session)

    def _some(self) -> list[str]:
        """Return the paths of the first page: to find one that may have been meant, no more are read."""
        from grid.chain import loop  # noqa: PLC0415 - not before the first call

        return [record.path for record in loop.run(page_of_attempt(self._session, self._whose())).artifacts]


class _Values(ValuesView[Artifact]):
    _mapping: ArtifactsView

    def __iter__(self) -> Iterator[Artifact]:
        return self._mapping._artifacts()


class _Items(ItemsView[str, Artifact]):
    _mapping: ArtifactsView

    def __iter__(self) -> Iterator[tuple[str, Artifact]]:
        return ((artifact.path, artifact) for artifact in self._mapping._artifacts())
