"""The mapping view of a user's runs: live, and nothing is cached."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING

from grid.definition.run_definition import RunDefinition
from grid.errors import GridError, InvalidArgument, RunNotFound
from grid.run import Run
from grid.run_state import RunState
from grid.session.session import Session, current
from grid.views import REPR_SECONDS, describe_mapping, describe_run, names_of_runs, no_such

if TYPE_CHECKING:
    from grid.models import RunRecord, RunRecordPage

_RUNS_PAGE = 100
_MAX_SHOWN_RUNS = 100


class RunsView(Mapping[str, Run]):
    """Every run of the logged-in user by name, newest first. Nothing is cached: each access asks the service."""

    def __len__(self) -> int:
        from grid import models  # noqa: PLC0415 - not before the first call

        return current().execute(models.RunNames, first=1).runs.total_count

    def __iter__(self) -> Iterator[str]:
        yield from names_of_runs(current())

    def __contains__(self, name: object) -> bool:
        from grid import models  # noqa: PLC0415 - not before the first call

        return isinstance(name, str) and current().execute(models.GetRunStatus, name=name).run is not None

    def __getitem__(self, name: str) -> Run:
        try:
            return Run(name)
        except (InvalidArgument, AttributeError):
            # No run can have such a name, or it is not a name at all: to a mapping, that is an unknown key.
            raise RunNotFound(no_such("run", name, "your runs", self)) from None

    def values(self) -> ValuesView[Run]:
        """Return the runs, fetched page by page."""
        return _RunValues(self)

    def items(self) -> ItemsView[str, Run]:
        """Return names and runs, fetched page by page."""
        return _RunItems(self)

    def __repr__(self) -> str:
        try:
            page, session = self._newest()
        except GridError as error:
            return describe_mapping((), f"the runs could not be fetched: {error}")
        entries = [(node.name, _describe(node, session)) for node in page.nodes]
        more = page.total_count - len(entries)
        return describe_mapping(entries, f"and {more} more" if more else "")

    def _repr_html_(self) -> str:
        from grid.notebook import failed_html, runs_html  # noqa: PLC0415 - for a notebook

        try:
            page, _ = self._newest()
        except GridError as error:
            return failed_html(error)
        return runs_html(page.nodes, page.total_count)

    @staticmethod
    def _newest() -> tuple[RunRecordPage, Session]:
        from grid import models  # noqa: PLC0415 - not before the first call

        session = current()
        return session.execute(models.RunPage, within=REPR_SECONDS, first=_MAX_SHOWN_RUNS).runs, session

    def _pages(self) -> Iterator[Run]:
        from grid import models  # noqa: PLC0415 - not before the first call

        session, after = current(), None
        while True:
            page = session.execute(models.RunPage, first=_RUNS_PAGE, after=after).runs
            yield from (Run._of(node, session) for node in page.nodes)
            if not page.page_info.has_next_page:
                return
            after = page.page_info.end_cursor


def _describe(record: RunRecord, session: Session) -> str:
    state = RunState(session)
    state.adopt(record)
    return describe_run(RunDefinition.from_record(record), state)


class _RunValues(ValuesView[Run]):
    _mapping: RunsView

    def __iter__(self) -> Iterator[Run]:
        return self._mapping._pages()


class _RunItems(ItemsView[str, Run]):
    _mapping: RunsView

    def __iter__(self) -> Iterator[tuple[str, Run]]:
        return ((run.name, run) for run in self._mapping._pages())
