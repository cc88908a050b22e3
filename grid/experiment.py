"""One experiment, as its user holds it. The mapping of a run's experiments is in ``experiments_view.py``."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from grid.artifacts_view import ArtifactsView
from grid.definition.checks import check_attempt
from grid.downloads.listing import Whose, pages_of_attempt
from grid.errors import CancelTimeout, ExperimentNotFound, InvalidArgument
from grid.logs.lines import LogLine, LogStart, check_follow, check_n_lines, records, texts
from grid.shared.wire import ExperimentStatus
from grid.views import AT_ONCE_SECONDS, REPR_SECONDS, describe_experiment, try_refresh

if TYPE_CHECKING:
    import os
    import re
    from pathlib import Path

    from grid.logs.pages import Pages
    from grid.models import Cancellation, ExperimentRecord, Failure, LogPage
    from grid.session.session import Session

_Line = TypeVar("_Line")

_CANCEL_MARGIN = 5.0
"""Seconds that a cancellation may take beyond the grace period of its service."""

_CANCEL_WAIT = 5.0
"""Seconds that one request of a cancellation may take, so that it fits into any read time-out."""


class Experiment:
    """One execution of a run's script, with one combination of the sweep's values.

    It comes from :attr:`Run.experiments`, :func:`grid.get_experiment_by_name` or :func:`grid.get_experiment_by_id`, and
    is live: whatever can still change is fetched when it is accessed.
    """

    __slots__ = ("__weakref__", "_failure", "_is_deleted", "_on_deletion", "_record", "_session", "_varying")

    def __init__(
        self,
        record: ExperimentRecord,
        session: Session,
        on_deletion: Callable[[], None] = lambda: None,
        varying: Sequence[str] = (),
    ) -> None:
        self._record = record
        self._session = session
        self._on_deletion = on_deletion
        self._varying = varying
        self._failure: Failure | None = None
        self._is_deleted = False

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
        """The project that its source code comes from, ``owner/name`` if that is known."""
        return self._record.project

    @property
    def commit_sha(self) -> str:
        """The commit of its source code, or the hash of its content if it is not a commit."""
        return self._record.commit_sha

    @property
    def attempt(self) -> int:
        """The number of its current attempt, from 1; it grows when a failed experiment is run again."""
        self._refresh()
        return self._record.attempt

    @property
    def failure(self) -> Failure | None:
        """What is known about its failure or cancellation; None until then, and if it succeeded.

        A small frozen object: the reason, the exit code or the signal, and the end of the output, including a whole
        Python traceback. Costs one request; :meth:`Run.failures` needs only one for a whole run.

        Raises
        ------
        ExperimentNotFound
            If it no longer exists.

        Examples
        --------
        >>> run.experiments["clever-noether-1882-exp3"].failure.final_line  # doctest: +SKIP
        'ValueError: rate must be below 1'
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        if self._is_deleted:
            raise self._gone()
        if self._record.status is ExperimentStatus.SUCCEEDED:
            return None
        if self._is_final and self._failure is not None:
            return self._failure
        found = self._session.execute(models.GetFailure, id=self.id).experiment
        if found is None:
            raise self._gone()
        self._take(found)
        self._failure = found.failure
        return found.failure

    @property
    def artifacts(self) -> ArtifactsView:
        """The files that its script has made or changed, by path: a live mapping, in the order of the paths.

        They are those of the current attempt; ``artifacts.of(attempt=1)`` has those of another.

        Examples
        --------
        >>> experiment.artifacts["metrics.json"].read_bytes()  # doctest: +SKIP
        b'{"loss": 0.1}'
        """
        return ArtifactsView(self._session, self._whose)

    def download_artifacts(
        self,
        folder: str | os.PathLike[str],
        match: str | re.Pattern[str] | None = None,
        progress: bool | None = None,
        *,
        attempt: int | None = None,
    ) -> list[Path]:
        r"""Write its artifacts to a folder: each as ``<folder>/<experiment>/<path>``.

        What lay beside the working copy, as ``../data/x``, goes to ``<folder>/<experiment>/_beside/data/x``. Files are
        checked against the SHA-256 that the service has. What is there already, and equal, is not fetched again; what
        was interrupted goes on where it broke off. A service that goes away meanwhile is waited for, for up to 10
        minutes, and stderr says so.

        Parameters
        ----------
        folder
            Where to; it is made if it is not there. Nothing is written outside of it, nor through links in it.
        match
            A regular expression that is found in the paths of what is wanted, such as ``r"\.pt$"``; None for all.
        progress
            Whether to show how far it is; None for where somebody looks on: in a terminal and in a notebook.
        attempt
            The number of the attempt whose artifacts they are; None for the current one.

        Returns
        -------
        list of Path
            Where the files are, in the order of their paths, among them those that were there already.

        Raises
        ------
        InvalidArgument
            If `match` is no regular expression, or there is no such attempt.
        DownloadFailed
            If files cannot be got or written, or are not what the service says they are: one error names them all, and
            everything else is there.
        ExperimentNotFound
            If it no longer exists.

        Examples
        --------
        >>> experiment.download_artifacts("out", match=r"\.pt$")  # doctest: +SKIP
        [PosixPath('out/clever-noether-1882-exp3/ckpt/best.pt')]
        """
        from grid.downloads.face import fetched  # noqa: PLC0415 - not before the first call
        from grid.session.outages import Lasting  # noqa: PLC0415

        check_attempt(attempt)
        whose = self._whose()
        service = Lasting(self._session)
        pages = pages_of_attempt(service, Whose(whose.id, whose.name, attempt))
        return fetched(service, pages, folder, match=match, progress=progress)

    def status(self) -> str:
        """Return where it is in its life.

        Returns
        -------
        str
            ``QUEUED``, ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``CANCELLED``. Costs no request once it
            can no longer change.

        Raises
        ------
        ExperimentNotFound
            If it no longer exists.
        """
        self._refresh()
        return self._record.status.value

    def wait(self, timeout: float | None = None) -> Experiment:
        """Wait until it has ended.

        Ctrl-C ends the waiting, and not the experiment.

        Parameters
        ----------
        timeout
            How many seconds to wait; None for as long as it takes.

        Returns
        -------
        Experiment
            This experiment.

        Raises
        ------
        WaitTimeout
            If it has not ended in time; it goes on. This is a `TimeoutError`.
        ExperimentNotFound
            If it no longer exists.

        Examples
        --------
        >>> run.experiments["clever-noether-1882-exp3"].wait(timeout=60).status()  # doctest: +SKIP
        'SUCCEEDED'
        """
        from grid.chain import loop  # noqa: PLC0415 - not before the first call
        from grid.watching.display import say  # noqa: PLC0415

        try:
            for record in loop.iterate(self._until_end(timeout)):
                self._take(record)
        except KeyboardInterrupt:
            say("still running; e.cancel() stops it")
            raise
        return self

    def _until_end(self, timeout: float | None) -> AsyncGenerator[ExperimentRecord, None]:
        """Yield its records until it has ended; on the background loop."""
        from grid.watching.deadlines import Deadline  # noqa: PLC0415 - not before the first call
        from grid.watching.experiment_end import records_of  # noqa: PLC0415

        deadline = Deadline(timeout)
        if self._is_deleted:
            raise self._gone()
        return records_of(self._record, self._session, deadline, self._gone)

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
            If processes are still there 5 s after the grace period. The cancellation stands.
        PermissionDenied, ExperimentNotFound
            If it is not yours.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        def ask(seconds: float) -> Cancellation:
            which: dict[str, Any] = {"name": self.name, "owner": self.user, "id": self.id}
            return self._session.execute(models.CancelExperiment, **which, waitSeconds=seconds).cancel_experiment

        wait_for_end(ask, self._session)
        return self.name

    def logs(
        self,
        n_lines: int | None = 200,
        follow: bool = False,
        since: datetime | timedelta | int | None = None,
        attempt: int | None = None,
    ) -> Iterator[str]:
        """Return what it has printed, stdout and stderr, line by line: `[2021-08-10 16:59:58.044] message`.

        The time is in UTC. With `~` before the line it is not certain: no service looked on when the line was printed.
        Colours are left out, and of a line that was rewritten, as progress bars are, the last state is shown. A line
        that has no end yet is shown when the experiment has ended.

        Parameters
        ----------
        n_lines
            How many of the last lines; None for all.
        follow
            Whether to go on with what is printed afterwards. The iterator then waits for it, and ends with the
            experiment: if that is queued again by itself, it goes on with the next attempt. After a lost connection, or
            a restart of the service, it goes on where it was. A service that is down is waited for, for up to 10
            minutes, and stderr says so. Ctrl-C ends the iterator, and not the experiment.
        since
            Where to begin, in place of `n_lines`: a datetime with a time zone, a timedelta for how long ago, or the
            number of a line.
        attempt
            The number of the attempt; None for the current one.

        Returns
        -------
        iterator of str
            Lines are fetched as they are consumed.

        Raises
        ------
        InvalidArgument
            If an argument has a value that is not allowed.
        ExperimentNotFound
            If it no longer exists.

        Examples
        --------
        >>> for line in experiment.logs(follow=True):  # doctest: +SKIP
        ...     print(line)
        [2021-08-10 16:59:58.044] epoch 1: loss 0.31
        """
        return self._each(texts, n_lines, since, attempt, follow=follow)

    def log_lines(
        self,
        n_lines: int | None = 200,
        follow: bool = False,
        since: datetime | timedelta | int | None = None,
        attempt: int | None = None,
    ) -> Iterator[LogLine]:
        """Return the same lines as :meth:`logs` as objects, with number, time and message.

        Parameters
        ----------
        n_lines, follow, since, attempt
            As for :meth:`logs`.

        Raises
        ------
        InvalidArgument, ExperimentNotFound
            As for :meth:`logs`.

        Examples
        --------
        >>> [line.message for line in experiment.log_lines(n_lines=1)]  # doctest: +SKIP
        ['epoch 1: loss 0.31']
        """
        return self._each(records, n_lines, since, attempt, follow=follow)

    def build_logs(self, n_lines: int | None = 200) -> Iterator[str]:
        """Return how its environment was built, line by line; for now, which interpreter runs it.

        Parameters
        ----------
        n_lines
            How many of the last lines; None for all.

        Raises
        ------
        InvalidArgument
            If `n_lines` is not a number of lines.
        ExperimentNotFound
            If it no longer exists.

        Examples
        --------
        >>> for line in experiment.build_logs():  # doctest: +SKIP
        ...     print(line)
        [2021-08-10 16:59:58.044] Nothing was built: experiments run in an environment that is there already.
        [2021-08-10 16:59:58.044] Their scripts are run by /usr/bin/python3
        """
        from grid import models  # noqa: PLC0415 - not before the first call
        from grid.logs.pages import build_log  # noqa: PLC0415

        check_n_lines(n_lines)

        def read() -> LogPage:
            found = None if self._is_deleted else self._session.execute(models.GetBuildLog, id=self.id).experiment
            if found is None:
                raise self._gone()
            return found.build_log

        return build_log(read, n_lines)

    def _each(
        self,
        show: Callable[[LogPage], list[_Line]],
        n_lines: int | None,
        since: datetime | timedelta | int | None,
        attempt: int | None,
        *,
        follow: bool,
    ) -> Iterator[_Line]:
        from grid.logs.pages import each_line  # noqa: PLC0415 - not before the first call
        from grid.watching.display import saying_what_goes_on  # noqa: PLC0415

        lines = each_line(self._pages(n_lines, follow, since, attempt), show)
        return saying_what_goes_on(lines, "e.cancel()", self._has_ended) if follow else lines

    def _pages(
        self, n_lines: int | None, follow: bool, since: datetime | timedelta | int | None, attempt: int | None
    ) -> Pages:
        """Check the arguments of logs; return their pages, of which nothing is asked for yet."""
        from grid.logs.pages import ExperimentLog  # noqa: PLC0415 - not before the first call

        start = LogStart.of(n_lines, since)
        check_follow(follow)
        check_attempt(attempt)
        if self._is_deleted:
            raise self._gone()
        if attempt is not None and attempt > self._record.attempt:
            self._refresh()
            so_far = self._record.attempt
            if attempt > so_far:
                message = f"attempt must be from 1 to {so_far}, the current one of {self.name}, not {attempt}"
                raise InvalidArgument(message)
        log = ExperimentLog(self._session, self.id, self._gone, start, attempt)
        return log.followed() if follow else log.present()

    def delete(self) -> None:
        """Remove it and its files from the service. The other experiments of its run keep their names.

        Deleting what no longer exists changes nothing.

        Raises
        ------
        NotEnded
            If it still waits or runs: cancel it first. Nothing was removed.
        PermissionDenied
            If it is not yours.

        Examples
        --------
        >>> run.experiments["clever-noether-1882-exp3"].delete()  # doctest: +SKIP
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        self._session.execute(models.DeleteExperiment, id=self.id)
        self._is_deleted = True
        self._on_deletion()

    def _whose(self) -> Whose:
        if self._is_deleted:
            raise self._gone()
        return Whose(self.id, self.name, None)

    def _take(self, record: ExperimentRecord) -> None:
        """Keep a record that was read, unless a newer one is known: of two threads' answers the older may come last."""
        if _progress(record) >= _progress(self._record):
            self._record = record

    @property
    def _is_final(self) -> bool:
        """Whether nothing about it can change, as far as is known here."""
        return self._record.status.is_final

    def _has_ended(self) -> bool:
        """Return whether it has ended, as far as can be told at once."""
        try_refresh(lambda: self._refresh(AT_ONCE_SECONDS))
        return self._is_deleted or self._record.status.is_terminal

    def _refresh(self, within: float | None = None) -> None:
        from grid import models  # noqa: PLC0415 - not before the first call

        if self._is_deleted:
            raise self._gone()
        if self._is_final:
            return
        record = self._session.execute(models.GetExperiment, within=within, id=self.id).experiment
        if record is None:
            raise self._gone()
        self._take(record)

    def _gone(self) -> ExperimentNotFound:
        return ExperimentNotFound(f"the experiment {self.name!r} no longer exists")

    def __repr__(self) -> str:
        try_refresh(lambda: self._refresh(REPR_SECONDS))
        return describe_experiment(self._record)

    def _repr_html_(self) -> str:
        from grid.notebook import experiment_html  # noqa: PLC0415 - for a notebook

        error = try_refresh(lambda: self._refresh(REPR_SECONDS))
        return experiment_html(self._record, self._varying, error)


def _progress(record: ExperimentRecord) -> tuple[int, int]:
    """Return how far an experiment has come: within an attempt its status never goes back."""
    return record.attempt, _STEPS.get(record.status, len(_STEPS))


_STEPS = {ExperimentStatus.QUEUED: 0, ExperimentStatus.PENDING: 1, ExperimentStatus.RUNNING: 2}


def wait_for_end(ask: Callable[[float], Cancellation], session: Session) -> list[str]:
    """Ask for a cancellation until everything it covers has ended; return the names.

    Parameters
    ----------
    ask
        Sends the mutation, which may take that many seconds.
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
                f"grace and {_CANCEL_MARGIN:g} s more: {named}. The cancellation stands: their status() will become "
                "CANCELLED"
            )
            raise CancelTimeout(message)
