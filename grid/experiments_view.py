"""The mapping view of a run's experiments: live and lazy, fetched page by page when needed."""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from grid.errors import ExperimentNotFound
from grid.experiment import Experiment
from grid.logs.labels import varied
from grid.shared.wire import EXPERIMENT_NAME, ExperimentStatus, experiment_name
from grid.views import (
    EXPERIMENTS_PAGE,
    REPR_SECONDS,
    describe_experiment,
    describe_mapping,
    no_such,
    remaining,
    try_refresh,
)

if TYPE_CHECKING:
    from grid.errors import GridError
    from grid.models import ExperimentPage, ExperimentRecord
    from grid.run_state import RunState


class ExperimentsView(Mapping[str, Experiment]):
    """The experiments of a run by name, in index order.

    Length, membership and iteration cost no request; the page of an experiment is fetched when the experiment is first
    accessed.
    """

    def __init__(self, run: RunState, first_page: ExperimentPage | None = None) -> None:
        self._run = run
        self._known: dict[int, Experiment] = {}
        # For each page that can be asked for: the first index that it may hold, and what to pass as `after`.
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
        error = try_refresh(lambda: self._refresh(deadline))
        shown = [index for index in self._run.indices if index in self._known]
        entries = [(self._name(index), describe_experiment(self._known[index]._record)) for index in shown]
        missing = len(self) - len(entries)
        remark = f"and {missing} more that could not be fetched: {error}" if missing else ""
        return describe_mapping(entries, remark)

    def _repr_html_(self) -> str:
        from grid.notebook import experiments_html  # noqa: PLC0415 - for a notebook

        return experiments_html(self._run, *self._first())

    def _first(self) -> tuple[list[ExperimentRecord], GridError | None]:
        """Return the first experiments as they are now, after a try to learn that; and why that failed, if it did."""
        from grid.notebook import MOST_ROWS  # noqa: PLC0415 - for a notebook

        deadline, first = time.monotonic() + REPR_SECONDS, self._run.indices[:MOST_ROWS]

        def learn() -> None:
            if any(index not in self._known for index in first):
                self._fetch(0, remaining(deadline))
            self._fresh_status(remaining(deadline))

        error = try_refresh(learn) if self._run.record is not None else None
        words = {name: word for word, names in (self._run.status or {}).items() for name in names}
        known = [self._known[index]._record for index in first if index in self._known]
        return [replace(each, status=ExperimentStatus(words.get(each.name, each.status))) for each in known], error

    def _fresh_status(self, within: float | None = None) -> dict[str, list[str]]:
        """Return names grouped by status: those that are known if they can no longer change."""
        run = self._run
        if run.is_deleted:
            raise run.gone()
        if run.status is None:
            run.status = self._final_status()
        if run.status is None or not run.status.keys() <= {"SUCCEEDED", "CANCELLED"}:
            return run.fetch_status(within)
        return run.status

    def _records(self, name: str) -> list[ExperimentRecord]:
        """Return the records of all experiments that are known, in index order; that of this name is among them."""
        _ = self[name]
        return [self._known[index]._record for index in self._run.indices if index in self._known]

    def _varied(self, names: Sequence[str]) -> dict[str, str]:
        """Return what varies of all experiments that are known, by name; read a page if none of the wanted are."""
        indices = [index for index in map(self._index, names) if index is not None]
        if indices and self._known.keys().isdisjoint(indices):
            self._fetch(self._page(min(indices)) or 0)
        varying = self._run.record.varying if self._run.record else ()
        return {each.name: varied(each._record, varying) for each in self._known.values()}

    def _final_status(self) -> dict[str, list[str]] | None:
        """Return names grouped by status; None unless every experiment was read and can no longer change."""
        groups: dict[str, list[str]] = {status.value: [] for status in ExperimentStatus}
        for index in self._run.indices:
            each = self._known.get(index)
            if each is None or not each._is_final:
                return None
            groups[each._record.status.value].append(self._name(index))
        return {word: names for word, names in groups.items() if names}

    def _ended(self, names: Sequence[str]) -> list[Experiment]:
        """Return experiments that have just ended, without those that no longer exist.

        Where several of a page are not known to have ended, the page is read again: otherwise each would have to be.
        """
        indices = [index for index in map(self._index, names) if index is not None]
        stale = Counter(self._page(index) for index in indices if not self._is_known_to_have_ended(index))
        for page, number in stale.items():
            if page is not None and number > 1:
                self._fetch(page)
        found = []
        for index in indices:
            with suppress(ExperimentNotFound):
                found.append(self[self._name(index)])
        return found

    def _is_known_to_have_ended(self, index: int) -> bool:
        return index in self._known and self._known[index]._is_final

    def _name(self, index: int) -> str:
        return experiment_name(self._run.name, index)

    def _index(self, name: object) -> int | None:
        if not isinstance(name, str):
            return None
        parts = EXPERIMENT_NAME.fullmatch(name)
        if parts is None or parts["run"] != self._run.name:
            return None
        index, indices = int(parts["index"]), self._run.indices
        place = bisect.bisect_left(indices, index)
        return index if place < len(indices) and indices[place] == index else None

    def _page(self, index: int) -> int | None:
        """Return which page holds an index; None if the pages before it were not read yet."""
        page = bisect.bisect_right(self._pages, index, key=lambda known: known[0]) - 1
        is_last = page + 1 == len(self._pages)
        return None if is_last and index >= self._pages[page][0] + EXPERIMENTS_PAGE else page

    def _is_complete(self) -> bool:
        return all(index in self._known for index in self._run.indices)

    def _refresh(self, deadline: float) -> None:
        """Fetch what was never read and what can still change, one request per page; stop when time is up."""
        wanted: set[int] | None = None
        if self._is_complete():
            known = [(index, self._known[index]) for index in self._run.indices]
            wanted = {self._page(index) or 0 for index, each in known if not each._is_final}
            ended = all(each._record.status.is_terminal for _, each in known)
            if wanted and ended and not self._run.has_changed(remaining(deadline)):
                return  # failed experiments, and none of them has come back
        page = 0
        while page < len(self._pages):  # each page says where the next begins
            if wanted is None or page in wanted:
                self._fetch(page, remaining(deadline))
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
        found = run.same(answer.run)
        run.saw(found.status.revision, found.deleted_indices)
        self._take(page, found.experiments)

    def _fetch_one(self, name: str, index: int) -> None:
        from grid import models  # noqa: PLC0415 - not before the first call

        run = self._run
        record = run.session.execute(models.GetExperimentByName, name=name, owner=run.owner).experiment_by_name
        if record is None or run.record is None or record.run_id != run.record.id:
            message = f"the experiment {name!r} no longer exists"
            raise ExperimentNotFound(message)
        self._known.setdefault(index, self._experiment(index, record))

    def _experiment(self, index: int, record: ExperimentRecord) -> Experiment:
        run = self._run
        varying = run.record.varying if run.record else ()
        return Experiment(record, run.session, lambda: run.saw_deletion(index), varying)

    def _take(self, page: int, content: ExperimentPage) -> None:
        index = self._pages[page][0]
        for record in content.nodes:
            parts = EXPERIMENT_NAME.fullmatch(record.name)
            assert parts is not None
            index = int(parts["index"])
            known = self._known.get(index)
            if known is None:
                self._known[index] = self._experiment(index, record)
            else:
                known._take(record)
        if content.page_info.has_next_page and page + 1 == len(self._pages):
            self._pages.append((index + 1, content.page_info.end_cursor))
