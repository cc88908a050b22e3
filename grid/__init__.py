"""Define a hyperparameter sweep over an unmodified script, run it, and hold its experiments as live mappings.

>>> from grid import Run, login
>>> login()  # doctest: +SKIP
>>> r = Run(entrypoint="train.py", script_args="--lr '[0.1, 0.01]'")  # doctest: +SKIP
>>> r.start()  # doctest: +SKIP

Only the public names are here. Each is imported when it is first used, so that ``import grid`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from grid._version import __version__

if TYPE_CHECKING:
    from grid import aio as aio
    from grid import errors as errors
    from grid import sweep as sweep
    from grid.errors import GridError as GridError
    from grid.errors import GridWarning as GridWarning
    from grid.experiment import Experiment as Experiment
    from grid.functions import cancel_experiment as cancel_experiment
    from grid.functions import cancel_run as cancel_run
    from grid.functions import create_run as create_run
    from grid.functions import get_build_logs as get_build_logs
    from grid.functions import get_experiment_by_id as get_experiment_by_id
    from grid.functions import get_experiment_by_name as get_experiment_by_name
    from grid.functions import get_experiment_logs as get_experiment_logs
    from grid.functions import get_instance_types as get_instance_types
    from grid.functions import get_run as get_run
    from grid.functions import list_clusters as list_clusters
    from grid.functions import list_runs as list_runs
    from grid.functions import pause_cluster as pause_cluster
    from grid.functions import resume_cluster as resume_cluster
    from grid.functions import runs as runs
    from grid.functions import schema_path as schema_path
    from grid.logs.lines import LogLine as LogLine
    from grid.preview import Preview as Preview
    from grid.run import Run as Run
    from grid.session.login import login as login
    from grid.watching.events import StatusChanged as StatusChanged
    from grid.watching.printed import LogPrinted as LogPrinted

_HOMES = {
    "Experiment": "grid.experiment",
    "GridError": "grid.errors",
    "GridWarning": "grid.errors",
    "LogLine": "grid.logs.lines",
    "LogPrinted": "grid.watching.printed",
    "Preview": "grid.preview",
    "Run": "grid.run",
    "StatusChanged": "grid.watching.events",
    "aio": "grid.aio",
    "cancel_experiment": "grid.functions",
    "cancel_run": "grid.functions",
    "create_run": "grid.functions",
    "errors": "grid.errors",
    "get_build_logs": "grid.functions",
    "get_experiment_by_id": "grid.functions",
    "get_experiment_by_name": "grid.functions",
    "get_experiment_logs": "grid.functions",
    "get_instance_types": "grid.functions",
    "get_run": "grid.functions",
    "list_clusters": "grid.functions",
    "list_runs": "grid.functions",
    "login": "grid.session.login",
    "pause_cluster": "grid.functions",
    "resume_cluster": "grid.functions",
    "runs": "grid.functions",
    "schema_path": "grid.functions",
    "sweep": "grid.sweep",
}

__all__ = [  # noqa: PLE0604 - ruff cannot see that these are strings
    "__version__",
    *_HOMES,
]


if not TYPE_CHECKING:  # it would tell a type checker that every name exists

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            message = f"module 'grid' has no attribute {name!r}"
            raise AttributeError(message)
        module = import_module(_HOMES[name])
        value = module if module.__name__ == f"grid.{name}" else getattr(module, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
