"""A run, as its user holds it: described, started, looked at, cancelled."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from grid.definition.arguments import Params, RunArguments, noting_what_was_given
from grid.definition.checks import check_text
from grid.definition.links import Data
from grid.definition.params import settled
from grid.definition.run_definition import RunDefinition, grid_config, to_settings_input, validate
from grid.definition.variables import Environment
from grid.downloads.listing import pages_of_run
from grid.errors import ExperimentNotFound, InvalidArgument, RunNotFound, RunNotStarted, RunStarted
from grid.experiment import Experiment, wait_for_end
from grid.experiments_view import ExperimentsView
from grid.logs.labels import labels
from grid.logs.lines import LogStart, check_follow, check_n_lines, texts
from grid.run_state import RunState
from grid.session import session as sessions
from grid.shared.wire import ExperimentStatus
from grid.views import (
    AT_ONCE_SECONDS,
    EXPERIMENTS_PAGE,
    REPR_SECONDS,
    describe_run,
    names_of_runs,
    no_such,
    status_counts,
    try_refresh,
)

if TYPE_CHECKING:
    import re

    from grid.logs.pages import Pages
    from grid.models import Cancellation, FailureGroup, LoadedRun, LogPage, RunRecord, StatusProgress
    from grid.preview import Preview
    from grid.session.session import Session
    from grid.watching.display import ProgressShown
    from grid.watching.events import StatusChanged
    from grid.watching.printed import LogPrinted

_T = TypeVar("_T")

_ENDED = frozenset(status.value for status in ExperimentStatus if status.is_terminal)


class Run(RunArguments):
    """A sweep over one script: described, started, and then the mapping of its experiments.

    With an `entrypoint` it describes a new run, and nothing is sent until :meth:`start`. With a `name` alone it loads a
    run that exists (``username:run-name`` for a teammate's).

    Parameters
    ----------
    name
        Lower-case letters, digits and inner ``-``, beginning with a letter; chosen by the service if it is left out.
    entrypoint
        Path of the script: ``.py``, ``.sh`` or ``.jl``; or ``-m`` and the name of a module.
    script_args
        The script's arguments, as in a shell. Values such as ``"[1, 2]"``, ``"range(3)"`` or ``"uniform(0, 1, 5)"`` are
        swept over.
    description
        At most 200 characters.
    strategy
        ``grid_search`` (all combinations), ``random_search`` (`num_trials` of them), ``zip`` (the n-th values of all
        flags together) or ``none`` (nothing is swept).
    num_trials
        How many combinations a random search takes.
    framework
        ``lightning``, ``torch``, ``tensorflow``, ``julia`` or ``torchelastic``.
    dependency_file
        Path of a file of requirements.
    instance_type
        Name or nickname of a machine: see :func:`grid.get_instance_types`.
    use_spot
        Whether a cheaper machine that may be taken away will do.
    cpus, gpus
        CPUs and GPUs for each experiment; 0 for the instance type's.
    memory
        Memory for each experiment, such as ``"16G"``, in powers of 1024; empty for no claim to any.
    datastore_name, datastore_version, datastore_mount_dir
        A datastore, its version and where it is mounted.
    scratch_size, scratch_mount_path
        Size of a scratch disk and where it is mounted.
    localdir
        Take the entrypoint's folder as it is, instead of the commit at ``HEAD``.
    dockerfile
        Path of a Dockerfile for the environment.
    config_file
        Path of a YAML file; what is given here wins over it.
    cluster
        Where the run goes; empty for the service's default.
    seed
        Seed of every random draw: the same seed gives the same run. Chosen at random if it is None.
    timeout
        Seconds from an experiment's start until it is ended and counts as failed; None for no limit.
    max_retries
        How many times an experiment that was lost, because the machine or its supervisor died, is queued again
        automatically. A script that fails is not run again: see :meth:`retry`.
    auto_resume
        Start each further attempt with the files that the one before it created or changed; implies one retry if
        `max_retries` is 0.
    params
        More arguments of the script as Python objects, with no quoting: a dict from name to a value, or to a list of
        values that is swept over, or a list of dicts, one combination each. See :mod:`grid.sweep` for draws.
    params_style
        How `params` are written: ``"--k v"``, ``"--k=v"`` or ``"k=v"``.
    repeats
        How often each combination is run; ``GRID_REPEAT`` tells the script which time it is, from 0.
    working_dir
        Where the script starts: ``"root"`` of the source code, ``"script"`` for the script's own folder, or a path
        below the root.
    environment
        Extra environment variables of every experiment, added to those of the configuration file: a dict, or a list of
        names whose values are taken from your own environment at :meth:`start`.
    launcher
        Words that start the script in place of the interpreter, such as ``torchrun --nproc_per_node=2``; ``{cpus}``,
        ``{gpus}`` and ``{index}`` are replaced.
    data
        What is linked into the working copy: a dict from a path there to a folder or file on the service's machine,
        seen from your current folder if it is relative. It is not protected from the script.

    Raises
    ------
    NotLoggedIn
        Before :func:`grid.login`.
    InvalidArgument
        If an argument has a value that is not allowed, or neither `name` nor `entrypoint` is given.
    RunNotFound
        If no run has the name.

    Examples
    --------
    >>> from grid import Run, login
    >>> login()  # doctest: +SKIP
    >>> r = Run(entrypoint="train.py", script_args="--lr '[0.1, 0.01]'")  # doctest: +SKIP
    >>> r.start()  # doctest: +SKIP
    >>> r.status()  # doctest: +SKIP
    defaultdict(<class 'list'>, {'QUEUED': ['clever-noether-1882-exp0', 'clever-noether-1882-exp1']})
    """

    __slots__ = (
        *("__weakref__", "_definition", "_experiments", "_folder", "_given", "_hourly_cost", "_key", "_seed", "_state"),
    )

    _definition: RunDefinition
    _experiments: ExperimentsView
    _folder: str
    _given: dict[str, Any]
    _hourly_cost: float | None
    _key: str
    _seed: int
    _state: RunState

    @noting_what_was_given
    def __init__(  # noqa: PLR0913 - the interface's
        self,
        name: str = "",
        entrypoint: str = "",
        script_args: str = "",
        description: str | None = None,
        strategy: str = "grid_search",
        num_trials: int = 0,
        framework: str = "lightning",
        dependency_file: str = "",
        instance_type: str = "t2.medium",
        use_spot: bool = False,
        cpus: int = 0,
        gpus: int = 0,
        memory: str = "",
        datastore_name: str = "",
        datastore_version: str = "",
        datastore_mount_dir: str = "",
        scratch_size: str = "",
        scratch_mount_path: str = "/tmp/scratch",  # noqa: S108 - the interface's
        localdir: bool = False,
        dockerfile: str = "",
        config_file: str = "",
        cluster: str = "",
        *,
        seed: int | None = None,
        timeout: float | None = None,
        max_retries: int = 0,
        auto_resume: bool = False,
        params: Params = None,
        params_style: str = "--k v",
        repeats: int = 1,
        working_dir: str = "root",
        environment: Environment = None,
        launcher: str = "",
        data: Data = None,
    ) -> None:
        if not name and not entrypoint:
            message = "Run() needs an entrypoint, to describe a new run, or a name, to load one that exists"
            raise InvalidArgument(message)
        self._reset(sessions.current())
        if entrypoint:
            self._define(RunDefinition.from_arguments(self._given))
            validate(self._definition)
            return
        if others := sorted(self._given.keys() - {"name"}):
            message = (
                f"Run({name!r}) loads a run that exists, so {', '.join(others)} cannot be given; "
                "a new run needs entrypoint="
            )
            raise InvalidArgument(message)
        self._load(name)

    # What is known about it

    @property
    def id(self) -> str | None:
        """The id, unique in the service; None before the run is started."""
        return self._state.record.id if self._state.record else None

    @property
    def user(self) -> str:
        """The username of the owner."""
        return self._state.user

    @property
    def created_at(self) -> datetime | None:
        """When the run was started, in UTC; None before that."""
        return self._state.record.created_at if self._state.record else None

    @property
    def experiments(self) -> ExperimentsView:
        """The experiments by name, in index order: a live mapping. Empty before the run is started."""
        return self._experiments

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of the parameters that differ between the experiments, in the order of the command line.

        Empty before the run is started.
        """
        return self._state.record.varying if self._state.record else ()

    @property
    def grid_config(self) -> dict[str, Any]:
        """The run as the nested configuration that a configuration file holds."""
        return grid_config(self._definition)

    @property
    def script_command(self) -> str:
        """The shell-quoted command line of the same run, without its first words; empty before the start."""
        return self._state.record.script_command if self._state.record else ""

    @property
    def estimated_hourly_cost(self) -> float:
        """US dollars per hour for all experiments of the run at once.

        Raises
        ------
        InvalidArgument
            If the service would refuse the run.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        if self._hourly_cost is not None:
            return self._hourly_cost
        if self._state.record is None:
            validate(self._definition)
        settings = to_settings_input(self._definition)
        cost = self._state.session.execute(models.Estimate, settings=settings).estimate.hourly_cost
        if self._state.record is not None:
            self._hourly_cost = cost
        return cost

    # What can be done

    def preview(self, n: int = 10) -> Preview:
        """Return what :meth:`start` would make: how many experiments, what varies between them, the first commands.

        Nothing is created, and no source code is sent. What it shows is what runs: the draws of the next :meth:`start`
        are these, also after other arguments were changed, until `seed` is set.

        Parameters
        ----------
        n
            How many of the experiments to show, from 1 to 1,000.

        Returns
        -------
        Preview
            It shows itself as a table, in a terminal and in a notebook.

        Raises
        ------
        RunStarted
            If it was started: :attr:`experiments` are there then.
        InvalidArgument
            If `n` is not such a number.
        GridError
            What :meth:`start` would raise.

        Examples
        --------
        >>> run = Run(entrypoint="train.py", script_args="--lr '[0.1, 0.01]' --epochs 5")  # doctest: +SKIP
        >>> run.preview()  # doctest: +SKIP
        Preview: 2 experiments, lr: 2
        <BLANKLINE>
              lr    command
        exp0  0.1   python train.py --lr 0.1 --epochs 5
        exp1  0.01  python train.py --lr 0.01 --epochs 5
        <BLANKLINE>
        1 other argument, which does not vary
        0.19 US dollars per hour for all experiments at once
        """
        from grid.preview import check_n, previewed  # noqa: PLC0415 - not before the first call

        check_n(n)
        if self._state.record is not None:
            message = (
                f"the run {self.name!r} has been started, so there is nothing to preview: `experiments` has what runs, "
                "and `varying` what differs between them"
            )
            raise RunStarted(message)
        validate(self._definition)
        return previewed(self._definition.inheriting(os.environ), self._seed, self._state.session, n)

    def start(self) -> None:
        """Send the source code and start the run. A start that is interrupted and repeated still makes only one run.

        Raises
        ------
        RunStarted
            If it was started before.
        SourceError
            If the source code cannot be packed, for example because it is not committed.
        SweepError
            If a sweep in `script_args` is wrong.
        InvalidArgument
            If `environment` names a variable that you do not have.
        NameTaken, Unsupported, InvalidArgument, LimitExceeded
            If the service refuses it; nothing was created.
        """
        from grid.session.sending import Said, send_run  # noqa: PLC0415 - not before the first call

        if self._state.record is not None:
            message = f"the run {self.name!r} has already been started; make a new Run to start another"
            raise RunStarted(message)
        validate(self._definition)
        self._folder = str(Path.cwd())
        definition = self._definition.inheriting(os.environ)
        said, session = Said(), self._state.session
        started = send_run(definition, self._seed, self._key, session, first=EXPERIMENTS_PAGE, said=said)
        self._take(started.run)
        said.warn(started.warnings, stacklevel=2)

    def status(self) -> defaultdict[str, list[str]]:
        """Return the names of the experiments grouped by status; a status that no experiment has is left out.

        Costs one request, and none once nothing can change.
        """
        if self._state.record is None:
            return defaultdict(list)
        return defaultdict(list, {word: list(names) for word, names in self._fresh_status().items()})

    def cancel(self) -> list[str]:
        """Cancel every unfinished experiment, and return when their processes are gone.

        Returns
        -------
        list of str
            The names of the experiments that have ended, now or before, in index order.

        Raises
        ------
        RunNotStarted
            If there is nothing to cancel yet.
        CancelTimeout
            If processes are still there 5 s after the service's grace period. The cancellation stands.
        PermissionDenied, RunNotFound
            If it is not yours.
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        self._check_started("cancel")

        def ask(seconds: float) -> Cancellation:
            which: dict[str, Any] = {"name": self.name, "owner": self._state.owner, "id": self.id}
            return self._state.session.execute(models.CancelRun, **which, waitSeconds=seconds).cancel_run

        return wait_for_end(ask, self._state.session)

    def failures(self) -> list[FailureGroup]:
        """Return what has failed, grouped by reason and by the last line of the traceback; the largest group first.

        Costs one request, however many experiments have failed, and a page of them if none of these was read yet.

        Returns
        -------
        list of grid.models.FailureGroup
            Each with the reason, the last line, the names of its experiments and the failure of the first. As text it
            says what varies of those that were read. Empty if nothing has failed. Where a script has missed a file that
            you have beside it, but that is not part of the run, the group's `hint` says so, if the script is on this
            machine.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        RunNotFound
            If it no longer exists.

        Examples
        --------
        >>> for group in run.failures():  # doctest: +SKIP
        ...     print(group)
        1 x EXIT_CODE: ValueError: rate must be below 1 (clever-noether-1882-exp3 with lr=1 n_layer=6)
        """
        from grid import models  # noqa: PLC0415 - not before the first call
        from grid.failures import FailedAlike  # noqa: PLC0415
        from grid.session.absences import explained  # noqa: PLC0415

        record = self._check_started("look at")
        found = self._state.session.execute(models.GetFailures, name=self.name, owner=self._state.owner).run
        groups = explained(self._state.same(found).failures, record, self._folder)
        varying = self._experiments._varied([name for each in groups for name in each.names])  # noqa: SLF001 - not for users
        return [FailedAlike.of(each, varying) for each in groups]

    def logs(
        self, n_lines: int | None = 200, follow: bool = False, since: datetime | timedelta | int | None = None
    ) -> Iterator[str]:
        """Return what all experiments have printed: lines as :meth:`Experiment.logs` has them, each after what varies.

        Parameters
        ----------
        n_lines
            How many of the last lines of each experiment; None for all that there are when the first is asked for.
        follow
            Whether to go on with what is printed afterwards, as it comes. The iterator then waits for it, and ends with
            the run. After a lost connection, or a restart of the service, it goes on where it was. A service that is
            down is waited for, for up to 10 minutes, and stderr says so. Ctrl-C ends the iterator, and not the run.
        since
            Where to begin in each experiment, in place of `n_lines`: a datetime with a time zone, a timedelta for how
            long ago, or the number of a line.

        Returns
        -------
        iterator of str
            Lines are fetched as they are consumed, those of many experiments with one request.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        InvalidArgument
            If an argument has a value that is not allowed.
        RunNotFound
            If it no longer exists.

        Examples
        --------
        >>> for line in run.logs(follow=True):  # doctest: +SKIP
        ...     print(line)
        lr=0.1  | [2021-08-10 16:59:58.044] epoch 1: loss 0.31
        lr=0.01 | [2021-08-10 16:59:58.061] epoch 1: loss 0.74
        """
        from grid.logs.pages import RunLog  # noqa: PLC0415 - not before the first call

        start = LogStart.of(n_lines, since)
        check_follow(follow)
        record = self._check_started("read")
        if self._state.is_deleted:
            raise self._state.gone()
        log = RunLog(self._state.session, record.id, self.name, self._state.owner, self._state.gone, start)
        lines = self._labelled(log.followed() if follow else log.present(len(self)))
        return self._saying_what_goes_on(lines) if follow else lines

    def build_logs(self, n_lines: int | None = 200) -> Iterator[str]:
        """Return how the environment of its experiments was built, line by line; for now, which interpreter runs them.

        Parameters
        ----------
        n_lines
            How many of the last lines; None for all.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        InvalidArgument
            If `n_lines` is not a number of lines.
        RunNotFound
            If it no longer exists.

        Examples
        --------
        >>> for line in run.build_logs():  # doctest: +SKIP
        ...     print(line)
        [2021-08-10 16:59:58.044] Nothing was built: experiments run in an environment that is there already.
        [2021-08-10 16:59:58.044] Their scripts are run by /usr/bin/python3
        """
        from grid import models  # noqa: PLC0415 - not before the first call
        from grid.logs.pages import build_log  # noqa: PLC0415

        check_n_lines(n_lines)
        self._check_started("read")
        state = self._state

        def read() -> LogPage:
            if state.is_deleted:
                raise state.gone()
            found = state.session.execute(models.GetRunBuildLog, name=self.name, owner=state.owner).run
            return state.same(found).build_log

        return build_log(read, n_lines)

    def retry(self) -> list[str]:
        """Run every failed experiment again, with the same parameters, as its next attempt. Earlier attempts are kept.

        Returns
        -------
        list of str
            The names of the experiments that are queued again, in index order.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        PermissionDenied, RunNotFound
            If it is not yours.

        Examples
        --------
        >>> run.retry()  # doctest: +SKIP
        ['clever-noether-1882-exp3', 'clever-noether-1882-exp7']
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        which = {"id": self._check_started("retry").id, "key": self._state.session.new_key()}
        return list(self._state.session.execute(models.RetryRun, input=which).retry_run.names)

    def download_artifacts(
        self,
        folder: str | os.PathLike[str],
        match: str | re.Pattern[str] | None = None,
        progress: bool | None = None,
    ) -> list[Path]:
        r"""Write the artifacts of all its experiments to a folder: each as ``<folder>/<experiment>/<path>``.

        It does what :meth:`Experiment.download_artifacts` does, for the current attempt of each experiment.

        Parameters
        ----------
        folder
            Where to; it is made if it is not there. Nothing is written outside of it, nor through links in it.
        match
            A regular expression that is found in the paths of what is wanted, such as ``r"\.pt$"``; None for all.
        progress
            Whether to show how far it is; None for where somebody looks on: in a terminal and in a notebook.

        Returns
        -------
        list of Path
            Where the files are, by experiment in index order, among them those that were there already.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        InvalidArgument
            If `match` is no regular expression.
        DownloadFailed
            If files cannot be got or written, or are not what the service says they are: one error names them all, and
            everything else is there.
        RunNotFound
            If it no longer exists.

        Examples
        --------
        >>> run.download_artifacts("out", match=r"\.pt$")  # doctest: +SKIP
        [PosixPath('out/clever-noether-1882-exp0/best.pt'), PosixPath('out/clever-noether-1882-exp1/best.pt')]
        """
        from grid.downloads.face import fetched  # noqa: PLC0415 - not before the first call
        from grid.session.outages import Lasting  # noqa: PLC0415

        record, state = self._check_started("download"), self._state
        if state.is_deleted:
            raise state.gone()
        service = Lasting(state.session)
        pages = pages_of_run(service, self.name, state.owner, lambda found: found == record.id)
        return fetched(service, pages, folder, match=match, progress=progress)

    def delete(self) -> None:
        """Remove the run from the service: its experiments, their files, and source code that no other run uses.

        Deleting what no longer exists changes nothing.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        NotEnded
            If one of its experiments still waits or runs: cancel it first. Nothing was removed.
        PermissionDenied
            If it is not yours.

        Examples
        --------
        >>> run.cancel()  # doctest: +SKIP
        ['clever-noether-1882-exp0', 'clever-noether-1882-exp1']
        >>> run.delete()  # doctest: +SKIP
        """
        from grid import models  # noqa: PLC0415 - not before the first call

        self._state.session.execute(models.DeleteRun, id=self._check_started("delete").id)
        self._state.is_deleted = True

    # Waiting and watching

    def wait(self, timeout: float | None = None, progress: bool | None = None) -> Run:
        """Wait until every experiment has ended, and show how far the run has come.

        Ctrl-C ends the waiting, and not the run. A service that stops answering is waited for up to 10 minutes.

        Parameters
        ----------
        timeout
            How many seconds to wait; None for as long as it takes.
        progress
            Whether to show a line that says how many experiments have ended, how many run and have failed, and how long
            the rest will take, as soon as that can be told. None shows it on a terminal and in a notebook, and nothing
            in a pipe.

        Returns
        -------
        Run
            This run.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        WaitTimeout
            If it has not ended in time; it goes on. This is a `TimeoutError`.
        RunNotFound
            If it no longer exists.

        Examples
        --------
        >>> run.wait().failures()  # doctest: +SKIP
        []
        """
        from grid.chain import loop  # noqa: PLC0415 - not before the first call

        with self._showing(progress) as shown:
            for status in loop.iterate(self._progress(timeout, shown.tick)):
                shown.show(status)
        return self

    def as_completed(self, timeout: float | None = None) -> Iterator[Experiment]:
        """Return the experiments in the order in which they end: those that have ended first, then each as it does.

        Ctrl-C while the next one is waited for ends the waiting, and not the run, and says so.

        One that failed and was queued again by itself has not ended. One that is retried after it came comes again at
        its next end. One that is deleted does not come.

        Parameters
        ----------
        timeout
            How many seconds from now to wait for all of them; None for as long as it takes.

        Returns
        -------
        iterator of Experiment
            It ends with the run.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        WaitTimeout
            From the iterator, if they have not all ended in time; they go on. This is a `TimeoutError`.
        RunNotFound
            From the iterator, if the run no longer exists.

        Examples
        --------
        >>> for experiment in run.as_completed():  # doctest: +SKIP
        ...     print(experiment.name, experiment.status())
        clever-noether-1882-exp1 SUCCEEDED
        clever-noether-1882-exp0 FAILED
        """
        return self._saying_what_goes_on(_each(self._ends(timeout)))

    @overload
    def watch(self, metrics: bool = False, logs: Literal[False] = False) -> Iterator[StatusChanged]: ...

    @overload
    def watch(self, metrics: bool = False, logs: bool = False) -> Iterator[StatusChanged | LogPrinted]: ...

    def watch(self, metrics: bool = False, logs: bool = False) -> Iterator[StatusChanged | LogPrinted]:
        """Return what happens in the run, from its beginning: each change of a status, once and in order.

        Parameters
        ----------
        metrics
            Whether values of metrics are told as well; they are not there yet.
        logs
            Whether what the scripts print is told as well: each line of every attempt, once and in order. What an
            experiment printed last may come after its end.

        Returns
        -------
        iterator of grid.StatusChanged and grid.LogPrinted
            It ends with the run. A connection that is cut is mended, and nothing is told twice or missing. Ctrl-C ends
            the iterator, and not the run.

        Raises
        ------
        RunNotStarted
            If it has not been started.
        RunNotFound
            From the iterator, if the run no longer exists.

        Examples
        --------
        >>> for event in run.watch():  # doctest: +SKIP
        ...     print(event.experiment, event.status)
        clever-noether-1882-exp0 PENDING
        clever-noether-1882-exp0 RUNNING
        clever-noether-1882-exp0 SUCCEEDED
        """
        return self._saying_what_goes_on(_each(self._changes(metrics=metrics, logs=logs)))

    def __contains__(self, name: object) -> bool:
        return name in self._experiments

    def __len__(self) -> int:
        return len(self._experiments)

    def __bool__(self) -> bool:
        return True  # a run that has no experiments yet is still a run

    def __iter__(self) -> Iterator[Experiment]:
        return iter(self._experiments.values())

    def __repr__(self) -> str:
        try_refresh(lambda: self._fresh_status(REPR_SECONDS))
        return describe_run(self._definition, self._state)

    def _repr_html_(self) -> str:
        from grid.notebook import run_html  # noqa: PLC0415 - for a notebook

        return run_html(self._definition, self._state, *self._experiments._first())  # noqa: SLF001 - not for users

    # What waits and watches, on the background loop: for the methods above, and for `grid.aio`

    def _showing(self, progress: bool | None) -> AbstractContextManager[ProgressShown]:
        from grid.watching.display import check_progress, showing  # noqa: PLC0415 - not before the first call

        self._check_started("wait for")
        check_progress(progress)
        return showing(self.name, progress=progress, stopping="r.cancel()")

    def _progress(self, timeout: float | None, tick: float) -> AsyncGenerator[StatusProgress, None]:
        from grid.watching.deadlines import Deadline  # noqa: PLC0415 - not before the first call
        from grid.watching.progress import progress_of  # noqa: PLC0415

        return progress_of(self._present("wait for"), Deadline(timeout), tick=tick)

    def _ends(self, timeout: float | None) -> AsyncGenerator[Sequence[Experiment], None]:
        from grid.watching.deadlines import Deadline  # noqa: PLC0415 - not before the first call
        from grid.watching.events import ends_of  # noqa: PLC0415

        return ends_of(self._present("wait for"), Deadline(timeout), self._experiments._ended)  # noqa: SLF001 - as above

    def _changes(self, *, metrics: bool, logs: bool) -> AsyncGenerator[Sequence[StatusChanged | LogPrinted], None]:
        from grid.watching.events import changes_of  # noqa: PLC0415 - not before the first call
        from grid.watching.printed import all_of  # noqa: PLC0415

        given: dict[str, object] = {"metrics": metrics, "logs": logs}
        for name, value in given.items():
            if not isinstance(value, bool):
                message = f"{name} must be True or False, not {value!r}"
                raise InvalidArgument(message)
        if metrics:
            message = "metrics=True would tell the values of metrics, and these are not there yet: leave it out"
            raise InvalidArgument(message)
        state = self._present("watch")
        return all_of(state) if logs else changes_of(state)

    def _present(self, what: str) -> RunState:
        self._check_started(what)
        if self._state.is_deleted:
            raise self._state.gone()
        return self._state

    def _saying_what_goes_on(self, items: Iterator[_T]) -> Iterator[_T]:
        from grid.watching.display import saying_what_goes_on  # noqa: PLC0415 - not before the first call

        return saying_what_goes_on(items, "r.cancel()", self._has_ended)

    def _has_ended(self) -> bool:
        """Return whether all its experiments have ended, as far as can be told at once."""
        try_refresh(lambda: self._fresh_status(AT_ONCE_SECONDS))
        return self._state.is_deleted or status_counts(self._state).keys() <= _ENDED

    # Internals

    def _labelled(self, pages: Pages) -> Iterator[str]:
        from grid.chain import loop  # noqa: PLC0415 - not before the first call
        from grid.session.outages import outlasting  # noqa: PLC0415

        known: dict[str, str] = {}
        with closing(loop.iterate(pages)) as some:
            for page in some:
                if page.name not in known:
                    with suppress(ExperimentNotFound):  # deleted since: it has no parameters, but a name
                        found = outlasting(self._state.session, partial(self._experiments._records, page.name))  # noqa: SLF001 - not for users
                        known = labels(found, self.varying)
                yield from texts(page, known.get(page.name) or f"{page.name} | ")

    @classmethod
    def _of(cls, record: RunRecord, session: Session) -> Run:
        """Return the run of a record, without its experiments."""
        run = cls.__new__(cls)
        run._reset(session)  # noqa: SLF001 - of this class
        run._adopt(record)  # noqa: SLF001 - as above
        return run

    def _reset(self, session: Session) -> None:
        self._state = RunState(session)
        self._experiments = ExperimentsView(self._state)
        self._hourly_cost = None
        # From where the entrypoint is seen, as far as anybody knows; `start` knows.
        self._folder = ""
        # The same however often this run's start is tried, so that the service creates it only once.
        self._key = session.new_key()
        self._seed = _seed_of(self._key)

    def _load(self, name: str) -> None:
        from grid import models  # noqa: PLC0415 - not before the first call

        check_text("name", name)
        owner, colon, plain = name.rpartition(":")
        Run.name.check(plain)
        state = self._state
        state.owner = owner if colon else None
        found = state.session.execute(models.GetRun, name=plain, owner=state.owner, first=EXPERIMENTS_PAGE).run
        if found is None:
            whose = f"the runs of {owner}" if owner else "your runs"
            raise RunNotFound(no_such("run", plain, whose, () if owner else names_of_runs(state.session)))
        self._take(found)

    def _take(self, loaded: LoadedRun) -> None:
        self._adopt(loaded)
        self._experiments = ExperimentsView(self._state, loaded.experiments)

    def _adopt(self, record: RunRecord) -> None:
        self._define(RunDefinition.from_record(record))
        self._state.adopt(record)

    def _define(self, definition: RunDefinition) -> None:
        self._definition = definition
        self._state.name = definition.name

    def _argument(self, name: str) -> Any:
        value = self._definition.values[name]
        return settled(value) if name == "params" else value  # a copy: to change a list in it changes no run

    def _change(self, name: str, value: object) -> None:
        if self._state.record is not None:
            message = f"the run {self.name!r} has been started, so its {name} cannot be changed; make a new Run"
            raise RunStarted(message)
        self._define(self._definition.evolve(**{name: value}))
        # Whether or not an earlier start() got through: this is another run.
        self._key = self._state.session.new_key()
        if name == "seed":  # whatever else changes, the draws that were previewed stay
            self._seed = _seed_of(self._key)

    def _fresh_status(self, within: float | None = None) -> dict[str, list[str]]:
        return {} if self._state.record is None else self._experiments._fresh_status(within)  # noqa: SLF001 - as above

    def _check_started(self, what: str) -> RunRecord:
        if self._state.record is None:
            message = f"this run has not been started: there is nothing to {what}"
            raise RunNotStarted(message)
        return self._state.record


def _seed_of(key: str) -> int:
    """Return the seed of a run that is given none: known before the start, so that what was previewed is what runs."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1


def _each(batches: AsyncGenerator[Sequence[_T], None]) -> Iterator[_T]:
    """Yield one after the other what comes several at a time."""
    from grid.chain import loop  # noqa: PLC0415 - not before the first call

    with closing(loop.iterate(batches)) as some:
        for each in some:
            yield from each
