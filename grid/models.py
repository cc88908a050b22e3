"""What the service's answers mean: one frozen dataclass for each selection that a query makes, exactly its fields.

An operation's answer is the class of the operation's name, at the end of this file. How models and JSON become each
other is in `grid.chain.decoding`; `python -m grid.schema_tools check` holds models, queries and schema together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from grid.chain.decoding import Model as Model  # noqa: PLC0414  # where users look for it
from grid.chain.decoding import read_time, write_time
from grid.shared.wire import ExperimentStatus, Reason

# Without these dataclasses-json writes a time as a float of seconds, and leaves an enum's member in the dictionary.
_TIME = {"dataclasses_json": {"encoder": write_time, "decoder": read_time}}
_WORD = {"dataclasses_json": {"encoder": attrgetter("value")}}


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
    """What a run's experiments are doing, counted."""

    revision: int
    groups: tuple[StatusCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusGroups(Model):
    """What a run's experiments are doing, by name."""

    revision: int
    groups: tuple[StatusNames, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRevision(Model):
    """A number that grows with every change of status in a run."""

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings(Model):
    """What a run was started with, after the service has settled what was left open.

    Attributes
    ----------
    entrypoint
        The path of the script, as it was given.
    script_args
        The script's arguments, with the sweep written into them.
    strategy
        How the values of the sweep are combined: `GRID_SEARCH`, `RANDOM_SEARCH` or `NONE`.
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
    timeout
        Seconds after which an experiment is ended; None for as long as it takes.
    max_retries
        How many times an experiment that was lost is queued again by itself.
    auto_resume
        Whether an attempt starts with the files of the one before it.
    """

    entrypoint: str
    script_args: str
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
    environment: dict[str, str]
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
    """An experiment that was found by its name, and the id of the run that it belongs to."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Model):
    """What is known of an experiment that failed or was cancelled.

    Attributes
    ----------
    reason
        Why it ended as it did: a word such as ``EXIT_CODE``, ``OUT_OF_MEMORY`` or ``LOST``.
    exit_code
        The exit code of the script; None where it ended by a signal or never started.
    signal
        The number of the signal that ended the script; None where none did.
    error
        What the reason alone does not say, as why the script could not be started; None where there is no more to say.
    last_lines
        The end of the script's output: a Python traceback whole where there is one, else the last lines.
    final_line
        The line of that traceback that names the exception: its last, but for a message of several lines. None where
        there is none.

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
        """What goes with the reason: what kept the script from starting, the signal or the exit code; or nothing."""
        ended = f"exit code {self.exit_code}" if self.exit_code is not None else ""
        ended = f"signal {self.signal}" if self.signal is not None else ended
        return self.error or ended

    def __str__(self) -> str:
        headline = ": ".join(filter(None, [self.reason.value, self.remark]))
        return f"{headline}\n{self.last_lines}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup(Model):
    """Failed experiments of a run that have failed alike.

    Attributes
    ----------
    reason
        Why they ended as they did.
    final_line
        The last line of the traceback; None where there is none.
    names
        Their names, in index order.
    example
        The failure of the first of them.
    """

    reason: Reason = field(metadata=_WORD)
    final_line: str | None
    names: tuple[str, ...]
    example: Failure

    def __str__(self) -> str:
        few = ", ".join(self.names[:3]) + (", …" if len(self.names) > 3 else "")  # noqa: PLR2004
        what = f": {self.final_line}" if self.final_line else ""
        if not what and self.example.remark:
            # Where there is no traceback they have no more in common than the reason.
            what = f": {self.example.remark}" if len(self.names) == 1 else f", the first: {self.example.remark}"
        return f"{len(self.names)} x {self.reason.value}{what} ({few})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedExperiment(ExperimentRecord):
    """An experiment together with what is known of its failure."""

    failure: Failure | None


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
        A name that says what it is, as in `4_cpu_16gb`; taken as well.
    cpus, gpus
        How many CPUs and GPUs it has.
    memory_gib
        Its memory, in GiB.
    accelerator
        The model of its GPUs; None where it has none.
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
    """Where the content of a snapshot goes; nowhere, if the service holds it already."""

    digest: str
    stored: bool
    upload_path: str | None
    expires_at: datetime | None = field(metadata=_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation(Model):
    """How far a cancellation has come: names of experiments, in index order."""

    ended: tuple[str, ...]
    pending: tuple[str, ...]
    grace_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Login(Model):
    """The answer to the operation of this name."""

    api_version: int
    viewer: Viewer


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNames(Model):
    """The answer to the operation of this name."""

    runs: RunNamePage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage(Model):
    """The answer to the operation of this name."""

    runs: RunRecordPage


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRun(Model):
    """The answer to the operation of this name."""

    run: LoadedRun | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRunStatus(Model):
    """The answer to the operation of this name."""

    run: RunWithStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetExperiments(Model):
    """The answer to the operation of this name."""

    run: RefreshedRun | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetExperiment(Model):
    """The answer to the operation of this name."""

    experiment: ExperimentRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetExperimentByName(Model):
    """The answer to the operation of this name."""

    experiment_by_name: NamedExperiment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Model):
    """The answer to the operation of this name."""

    estimate: CostEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters(Model):
    """The answer to the operation of this name."""

    clusters: tuple[Cluster, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceTypes(Model):
    """The answer to the operation of this name."""

    cluster: ClusterCatalogue | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSnapshot(Model):
    """The answer to the operation of this name."""

    create_snapshot: SnapshotUpload


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun(Model):
    """The answer to the operation of this name."""

    start_run: StartedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun(Model):
    """The answer to the operation of this name."""

    cancel_run: Cancellation


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelExperiment(Model):
    """The answer to the operation of this name."""

    cancel_experiment: Cancellation


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRun(Model):
    """The answer to the operation of this name."""

    retry_run: Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRun(Model):
    """The answer to the operation of this name."""

    delete_run: Deletion


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteExperiment(Model):
    """The answer to the operation of this name."""

    delete_experiment: Deletion


@dataclass(frozen=True, slots=True, kw_only=True)
class GetFailure(Model):
    """The answer to the operation of this name."""

    experiment: FailedExperiment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetFailures(Model):
    """The answer to the operation of this name."""

    run: RunWithFailures | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseCluster(Model):
    """The answer to the operation of this name."""

    pause_cluster: Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeCluster(Model):
    """The answer to the operation of this name."""

    resume_cluster: Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatusChanged(Model):
    """The answer to the subscription of this name."""

    run_status_changed: StatusGroups
