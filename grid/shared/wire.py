"""The few names and limits that client and service share. The rest of what they know of each other is `schema.graphql`.

The supervisor imports this once for each experiment: nothing large here.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum

TYPE_CHECKING = False  # type checkers know the name; `typing` would be a twentieth of the spawner's memory
if TYPE_CHECKING:
    from pathlib import Path

API_VERSION = 1
"""The newest version of the queries that this distribution knows, as a client and as a service."""

GRAPHQL_PATH = "/graphql"
HEALTH_PATH = "/health"

MAX_PAGE_SIZE = 1_000
"""The most nodes of a connection that one page holds."""

DEFAULT_CLUSTER = "local"

MAX_SCRIPT_ARGS = 1_000_000
"""The most characters of a run's script arguments."""

MAX_SCRIPT_COMMAND = 8_000_000
"""The most characters of the command line that would make the same run: its arguments stand there twice, quoted."""

MAX_TIMEOUT_SECONDS = 366 * 24 * 3600
"""The longest time-out that an experiment can have: a year."""

MAX_DESCRIPTION = 200
"""The most characters of a run's description."""

MAX_SNAPSHOT_BYTES = 2 * 1024**3
"""The largest archive of source code."""

MAX_SNAPSHOT_DEPTH = 200
"""How many names a path in it may have: far more than source code needs, and few enough for every program that walks
over a working copy."""

RUN_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
"""The pattern of the whole name of a run."""

SCRIPT_SUFFIXES = (".py", ".sh", ".jl")
"""How the path of a script may end."""

STRATEGIES = ("grid_search", "random_search", "zip", "none")
"""How experiments are made of script arguments; in the schema, in capitals."""

MEMORY_FORM = 'a number and K, M, G or T (powers of 1024), as in "16G"'
"""What an amount of memory must be, in words."""

_MEMORY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([KMGT])")

PARAMS_STYLES = {"--k v": "FLAG_VALUE", "--k=v": "FLAG_EQUALS_VALUE", "k=v": "KEY_EQUALS_VALUE"}
"""How `params` may be written as words, as users say it and as the schema does."""

MAX_PARAMS = 1_000_000
"""The most characters of a run's `params` as JSON."""

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The pattern of the whole name of an environment variable."""

RESERVED_VARIABLES = frozenset({
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "GRID_CLUSTER_ID",
    "GRID_EXPERIMENT_ID",
    "GRID_EXPERIMENT_NAME",
    "GRID_INSTANCE_TYPE",
    "GRID_REPEAT",
    "GRID_RUN_NAME",
    "GRID_USER_ID",
})  # fmt: skip
"""The environment variables that the service itself sets for every experiment."""


def grid_home() -> Path:
    """Return the folder of everything that is kept on this machine: ``GRID_HOME``, else ``~/.grid``."""
    from pathlib import Path  # noqa: PLC0415 - large, see above

    return Path(os.environ.get("GRID_HOME") or "~/.grid").expanduser().absolute()


def memory_bytes(text: str) -> int:
    """Return how many bytes an amount of memory is; 0 if it is not of the form `MEMORY_FORM`, or nothing."""
    parts = _MEMORY.fullmatch(text)
    return 0 if parts is None else int(float(parts[1]) * 1024 ** ("KMGT".index(parts[2]) + 1))


def memory_text(size: int) -> str:
    """Return an amount of memory as `memory_bytes` reads it: exact if it is a whole number of a unit, else rounded."""
    power = max((power for power in range(1, 5) if size >= 1024**power), default=1)
    return f"{round(size / 1024**power, 1):g}{'KMGT'[power - 1]}"


EXPERIMENT_NAME = re.compile(r"(?P<run>.+)-exp(?P<index>0|[1-9][0-9]{0,8})")
"""What an experiment is called: its run's name and its index."""


def experiment_name(run: str, index: object) -> str:
    """Return what the experiment of that index in a run is called."""
    return f"{run}-exp{index}"


class ExperimentStatus(StrEnum):
    """Where an experiment is in its life; the names are the status words that users see."""

    QUEUED = "QUEUED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    def __str__(self) -> str:
        return self.value

    @property
    def is_terminal(self) -> bool:
        """Whether the experiment has ended."""
        return self in _TERMINAL

    @property
    def is_final(self) -> bool:
        """Whether a client may keep it for good: a failed experiment can come back as a new attempt."""
        return self in _FINAL


ACTIVE = (ExperimentStatus.PENDING, ExperimentStatus.RUNNING)
"""The statuses in which an experiment holds resources."""

UNFINISHED = (ExperimentStatus.QUEUED, *ACTIVE)

_FINAL = frozenset({ExperimentStatus.SUCCEEDED, ExperimentStatus.CANCELLED})
_TERMINAL = _FINAL | {ExperimentStatus.FAILED}


class Reason(StrEnum):
    """Why an experiment ended as it did."""

    EXIT_CODE = "EXIT_CODE"
    SIGNAL = "SIGNAL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    ENVIRONMENT = "ENVIRONMENT"
    START_FAILED = "START_FAILED"
    LOST = "LOST"
    SERVICE_STOPPED = "SERVICE_STOPPED"
    CANCELLED_BY_USER = "CANCELLED_BY_USER"

    def __str__(self) -> str:
        return self.value


class ErrorCode(StrEnum):
    """The values of `extensions.code` in an error."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    BAD_REQUEST = "BAD_REQUEST"
    GRAPHQL_PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    GRAPHQL_VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    INVALID_SWEEP = "INVALID_SWEEP"
    UNSUPPORTED = "UNSUPPORTED"
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    EXPERIMENT_NOT_FOUND = "EXPERIMENT_NOT_FOUND"
    ARTIFACT_NOT_FOUND = "ARTIFACT_NOT_FOUND"
    CLUSTER_NOT_FOUND = "CLUSTER_NOT_FOUND"
    NAME_TAKEN = "NAME_TAKEN"
    NOT_ENDED = "NOT_ENDED"
    INVALID_SNAPSHOT = "INVALID_SNAPSHOT"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"
