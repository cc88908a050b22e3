"""The top-level functions of the interface except ``login``: a thin layer over `Run`, `Experiment` and the views."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from grid.definition.arguments import Params
from grid.definition.checks import check_text, shown
from grid.definition.links import Data
from grid.definition.variables import Environment
from grid.errors import ClusterNotFound, ExperimentNotFound, InvalidArgument
from grid.experiment import Experiment, wait_for_end
from grid.run import Run
from grid.runs_view import RunsView
from grid.session.session import current

if TYPE_CHECKING:
    from typing import Unpack

    from grid.models import Cancellation, Cluster, InstanceType

runs = RunsView()
"""Every run of the logged-in user by name, newest first: a live mapping."""


class CreateRunArguments(TypedDict, total=False):
    """What :func:`create_run` takes besides the entrypoint: the arguments of :class:`grid.Run`."""

    name: str
    script_args: str
    description: str | None
    strategy: str
    num_trials: int
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
    cluster: str
    seed: int | None
    timeout: float | None
    max_retries: int
    auto_resume: bool
    params: Params
    params_style: str
    repeats: int
    working_dir: str
    environment: Environment
    launcher: str
    data: Data


def list_runs() -> list[str]:
    """Return the names of all your runs, newest first.

    Raises
    ------
    NotLoggedIn
        Before :func:`grid.login`.

    Examples
    --------
    >>> from grid import list_runs
    >>> list_runs()  # doctest: +SKIP
    ['clever-noether-1882', 'brisk-hopper-204']
    """
    # Not `list(runs)`: that asks for the length first, which is another request.
    return list(iter(runs))


def create_run(entrypoint: str, **arguments: Unpack[CreateRunArguments]) -> Run:
    """Describe a run and start it.

    Parameters
    ----------
    entrypoint
        Path of the script.
    **arguments
        Everything else that :class:`grid.Run` takes.

    Raises
    ------
    GridError
        What :class:`grid.Run` and :meth:`grid.Run.start` raise.

    Examples
    --------
    >>> import grid
    >>> run = grid.create_run('train.py', script_args="--lr '[0.1, 0.01]'")  # doctest: +SKIP
    >>> len(run)  # doctest: +SKIP
    2
    """
    run = Run(entrypoint=entrypoint, **arguments)
    run.start()
    return run


def get_run(name: str) -> Run:
    """Return the run of that name (``username:run-name`` for a teammate's).

    Parameters
    ----------
    name
        Name of the run.

    Returns
    -------
    Run
        With its first 500 experiments.

    Raises
    ------
    RunNotFound
        If there is none that you can read.

    Examples
    --------
    >>> import grid
    >>> grid.get_run('clever-noether-1882').status()  # doctest: +SKIP
    defaultdict(<class 'list'>, {'SUCCEEDED': ['clever-noether-1882-exp0']})
    """
    if not name:
        message = f"name must be the name of a run, not {shown(name)}: list_runs() returns yours"
        raise InvalidArgument(message)
    return Run(name)


def cancel_run(name: str) -> list[str]:
    """Cancel every unfinished experiment of a run; see :meth:`grid.Run.cancel`.

    Parameters
    ----------
    name
        Name of the run.

    Returns
    -------
    list of str
        The names of the experiments that have ended, now or before.

    Raises
    ------
    RunNotFound
        If you have no run of that name.
    CancelTimeout
        If processes are still there after the time they were given. The cancellation stands.

    Examples
    --------
    >>> import grid
    >>> grid.cancel_run('clever-noether-1882')  # doctest: +SKIP
    ['clever-noether-1882-exp0', 'clever-noether-1882-exp1']
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    check_text("name", name)
    session = current()

    def ask(seconds: float) -> Cancellation:
        return session.execute(models.CancelRun, name=name, waitSeconds=seconds).cancel_run

    return wait_for_end(ask, session)


def cancel_experiment(name: str) -> str:
    """Cancel one experiment; see :meth:`grid.Experiment.cancel`.

    Parameters
    ----------
    name
        Name of the experiment.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    ExperimentNotFound
        If you have no experiment of that name.
    CancelTimeout
        If processes are still there after the time they were given. The cancellation stands.

    Examples
    --------
    >>> import grid
    >>> grid.cancel_experiment('clever-noether-1882-exp0')  # doctest: +SKIP
    'clever-noether-1882-exp0'
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    check_text("name", name)
    session = current()

    def ask(seconds: float) -> Cancellation:
        return session.execute(models.CancelExperiment, name=name, waitSeconds=seconds).cancel_experiment

    wait_for_end(ask, session)
    return name


def get_experiment_by_name(name: str) -> Experiment:
    """Return the experiment of that name (``username:experiment-name`` for a teammate's).

    Parameters
    ----------
    name
        Name of the experiment.

    Returns
    -------
    Experiment
        As it is now.

    Raises
    ------
    ExperimentNotFound
        If there is none that you can read.

    Examples
    --------
    >>> import grid
    >>> grid.get_experiment_by_name('clever-noether-1882-exp0').status()  # doctest: +SKIP
    'RUNNING'
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    check_text("name", name)
    if not name:
        message = f"name must be the name of an experiment, not {shown(name)}: run.experiments has those of a run"
        raise InvalidArgument(message)
    session = current()
    owner, colon, plain = name.rpartition(":")
    answer = session.execute(models.GetExperimentByName, name=plain, owner=owner if colon else None)
    if answer.experiment_by_name is None:
        message = (
            f"there is no experiment {name!r} that you can read; list_runs() lists your runs, and run.experiments the "
            "experiments of each"
        )
        raise ExperimentNotFound(message)
    return Experiment(answer.experiment_by_name, session)


def get_experiment_by_id(experiment_id: str) -> Experiment:
    """Return the experiment of that id.

    Parameters
    ----------
    experiment_id
        Its id: see :attr:`grid.Experiment.id`.

    Returns
    -------
    Experiment
        As it is now.

    Raises
    ------
    ExperimentNotFound
        If there is none that you can read.

    Examples
    --------
    >>> import grid
    >>> grid.get_experiment_by_id('6b581a55ef030a995e5f039779629c87').name  # doctest: +SKIP
    'clever-noether-1882-exp0'
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    check_text("experiment_id", experiment_id)
    session = current()
    answer = session.execute(models.GetExperiment, id=experiment_id)
    if answer.experiment is None:
        message = f"there is no experiment with the id {experiment_id!r} that you can read"
        raise ExperimentNotFound(message)
    return Experiment(answer.experiment, session)


def get_experiment_logs(name: str) -> Iterator[str]:
    """Return what an experiment has printed, stdout and stderr: its last 200 lines; see :meth:`grid.Experiment.logs`.

    Parameters
    ----------
    name
        Name of the experiment (``username:experiment-name`` for a teammate's).

    Raises
    ------
    ExperimentNotFound
        If there is none that you can read.

    Examples
    --------
    >>> import grid
    >>> list(grid.get_experiment_logs('clever-noether-1882-exp0'))  # doctest: +SKIP
    ['[2021-08-10 16:59:58.044] epoch 1: loss 0.31']
    """
    return get_experiment_by_name(name).logs()


def get_build_logs(run_name: str | None = None, exp_name: str | None = None) -> Iterator[str]:
    """Return how the environment of a run or an experiment was built; see :meth:`grid.Run.build_logs`.

    Parameters
    ----------
    run_name
        Name of the run.
    exp_name
        Name of the experiment; exactly one of the two must be given.

    Raises
    ------
    InvalidArgument
        If both names are given, or neither.
    RunNotFound, ExperimentNotFound
        If there is none that you can read.

    Examples
    --------
    >>> import grid
    >>> for line in grid.get_build_logs(run_name='clever-noether-1882'):  # doctest: +SKIP
    ...     print(line)
    [2021-08-10 16:59:58.044] Nothing was built: experiments run in an environment that is there already.
    [2021-08-10 16:59:58.044] Their scripts are run by /usr/bin/python3
    """
    if (run_name is None) == (exp_name is None):
        given = "neither" if run_name is None else "both"
        message = f"get_build_logs() needs run_name or exp_name, exactly one of them, and was given {given}"
        raise InvalidArgument(message)
    if run_name is not None:
        return get_run(run_name).build_logs()
    assert exp_name is not None
    return get_experiment_by_name(exp_name).build_logs()


def list_clusters() -> list[Cluster]:
    """Return the clusters that runs can go to, and what the experiments on each share.

    Raises
    ------
    NotLoggedIn
        Before :func:`grid.login`.

    Examples
    --------
    >>> import grid
    >>> grid.list_clusters()  # doctest: +SKIP
    [Cluster(name='local', paused=False, cpus=2, gpus=0)]
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    return list(current().execute(models.Clusters).clusters)


def get_instance_types(cluster: str) -> list[InstanceType]:
    """Return the types of machine that a cluster offers, with their prices in US dollars per hour.

    Parameters
    ----------
    cluster
        Name of the cluster: see :func:`list_clusters`.

    Raises
    ------
    ClusterNotFound
        If there is no such cluster.

    Examples
    --------
    >>> import grid
    >>> grid.get_instance_types('local')[2].nickname  # doctest: +SKIP
    '4_cpu_16gb'
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    check_text("cluster", cluster)
    found = current().execute(models.InstanceTypes, cluster=cluster).cluster
    if found is None:
        message = f"there is no cluster {cluster!r}; known clusters: {', '.join(each.name for each in list_clusters())}"
        raise ClusterNotFound(message)
    return list(found.instance_types)


def pause_cluster(cluster: str) -> None:
    """Pause a cluster: it starts nothing new, and what is running goes on.

    Parameters
    ----------
    cluster
        Name of the cluster: see :func:`list_clusters`.

    Raises
    ------
    ClusterNotFound
        If there is no such cluster.
    PermissionDenied
        If you are not its operator, and no experiment of yours is running. Of an embedded service you are the operator.

    Examples
    --------
    >>> import grid
    >>> grid.pause_cluster('local')  # doctest: +SKIP
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    check_text("cluster", cluster)
    current().execute(models.PauseCluster, name=cluster)


def resume_cluster(cluster: str) -> None:
    """Let a paused cluster start experiments again.

    Parameters
    ----------
    cluster
        Name of the cluster: see :func:`list_clusters`.

    Raises
    ------
    ClusterNotFound
        If there is no such cluster.
    PermissionDenied
        If its operator has paused it, or another user while no experiment of yours is running.

    Examples
    --------
    >>> import grid
    >>> grid.resume_cluster('local')  # doctest: +SKIP
    """
    from grid import models  # noqa: PLC0415 - not before the first call

    check_text("cluster", cluster)
    current().execute(models.ResumeCluster, name=cluster)


def schema_path() -> Path:
    """Return the path of the schema that this distribution speaks, for tools of your own.

    Examples
    --------
    >>> from grid import schema_path
    >>> schema_path().name
    'schema.graphql'
    """
    return Path(__file__).with_name("schema.graphql")
