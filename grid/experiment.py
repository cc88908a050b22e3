"""One experiment, as its user holds it. The mapping of a run's experiments is in ``views.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from grid.errors import CancelTimeout, ExperimentNotFound, GridError

if TYPE_CHECKING:
    from grid.models import Cancellation, ExperimentRecord
    from grid.session import Session

_T = TypeVar("_T")

REPR_SECONDS = 2.0
"""How long a repr may try to find out how things are."""

_CANCEL_MARGIN = 5.0
"""Seconds that a cancel may take beyond the grace period of its service."""

_CANCEL_WAIT = 5.0
"""Seconds that one request of a cancel may take, so that it fits into any read time-out."""

_NEVER = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Experiment:
    """One execution of a run's script, with one combination of the sweep's values.

    It comes from :attr:`Run.experiments`, :func:`grid.get_experiment_by_name` or :func:`grid.get_experiment_by_id`, and
    is live: what may still change is asked for when it is looked at.
    """

    __slots__ = ("__weakref__", "_record", "_session")

    def __init__(self, record: ExperimentRecord, session: Session) -> None:
        self._record = record
        self._session = session

    @property
    def id(self) -> str:
        """The id, unique in the service."""
        return self._record.id

    @property
    def name(self) -> str:
        """The name: the run's, ``-exp`` and the experiment's index."""
        return self._record.name

    @property
    def created_at(self) -> datetime:
        """When it was created, in UTC."""
        return self._record.created_at

    @property
    def started_running_at(self) -> datetime | None:
        """When its script was started, in UTC; None until then."""
        if self._record.started_running_at is None:
            self._refresh()
        return self._record.started_running_at

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, in UTC; None until then."""
        if self._record.finished_at is None:
            self._refresh()
        return self._record.finished_at

    @property
    def invocation_commands(self) -> str:
        """The command line it is run with, shell-quoted."""
        return self._record.invocation_command

    @property
    def parameters(self) -> Mapping[str, str]:
        """``Script``, then each argument without its dashes, in the order of the command line. Read-only."""
        return MappingProxyType(self._record.parameters)

    @property
    def user(self) -> str:
        """The username of its owner."""
        return self._record.user.username

    @property
    def github_id(self) -> str:
        """The project that its source code comes from, ``owner/name`` where that is known."""
        return self._record.project

    @property
    def commit_sha(self) -> str:
        """The commit of its source code, or the hash of its content where it is no commit."""
        return self._record.commit_sha

    def status(self) -> str:
        """Return where it is in its life.

        Returns
        -------
        str
            ``QUEUED``, ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``CANCELLED``. Without a request where it
            cannot change any more.

        Raises
        ------
        ExperimentNotFound
            If it does not exist any more.
        """
        self._refresh()
        return self._record.status.value

    def cancel(self) -> str:
        """End it: every process it started gets SIGTERM, then SIGKILL after the service's grace period.

        Cancelling what has ended changes nothing.

        Returns
        -------
        str
            Its name, when its processes are gone.

        Raises
        ------
        CancelTimeout
            If processes are still there 5 s after the grace period. The cancel stands.
        PermissionDenied, ExperimentNotFound
            If it is not yours.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        def ask(seconds: float) -> Cancellation:
            answer = self._session.execute(models.CancelExperiment, name=self.name, waitSeconds=seconds)
            return answer.cancel_experiment

        wait_for_end(ask, self._session)
        return self.name

    @property
    def is_final(self) -> bool:
        """Whether nothing about it can change any more, as far as is known here."""
        return self._record.status.is_final

    def _refresh(self, within: float | None = None) -> None:
        from grid import models  # noqa: PLC0415 - not before the first call

        if self.is_final:
            return
        record = self._session.execute(models.GetExperiment, within=within, id=self.id).experiment
        if record is None:
            message = f"there is no experiment {self.name!r} any more"
            raise ExperimentNotFound(message)
        self._record = record

    def __repr__(self) -> str:
        attempt(lambda: self._refresh(REPR_SECONDS))
        return describe(self._record)


def describe(record: ExperimentRecord) -> str:
    """Write an experiment as its repr shows it, as it is known here."""
    fields = {
        "name": record.name,
        "status": record.status,
        "project": f"{record.project} @ {record.commit_sha}",
        "parameters": record.parameters,
        "invocation_command": record.invocation_command,
        "user": record.user.username,
        "created_at": _without_offset(record.created_at),
        "started_running_at": _without_offset(record.started_running_at or _NEVER),
        "finished_at": _without_offset(record.finished_at or _NEVER),
    }
    return "\n".join(["Experiment(,", *(f"    {name}={value}," for name, value in fields.items()), ")"])


def describe_mapping(entries: Iterable[tuple[str, str]], remark: str = "") -> str:
    """Write a view as its repr shows it: names and what they stand for, and what else there is to say."""
    lines = ["{"]
    for name, text in entries:
        first, *rest = text.splitlines()
        lines += [f"    {name!r}: {first}", *(f"    {line}" for line in rest)]
        lines[-1] += ","
    if len(lines) > 1:
        lines[-1] = lines[-1].removesuffix(",")
    if remark:
        lines.append(f"    # {remark}")
    return "\n".join([*lines, "}"]) if len(lines) > 1 else "{}"


def attempt(refresh: Callable[[], _T]) -> GridError | None:
    """Do what a repr would like to do first; return what went wrong instead of raising it."""
    try:
        refresh()
    except GridError as error:
        return error
    return None


def wait_for_end(ask: Callable[[float], Cancellation], session: Session) -> list[str]:
    """Ask for a cancellation until all that it concerns has ended; return those names.

    Parameters
    ----------
    ask
        Sends the mutation, which may take so many seconds.
    """
    share = min(_CANCEL_WAIT, session.policy.read_timeout / 2)
    begun = time.monotonic()
    while True:
        answer = ask(share)
        if not answer.pending:
            return list(answer.ended)
        if time.monotonic() - begun > answer.grace_seconds + _CANCEL_MARGIN:
            named = ", ".join(answer.pending[:3]) + (", …" if len(answer.pending) > 3 else "")  # noqa: PLR2004
            message = (
                f"{len(answer.pending)} cancelled experiments still have processes after {answer.grace_seconds:g} s of "
                f"grace and {_CANCEL_MARGIN:g} s more: {named}. The cancel stands: their status() will say CANCELLED"
            )
            raise CancelTimeout(message)


def _without_offset(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(tzinfo=None)
