"""What the service's answers mean: a frozen dataclass for each selection of a query, with exactly its fields.

The answer to an operation is the class with the operation's name; these come last in this file. JSON is converted into
models and back by `grid.chain.decoding`; `python -m grid.schema_tools check` compares models, queries and schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from grid.chain.decoding import Model as Model  # noqa: PLC0414  # where users look for it
from grid.chain.decoding import read_time, write_time
from grid.shared.wire import ExperimentStatus, Reason

# Without these dataclasses-json writes a time as a float of seconds, and leaves an enum member in the dictionary.
_TIME = {"dataclasses_json": {"encoder": write_time, "decoder": read_time}}
_WORD = {"dataclasses_json": {"encoder": attrgetter("value")}}
_WORD_OR_NONE = {"dataclasses_json": {"encoder": lambda word: word and word.value}}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageInfo(Model):
    """How to go on after a page."""

    has_next_page: bool
    end_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Model):
    """The owner of a run or an experiment."""

    username: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer(Model):
    """The user whose key came with the request."""

    id: str
    username: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCount(Model):
    """How many experiments of a run have one status."""

    status: ExperimentStatus = field(metadata=_WORD)
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusNames(Model):
    """The names of the experiments of a run that have one status, in index order."""

    status: ExperimentStatus = field(metadata=_WORD)
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCounts(Model):
    """How many of a run's experiments have each status, at one revision of the run."""

    revision: int
    groups: tuple[StatusCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusGroups(Model):
    """Which of a run's experiments have each status, by name, at one revision of the run."""

    revision: int
    groups: tuple[StatusNames, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Model):
    """How long it will take until a run has ended: seconds, from the lower to the higher estimate."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusProgress(Model):
    """How far a run has come: how many of its experiments have each status, and how long the rest will take.

    Attributes
    ----------
    revision
        The number of the run's last event by then.
    groups
        How many experiments have each status that at least one has.
    forecast
        None until enough have ended, and once all have.
    """

    revision: int
    groups: tuple[StatusCount, ...]
    forecast: Forecast | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRevision(Model):
    """A number that grows with every change of status in a run."""

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings(Model):
    """What a run was started with, after the service has filled in what was left open.

    Attributes
    ----------
    entrypoint
        The path of the script, as it was given.
    script_args
        The script's arguments, with the sweep written into them.
    params
        More arguments, as JSON; empty for none.
    params_style
        How those are written: `FLAG_VALUE`, `FLAG_EQUALS_VALUE` or `KEY_EQUALS_VALUE`.
    repeats
        How often each combination is run.
    strategy
        How the values of the sweep are combined: `GRID_SEARCH`, `RANDOM_SEARCH`, `ZIP` or `NONE`.
    num_trials
        How many combinations a random search takes; 0 for another strategy.
    seed
        The seed of every random draw of the run.
    framework
        The framework that the script is written for, in capitals.
    dependency_file
        A file of requirements; empty for none.
    instance_type
        The type of machine for each experiment, by its name in the catalogue.
    use_spot
        Whether a cheaper machine that may be taken away will do.
    cpus, gpus
        CPUs and GPUs for each experiment; 0 for the instance type's.
    memory
        Memory for each experiment, as in `16G`; empty for the instance type's.
    datastore_name, datastore_version, datastore_mount_dir
        The datastore, its version, and where it is mounted; empty for none.
    scratch_size, scratch_mount_path
        The size of the scratch disk, empty for none, and where it is mounted.
    localdir
        Whether the source code is a folder as it was, instead of a commit.
    dockerfile
        A Dockerfile for the environment; empty for none.
    config_file
        The configuration file that the run was defined with; empty for none.
    environment
        Extra environment variables of every experiment.
    inherited_variables
        The names of those whose values were taken from the environment of whoever started the run.
    working_dir
        Where the script starts: `root`, `script` or a path below the root of the source code.
    launcher
        The words that start the script in place of the interpreter; empty for the interpreter.
    data
        What is linked into the working copy: from the path there to the path on the service's machine.
    timeout
        Seconds after which an experiment is ended; None for no limit.
    max_retries
        How many times an experiment that was lost is queued again automatically.
    auto_resume
        Whether an attempt starts with the files of the one before it.
    """

    entrypoint: str
    script_args: str
    params: str
    params_style: str
    repeats: int
    strategy: str
    num_trials: int
    seed: int
    framework: str
    dependency_file: str
    instance_type: str
    use_spot: bool
    cpus: int
    gpus: int
    memory: str
    datastore_name: str
    datastore_version: str
    datastore_mount_dir: str
    scratch_size: str
    scratch_mount_path: str
    localdir: bool
    dockerfile: str
    config_file: str
    environment: dict[str, str] = field(repr=False)  # there may be secrets among the values
    inherited_variables: tuple[str, ...]
    working_dir: str
    launcher: str
    data: dict[str, str]
    timeout: float | None
    max_retries: int
    auto_resume: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(Model):
    """A run, without its experiments."""

    id: str
    name: str
    description: str | None
    script_command: str
    user: User
    cluster: str
    project: str
    commit_sha: str
    created_at: datetime = field(metadata=_TIME)
    experiment_count: int
    deleted_indices: tuple[int, ...]
    varying: tuple[str, ...]
    status: StatusCounts
    settings: RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord(Model):
    """An experiment. The keys of its parameters are in the order of the command line, `Script` first."""

    id: str
    name: str
    status: ExperimentStatus = field(metadata=_WORD)
    attempt: int
    project: str
    commit_sha: str
    parameters: dict[str, str]
    invocation_command: str
    user: User
    created_at: datetime = field(metadata=_TIME)
    started_running_at: datetime | None = field(metadata=_TIME)
    finished_at: datetime | None = field(metadata=_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedExperiment(ExperimentRecord):
    """An experiment that was looked for, and the id of the run that it belongs to."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Model):
    """What is known about an experiment that failed or was cancelled.

    Attributes
    ----------
    reason
        Why it ended as it did: a word such as ``EXIT_CODE``, ``OUT_OF_MEMORY`` or ``LOST``.
    exit_code
        The exit code of the script; None if a signal ended it or it never started.
    signal
        The number of the signal that ended the script; None if none did.
    error
        What the reason does not say, such as why the script could not be started; None if there is nothing to add.
    last_lines
        The end of the script's output: the whole Python traceback if there is one, otherwise the last lines.
    final_line
        The line of that traceback that names the exception: its last, unless the message has several lines. None if
        there is no traceback.

    Examples
    --------
    >>> what = {"exit_code": None, "signal": 9, "error": None, "last_lines": "epoch 3", "final_line": None}
    >>> print(Failure(reason=Reason.SIGNAL, **what))
    SIGNAL: signal 9
    epoch 3
    """

    reason: Reason = field(metadata=_WORD)
    exit_code: int | None
    signal: int | None
    error: str | None
    last_lines: str
    final_line: str | None

    @property
    def remark(self) -> str:
        """What goes with the reason: what kept the script from starting, the signal or the exit code; or empty."""
        ended = f"exit code {self.exit_code}" if self.exit_code is not None else ""
        ended = f"signal {self.signal}" if self.signal is not None else ended
        return self.error or ended

    def __str__(self) -> str:
        headline = ": ".join(filter(None, [self.reason.value, self.remark]))
        return f"{headline}\n{self.last_lines}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup(Model):
    """Experiments of a run that failed in the same way.

    Attributes
    ----------
    reason
        Why they ended as they did.
    final_line
        The line of the traceback that names the exception; None if there is no traceback.
    names
        Their names, in index order.
    example
        The failure of the first of them.
    """

    reason: Reason = field(metadata=_WORD)
    final_line: str | None
    names: tuple[str, ...]
    example: Failure

    @property
    def hint(self) -> str:
        """What can be done about it, where this machine knows more than the service; empty if it does not."""
        return ""

    def __str__(self) -> str:
        few = ", ".join(map(self._told, self.names[:3])) + (", …" if len(self.names) > 3 else "")  # noqa: PLR2004
        what = f": {self.final_line}" if self.final_line else ""
        if not what and self.example.remark:
            # Without a traceback they have nothing in common but the reason.
            what = f": {self.example.remark}" if len(self.names) == 1 else f", the first: {self.example.remark}"
        hint = f". {self.hint}" if self.hint else ""
        return f"{len(self.names)} x {self.reason.value}{what} ({few}){hint}"

    def _told(self, name: str) -> str:
        return name  # a subclass knows more of them


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedExperiment(ExperimentRecord):
    """An experiment together with what is known about its failure."""

    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord(Model):
    """A file that a script has made, as it was when it was asked for.

    Attributes
    ----------
    path
        Its path from the working copy; beginning with `../`, beside it.
    size
        Its size in bytes.
    modified_at
        When it was last written to.
    etag
        What tells its content from an earlier or a later one.
    download_path
        Where to get it, below the service's address, for some minutes.
    sha256
        Its SHA-256; None while the attempt goes on, and until the service has computed it.
    """

    path: str
    size: float
    modified_at: datetime = field(metadata=_TIME)
    etag: str
    download_path: str = field(repr=False)  # signed
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPage(Model):
    """A page of an attempt's artifacts, in the order of their paths."""

    attempt: int
    nodes: tuple[ArtifactRecord, ...]
    page_info: PageInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentWithArtifacts(Model):
    """An experiment of which a page of artifacts is read."""

    status: ExperimentStatus = field(metadata=_WORD)
    attempt: int
    artifacts: ArtifactPage


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentWithArtifact(Model):
    """An experiment of which one artifact is read; None if there is none of that path."""

    status: ExperimentStatus = field(metadata=_WORD)
    attempt: int
    artifact: ArtifactRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentWithBundle(Model):
    """An experiment, and where to get many of its artifacts at once."""

    status: ExperimentStatus = field(metadata=_WORD)
    attempt: int
    bundle_path: str = field(repr=False)  # as above


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedExperiment(Model):
    """An experiment of a run, the first of its artifacts, and where to get many of them at once."""

    id: str
    name: str
    status: ExperimentStatus = field(metadata=_WORD)
    attempt: int
    artifacts: ArtifactPage
    bundle_path: str = field(repr=False)  # as above


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedExperimentPage(Model):
    """A page of a run's experiments of which artifacts are read, in index order."""

    nodes: tuple[ListedExperiment, ...]
    page_info: PageInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithArtifacts(Model):
    """A run of which only artifacts are read."""

    id: str
    experiments: ListedExperimentPage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithFailures(Model):
    """A run of which only the failures are read."""

    id: str
    failures: tuple[FailureGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Model):
    """What was queued again: names of experiments, in index order."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion(Model):
    """Whether there was something to delete."""

    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPage(Model):
    """A page of a run's experiments, in index order."""

    nodes: tuple[ExperimentRecord, ...]
    page_info: PageInfo
    total_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun(RunRecord):
    """A run together with the first page of its experiments."""

    experiments: ExperimentPage


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRun(Model):
    """A run that was just created."""

    run: LoadedRun
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshedRun(Model):
    """A page of a run's experiments, and the revision of the run's status when it was read."""

    id: str
    deleted_indices: tuple[int, ...]
    status: StatusRevision
    experiments: ExperimentPage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithStatus(Model):
    """A run of which only the status is read, and what was deleted of it."""

    id: str
    deleted_indices: tuple[int, ...]
    status: StatusGroups


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithProgress(Model):
    """A run of which only is read how far it has come."""

    id: str
    status: StatusProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent(Model):
    """A change of a run: an attempt of an experiment has reached a status, or an experiment was deleted.

    Attributes
    ----------
    number
        Its number within the run. Numbers grow and are never used again.
    at
        When it happened, in UTC.
    experiment_id
        The id of the experiment; None if it has been deleted since.
    name
        The name of the experiment.
    attempt
        The number of the attempt.
    status
        The status that it has reached; None if the experiment was deleted.
    reason
        Why the attempt ended; None if it did not end.
    is_queued_again
        Whether only an attempt has ended: the experiment was queued again together with this end.
    """

    number: int
    at: datetime = field(metadata=_TIME)
    experiment_id: str | None
    name: str
    attempt: int
    status: ExperimentStatus | None = field(metadata=_WORD_OR_NONE)
    reason: Reason | None = field(metadata=_WORD_OR_NONE)
    is_queued_again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPiece(Model):
    """A piece of what has happened in a run.

    Attributes
    ----------
    revision
        The number of the last event that was looked at: the next piece begins after it.
    events
        The events, in order.
    is_end
        Whether everything that was asked for has ended, and there is no event after these.
    """

    revision: int
    events: tuple[RunEvent, ...]
    is_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithEvents(Model):
    """A run of which only a piece of what has happened is read."""

    id: str
    events: EventPiece


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRun(Model):
    """A run of which only the name is read."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNamePage(Model):
    """A page of the names of runs, newest first."""

    nodes: tuple[NamedRun, ...]
    page_info: PageInfo
    total_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecordPage(Model):
    """A page of runs, newest first."""

    nodes: tuple[RunRecord, ...]
    page_info: PageInfo
    total_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate(Model):
    """What a run would cost: US dollars per hour for all of its experiments at once."""

    experiment_count: int
    hourly_cost: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptParameter(Model):
    """A parameter that differs between the experiments of a run.

    Attributes
    ----------
    name
        Its name.
    count
        How many different values it has.
    axis
        Which axis of the sweep it belongs to, from 0: parameters of one axis go together, and what stands on one axis
        is combined with everything on every other one.
    """

    name: str
    count: int
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExperiment(Model):
    """An experiment that a run would have. Its parameters are in the order of the command line, `Script` first."""

    parameters: dict[str, str]
    invocation_command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun(Model):
    """What a run would be, and its first experiments.

    Attributes
    ----------
    experiment_count
        How many experiments there would be.
    seed
        The seed of every random draw: started with it, the run is this one.
    combination_count
        How many combinations a random search takes some of; any other strategy takes them all.
    sweep
        The parameters that differ between the experiments, in the order of the command line.
    axes
        How many different combinations stand on each axis of the sweep.
    constant_count
        How many other parameters there are.
    experiments
        The first experiments.
    hourly_cost
        US dollars per hour for all experiments at once.
    warnings
        What would be done differently from what was asked for, and what may not have been meant.
    """

    experiment_count: int
    seed: int
    combination_count: float
    sweep: tuple[SweptParameter, ...]
    axes: tuple[int, ...]
    constant_count: int
    experiments: tuple[PlannedExperiment, ...]
    hourly_cost: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(Model):
    """Somewhere that runs can go.

    Attributes
    ----------
    name
        The cluster's name, as `Run(cluster=...)` takes it.
    paused
        Whether it starts nothing new at the moment.
    cpus, gpus
        How many CPUs and GPUs its experiments share.
    """

    name: str
    paused: bool
    cpus: int
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType(Model):
    """A type of machine and what it costs.

    Attributes
    ----------
    name
        The name in the catalogue, as `Run(instance_type=...)` takes it.
    nickname
        A name that describes it, such as `4_cpu_16gb`, which `Run` takes as well.
    cpus, gpus
        How many CPUs and GPUs it has.
    memory_gib
        Its memory, in GiB.
    accelerator
        The model of its GPUs; None if it has none.
    on_demand_usd_per_hour
        US dollars per hour.
    spot_usd_per_hour
        US dollars per hour for a machine that may be taken away.
    """

    name: str
    nickname: str
    cpus: int
    gpus: int
    memory_gib: float
    accelerator: str | None
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCatalogue(Model):
    """The machines that a cluster offers."""

    instance_types: tuple[InstanceType, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotUpload(Model):
    """Where to upload the content of a snapshot, unless the service has it already."""

    digest: str
    stored: bool
    upload_path: str | None
    expires_at: datetime | None = field(metadata=_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTime(Model):
    """When lines were printed: it holds from the line of that number on, until the next one."""

    number: int
    at: datetime = field(metadata=_TIME)
    is_approximate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage(Model):
    """Consecutive lines of what one attempt has printed, or of how an environment was built.

    Attributes
    ----------
    experiment_id
        The experiment's id; None for a run as a whole.
    name
        The experiment's name, or the run's.
    attempt
        The number of the attempt.
    number
        The number of the first of these lines, or of the next one to come if there are none.
    count
        How many lines these are.
    text
        The lines, each ended by a line feed.
    times
        When they were printed.
    is_end
        Whether the attempt has ended, and there is no line after these.
    """

    experiment_id: str | None
    name: str
    attempt: int
    number: int
    count: int
    text: str
    times: tuple[LogTime, ...]
    is_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEnd(Model):
    """The last line of an attempt's log, without its text; no line if there is none yet."""

    attempt: int
    number: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentWithLog(Model):
    """An experiment of which only a part of an attempt's log is read, and where that of the current one ends now."""

    run_id: str
    log: LogPage
    end: LogEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentWithBuildLog(Model):
    """An experiment of which only the log of its environment is read."""

    build_log: LogPage


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPieces(Model):
    """Pieces of what the experiments of a run have printed, and whether there is nothing after them."""

    pages: tuple[LogPage, ...]
    is_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithLogs(Model):
    """A run of which only the logs are read."""

    id: str
    logs: LogPieces


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithBuildLog(Model):
    """A run of which only the log of its environment is read."""

    id: str
    build_log: LogPage


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation(Model):
    """Which experiments a cancellation has ended and which are still pending: names, in index order."""

    ended: tuple[str, ...]
    pending: tuple[str, ...]
    grace_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Login(Model):
    """Asks for the service's version of the queries and for the user of the key; the first request of a session."""

    api_version: int
    viewer: Viewer


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNames(Model):
    """Lists the names of the user's runs, a page at a time, newest first."""

    runs: RunNamePage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage(Model):
    """Lists the user's runs without their experiments, a page at a time, newest first."""

    runs: RunRecordPage


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRun(Model):
    """Finds a run by name, with the first page of its experiments; None if the user can read no such run."""

    run: LoadedRun | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRunStatus(Model):
    """Groups the names of a run's experiments by status; None if the user can read no such run."""

    run: RunWithStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetExperiments(Model):
    """Reads a page of a run's experiments; None if the user can read no such run."""

    run: RefreshedRun | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetExperiment(Model):
    """Finds an experiment by id; None if the user can read no such experiment."""

    experiment: NamedExperiment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetExperimentByName(Model):
    """Finds an experiment by name; None if the user can read no such experiment."""

    experiment_by_name: NamedExperiment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Model):
    """Says what a run with some settings would cost, and refuses settings that could not be started."""

    estimate: CostEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRun(Model):
    """Says what a run with some settings would be, and refuses settings that could not be started."""

    preview: PlannedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters(Model):
    """Lists the clusters that runs can go to."""

    clusters: tuple[Cluster, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceTypes(Model):
    """Lists the types of machine that a cluster offers; None if there is no such cluster."""

    cluster: ClusterCatalogue | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSnapshot(Model):
    """Announces source code by its digest, and learns where to upload it."""

    create_snapshot: SnapshotUpload


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun(Model):
    """Creates a run from settings and an uploaded snapshot; the same key creates it only once."""

    start_run: StartedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun(Model):
    """Cancels every unfinished experiment of a run, and waits a while for their processes to end."""

    cancel_run: Cancellation


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelExperiment(Model):
    """Cancels an experiment, and waits a while for its processes to end."""

    cancel_experiment: Cancellation


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRun(Model):
    """Queues every failed experiment of a run again, each as its next attempt."""

    retry_run: Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRun(Model):
    """Deletes a run of which no experiment waits or runs, with all its experiments and files."""

    delete_run: Deletion


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteExperiment(Model):
    """Deletes an experiment that neither waits nor runs, with its files."""

    delete_experiment: Deletion


@dataclass(frozen=True, slots=True, kw_only=True)
class GetFailure(Model):
    """Reads an experiment and how it failed; None if the user can read no such experiment."""

    experiment: FailedExperiment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetFailures(Model):
    """Groups the failed experiments of a run by what went wrong; None if the user can read no such run."""

    run: RunWithFailures | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetArtifacts(Model):
    """Reads a page of an experiment's artifacts; None if the user can read no such experiment."""

    experiment: ExperimentWithArtifacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetArtifact(Model):
    """Reads one artifact of an experiment; None if the user can read no such experiment."""

    experiment: ExperimentWithArtifact | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBundle(Model):
    """Asks where to get many artifacts of an experiment; None if the user can read no such experiment."""

    experiment: ExperimentWithBundle | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRunArtifacts(Model):
    """Reads artifacts of a page of a run's experiments; None if the user can read no such run."""

    run: RunWithArtifacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseCluster(Model):
    """Pauses a cluster, so that it starts nothing new, and returns it."""

    pause_cluster: Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeCluster(Model):
    """Lets a paused cluster start experiments again, and returns it."""

    resume_cluster: Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatusChanged(Model):
    """Watches a run: its experiments grouped by status, at first as they are and then after every change."""

    run_status_changed: StatusGroups


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress(Model):
    """Watches how far a run comes: counts and no names, however many experiments it has."""

    run_status_changed: StatusProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRunProgress(Model):
    """Reads how far a run has come; None if the user can read no such run."""

    run: RunWithProgress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetEvents(Model):
    """Reads what has happened in a run after an event; None if the user can read no such run."""

    run: RunWithEvents | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvents(Model):
    """Watches a run: what has happened after an event, and then what happens, until all is over."""

    run_events: EventPiece


@dataclass(frozen=True, slots=True, kw_only=True)
class GetLog(Model):
    """Reads a page of what an attempt has printed; None if the user can read no such experiment."""

    experiment: ExperimentWithLog | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRunLogs(Model):
    """Reads what a run's experiments have printed since some lines; None if the user can read no such run."""

    run: RunWithLogs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLogs(Model):
    """Watches what an experiment or a run prints: each answer is a piece of one attempt's output."""

    run_logs: LogPage


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBuildLog(Model):
    """Reads how the environment of an experiment was built; None if the user can read no such experiment."""

    experiment: ExperimentWithBuildLog | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRunBuildLog(Model):
    """Reads how the environment of a run was built; None if the user can read no such run."""

    run: RunWithBuildLog | None
