"""Mapping views: names to experiments of a run, and names to runs. Live and lazy: fetched by page, when needed."""

from __future__ import annotations

import bisect
import difflib
import re
import time
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

from grid.errors import ExperimentNotFound, GridError, InvalidArgument, RunNotFound
from grid.experiment import REPR_SECONDS, Experiment, attempt, describe, describe_mapping
from grid.shared.wire import MAX_PAGE_SIZE, ExperimentStatus

if TYPE_CHECKING:
    from grid.models import ExperimentPage, ExperimentRecord
    from grid.run import Run
    from grid.session.session import Session

EXPERIMENTS_PAGE = 500
_RUNS_PAGE = 100
_MAX_SHOWN_RUNS = 100


class ExperimentsView(Mapping[str, Experiment]):
    """The experiments of a run by name, in index order.

    Length, membership and iteration cost no request; an experiment's page is fetched when it is first looked at.
    """

    def __init__(self, run: Run, first_page: ExperimentPage | None = None) -> None:
        self._run = run
        self._known: dict[int, Experiment] = {}
        # For each page that can be asked for: the first index that it may hold, and what to give as `after`.
        self._pages: list[tuple[int, str | None]] = [(0, None)]
        if first_page is not None:
            self._take(0, first_page)

    def __len__(self) -> int:
        return len(self._run.indices)

    def __iter__(self) -> Iterator[str]:
        return map(self._name, self._run.indices)

    def __contains__(self, name: object) -> bool:
        return self._index(name) is not None

    def __getitem__(self, name: str) -> Experiment:
        index = self._index(name)
        if index is None:
            raise ExperimentNotFound(no_such("experiment", name, f"the run {self._run.name!r}", self))
        if index not in self._known and (page := self._page(index)) is not None:
            self._fetch(page)
        if index not in self._known:
            self._fetch_one(name, index)
        return self._known[index]

    def __repr__(self) -> str:
        deadline = time.monotonic() + REPR_SECONDS
        error = attempt(lambda: self._refresh(deadline))
        shown = [index for index in self._run.indices if index in self._known]
        entries = [(self._name(index), describe(self._known[index]._record)) for index in shown]  # noqa: SLF001
        missing = len(self) - len(entries)
        remark = f"and {missing} more that could not be fetched: {error}" if missing else ""
        return describe_mapping(entries, remark)

    @property
    def all_final(self) -> bool:
        """Whether every experiment was read and none can change any more."""
        return self._is_complete() and all(self._known[index].is_final for index in self._run.indices)

    def final_status(self) -> dict[str, list[str]]:
        """Names grouped by status, of experiments that cannot change any more."""
        groups: dict[str, list[str]] = {status.value: [] for status in ExperimentStatus}
        for index in self._run.indices:
            groups[self._known[index]._record.status.value].append(self._name(index))  # noqa: SLF001
        return {word: names for word, names in groups.items() if names}

    def _name(self, index: int) -> str:
        return f"{self._run.name}-exp{index}"

    def _index(self, name: object) -> int | None:
        if not isinstance(name, str):
            return None
        digits = name.removeprefix(f"{self._run.name}-exp")
        if digits == name or not re.fullmatch(r"0|[1-9][0-9]*", digits, re.ASCII):
            return None
        index, indices = int(digits), self._run.indices
        place = bisect.bisect_left(indices, index)
        return index if place < len(indices) and indices[place] == index else None

    def _page(self, index: int) -> int | None:
        """Which page holds an index; None where what comes before it was not read yet."""
        page = bisect.bisect_right(self._pages, index, key=lambda known: known[0]) - 1
        is_last = page + 1 == len(self._pages)
        return None if is_last and index >= self._pages[page][0] + EXPERIMENTS_PAGE else page

    def _is_complete(self) -> bool:
        return all(index in self._known for index in self._run.indices)

    def _refresh(self, deadline: float) -> None:
        """Fetch what was never read and what can still change, one request a page; stop where the time is over."""
        wanted: set[int] | None = None
        if self._is_complete():
            known = [(index, self._known[index]) for index in self._run.indices]
            wanted = {self._page(index) or 0 for index, each in known if not each.is_final}
            ended = all(each._record.status.is_terminal for _, each in known)  # noqa: SLF001
            if wanted and ended and not self._run.has_changed(_remaining(deadline)):
                return  # failed experiments, and none of them has come back
        page = 0
        while page < len(self._pages):  # each page tells of the next
            if wanted is None or page in wanted:
                self._fetch(page, _remaining(deadline))
            page += 1

    def _fetch(self, page: int, within: float | None = None) -> None:
        from grid import models  # noqa: PLC0415 - not before the first call

        run = self._run
        answer = run.session.execute(
            models.GetExperiments,
            within=within,
            run=run.name,
            owner=run.owner,
            first=EXPERIMENTS_PAGE,
            after=self._pages[page][1],
        )
        if answer.run is None or answer.run.id != run.id:
            message = f"there is no run {run.name!r} any more"
            raise RunNotFound(message)
        run.saw(answer.run.status.revision, answer.run.deleted_indices)
        self._take(page, answer.run.experiments)

    def _fetch_one(self, name: str, index: int) -> None:
        from grid import models  # noqa: PLC0415 - not before the first call

        run = self._run
        record = run.session.execute(models.GetExperimentByName, name=name, owner=run.owner).experiment_by_name
        if record is None or record.run_id != run.id:
            message = f"there is no experiment {name!r} any more"
            raise ExperimentNotFound(message)
        self._known.setdefault(index, self._experiment(index, record))

    def _experiment(self, index: int, record: ExperimentRecord) -> Experiment:
        return Experiment(record, self._run.session, lambda: self._run.saw_deletion(index))

    def _take(self, page: int, content: ExperimentPage) -> None:
        index = self._pages[page][0]
        for record in content.nodes:
            index = int(record.name.rpartition("-exp")[2])
            known = self._known.get(index)
            if known is None:
                self._known[index] = self._experiment(index, record)
            else:
                known.take(record)
        if content.page_info.has_next_page and page + 1 == len(self._pages):
            self._pages.append((index + 1, content.page_info.end_cursor))


class RunsView(Mapping[str, "Run"]):
    """Every run of the logged-in user by name, newest first. Nothing is kept: each look is a look at the service."""

    def __len__(self) -> int:
        from grid import models  # noqa: PLC0415 - not before the first call

        return _session().execute(models.RunNames, first=1).runs.total_count

    def __iter__(self) -> Iterator[str]:
        from grid import models  # noqa: PLC0415 - not before the first call

        after = None
        while True:
            page = _session().execute(models.RunNames, first=MAX_PAGE_SIZE, after=after).runs
            yield from (node.name for node in page.nodes)
            if not page.page_info.has_next_page:
                return
            after = page.page_info.end_cursor

    def __contains__(self, name: object) -> bool:
        from grid import models  # noqa: PLC0415 - not before the first call

        return isinstance(name, str) and _session().execute(models.GetRunStatus, name=name).run is not None

    def __getitem__(self, name: str) -> Run:
        from grid.run import Run  # noqa: PLC0415 - which imports this module

        try:
            return Run(name)
        except (InvalidArgument, AttributeError):
            # No run can have such a name, or it is no name at all: for a mapping that is an unknown key.
            raise RunNotFound(no_such("run", name, "your runs", self)) from None

    def values(self) -> ValuesView[Run]:
        """The runs, fetched by page."""
        return _RunValues(self)

    def items(self) -> ItemsView[str, Run]:
        """Names and runs, fetched by page."""
        return _RunItems(self)

    def __repr__(self) -> str:
        from grid import models  # noqa: PLC0415 - not before the first call
        from grid.run import Run  # noqa: PLC0415

        try:
            session = _session()
            page = session.execute(models.RunPage, within=REPR_SECONDS, first=_MAX_SHOWN_RUNS).runs
        except GridError as error:
            return describe_mapping((), f"the runs could not be fetched: {error}")
        entries = [(node.name, Run._of(node, session).describe()) for node in page.nodes]  # noqa: SLF001
        more = page.total_count - len(entries)
        return describe_mapping(entries, f"and {more} more" if more else "")

    def _pages(self) -> Iterator[Run]:
        from grid import models  # noqa: PLC0415 - not before the first call
        from grid.run import Run  # noqa: PLC0415

        session, after = _session(), None
        while True:
            page = session.execute(models.RunPage, first=_RUNS_PAGE, after=after).runs
            yield from (Run._of(node, session) for node in page.nodes)  # noqa: SLF001
            if not page.page_info.has_next_page:
                return
            after = page.page_info.end_cursor


class _RunValues(ValuesView["Run"]):
    _mapping: RunsView

    def __iter__(self) -> Iterator[Run]:
        return self._mapping._pages()  # noqa: SLF001


class _RunItems(ItemsView[str, "Run"]):
    _mapping: RunsView

    def __iter__(self) -> Iterator[tuple[str, Run]]:
        return ((run.name, run) for run in self._mapping._pages())  # noqa: SLF001


def no_such(kind: str, name: object, where: str, names: Any) -> str:
    """Say that there is nothing of a name, and which names come near it."""
    near = difflib.get_close_matches(str(name), list(iter(names)), n=3)
    hint = f"; near it: {', '.join(near)}" if near else ""
    return f"there is no {kind} {name!r} in {where}{hint}"


def _remaining(deadline: float) -> float:
    # A time-out of zero would be none at all.
    return max(deadline - time.monotonic(), 0.001)


def _session() -> Session:
    from grid.session.session import current  # noqa: PLC0415 - which imports what a view alone does not need

    return current()
