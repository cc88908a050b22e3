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
    """What this process knows about a run; one object for the run and its view, which learn from different requests.

    Attributes
    ----------
    session
        The session that the run belongs to.
    name
        The run's name; it may be empty before the start.
    owner
        The teammate whose run it is; None for the user's own.
    record
        What the service says about the run; None before the start.
    indices
        The indices of the existing experiments, in order; none before the start.
    status
        Names grouped by status, as they were last seen; None if they were never asked for, or are out of date.
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
        """Note that the service has the run."""
        self.record = record
        self.name = record.name
        self.saw(record.status.revision, record.deleted_indices)

    def saw(self, revision: int, deleted_indices: Sequence[int]) -> None:
        """Note the revision of the run when some of it was read, and what had been deleted by then."""
        if revision < self._revision or self.record is None:
            return
        self._revision = revision
        self._deleted |= set(deleted_indices)
        self._renumber(self.record)

    def saw_deletion(self, index: int) -> None:
        """Note that an experiment was deleted here: no answer that is still on its way may bring it back."""
        self._deleted.add(index)
        if self.record is not None:
            self._renumber(self.record)
        self.status = None

    def fetch_status(self, within: float | None) -> dict[str, list[str]]:
        """Ask for the names grouped by status.

        Raises
        ------
        RunNotFound
            If the run no longer exists.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        found = self.session.execute(models.GetRunStatus, within=within, name=self.name, owner=self.owner).run
        found = self.same(found)
        # If two threads have asked, the newer of the two answers is kept.
        if self.status is None or found.status.revision >= self._status_revision:
            self._status_revision = found.status.revision
            self.status = {group.status.value: list(group.names) for group in found.status.groups}
            self.saw(found.status.revision, found.deleted_indices)
        return self.status

    def has_changed(self, within: float) -> bool:
        """Ask whether any status has changed since some of the run was last read."""
        before = self._revision
        self.fetch_status(within)
        return self._revision != before

    def same(self, found: _Found | None) -> _Found:
        """Return what was found under the run's name; raise `RunNotFound` if nothing was, or if it is another run."""
        if found is None or self.record is None or found.id != self.record.id:
            raise self.gone()
        return found

    def gone(self) -> RunNotFound:
        """Return the error for a run that no longer exists."""
        return RunNotFound(f"the run {self.name!r} no longer exists")

    def _renumber(self, record: RunRecord) -> None:
        # Those that existed when the record was read, and those that had been deleted by then.
        created = range(record.experiment_count + len(record.deleted_indices))
        self.indices = [index for index in created if index not in self._deleted] if self._deleted else created
