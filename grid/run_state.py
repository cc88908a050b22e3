"""What a run and the view of its experiments both know: which experiments there are, and how far they have come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from grid.errors import RunNotFound

if TYPE_CHECKING:
    from grid.models import RunRecord
    from grid.session.session import Session


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


_Found = TypeVar("_Found", bound=_HasId)


class RunState:
    """What is known of a run here; one object for the run and its view, which learn of it by different requests.

    Attributes
    ----------
    session
        The session that the run belongs to.
    name
        The run's name, which it may not have before the start.
    owner
        The teammate whose run it is; None for one's own.
    record
        What the service says of the run; None before the start.
    indices
        The indices of the experiments there are, in order; none before the start.
    status
        Names grouped by status, as they were last seen; None where nobody has asked, or what was seen counts no more.
    is_deleted
        Whether the run was deleted here.
    """

    __slots__ = (
        "_deleted",
        "_revision",
        "_status_revision",
        "indices",
        "is_deleted",
        "name",
        "owner",
        "record",
        "session",
        "status",
    )

    def __init__(self, session: Session) -> None:
        self.session = session
        self.name = ""
        self.owner: str | None = None
        self.record: RunRecord | None = None
        self.indices: Sequence[int] = ()
        self.status: dict[str, list[str]] | None = None
        self.is_deleted = False
        self._deleted: set[int] = set()
        self._revision = -1
        self._status_revision = -1

    @property
    def user(self) -> str:
        """The username of the run's owner."""
        return self.record.user.username if self.record else self.session.viewer.username

    def adopt(self, record: RunRecord) -> None:
        """Take note that the service has the run."""
        self.record = record
        self.name = record.name
        self.saw(record.status.revision, record.deleted_indices)

    def saw(self, revision: int, deleted_indices: Sequence[int]) -> None:
        """Take note of how far the run had come when something of it was read, and of what was deleted by then."""
        if revision < self._revision or self.record is None:
            return
        self._revision = revision
        self._deleted |= set(deleted_indices)
        self._renumber(self.record)

    def saw_deletion(self, index: int) -> None:
        """Take note that an experiment was deleted here: no answer that is on its way brings it back."""
        self._deleted.add(index)
        if self.record is not None:
            self._renumber(self.record)
        self.status = None

    def fetch_status(self, within: float | None) -> dict[str, list[str]]:
        """Ask for the names grouped by status.

        Raises
        ------
        RunNotFound
            If the run does not exist any more.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        found = self.session.execute(models.GetRunStatus, within=within, name=self.name, owner=self.owner).run
        found = self.same(found)
        # Of two answers to two threads the one that knows more stays.
        if self.status is None or found.status.revision >= self._status_revision:
            self._status_revision = found.status.revision
            self.status = {group.status.value: list(group.names) for group in found.status.groups}
            self.saw(found.status.revision, found.deleted_indices)
        return self.status

    def has_changed(self, within: float) -> bool:
        """Ask whether any status has changed since something of the run was read."""
        before = self._revision
        self.fetch_status(within)
        return self._revision != before

    def same(self, found: _Found | None) -> _Found:
        """Return what was found by the run's name, unless that is another run, or there is none any more."""
        if found is None or self.record is None or found.id != self.record.id:
            raise self.gone()
        return found

    def gone(self) -> RunNotFound:
        """Make the error that says that the run does not exist any more."""
        return RunNotFound(f"there is no run {self.name!r} any more")

    def _renumber(self, record: RunRecord) -> None:
        # As many as there are and as there were when the record was read.
        created = range(record.experiment_count + len(record.deleted_indices))
        self.indices = [index for index in created if index not in self._deleted] if self._deleted else created
