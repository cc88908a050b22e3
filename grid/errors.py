"""Everything that Grid raises.

::

    GridError
    ├── NotLoggedIn               no session in this process yet
    ├── AuthenticationFailed      (PermissionError) the key is not accepted
    ├── PermissionDenied          (PermissionError) readable, but not yours to change
    ├── InvalidArgument           (ValueError) refused by the client or by the service
    │   ├── SweepError            a sweep in ``script_args``; quotes the flag
    │   ├── SourceError           the script or its source code
    │   ├── ConfigError           the YAML configuration file or the credentials file
    │   ├── NameTaken             a run of that name already exists
    │   └── Unsupported           the cluster cannot do what was asked for
    ├── NotFound                  (KeyError)
    │   ├── RunNotFound
    │   ├── ExperimentNotFound
    │   ├── ArtifactNotFound
    │   └── ClusterNotFound
    ├── RunStarted                (AttributeError) a started run is immutable
    ├── RunNotStarted             there is nothing yet to cancel or to list
    ├── NotEnded                  what still waits or runs cannot be deleted: cancel it first
    ├── ServiceError              the service answered, but not with a result
    │   ├── DownloadFailed        a file that cannot be kept: its path leads elsewhere, or its content is another
    │   ├── InvalidResponse       not GraphQL at all: HTML, garbage, another program
    │   ├── LimitExceeded         more than one request may ask for
    │   ├── TooManyRequests       too many wrong keys came from here: wait
    │   └── ServiceTooOld         the service does not know the query
    ├── ConnectionFailed          (ConnectionError) no answer: nothing listens there, or the connection broke
    │   └── EmbeddedServiceFailed the embedded service could not be started
    ├── RequestTimeout            (TimeoutError) no answer in time
    │   └── CancelTimeout         the processes of a cancelled experiment are still there
    └── WaitTimeout               (TimeoutError) what was waited for has not ended in time, and goes on

A message says what was asked, what is wrong, and what to do. Errors of the service travel as codes; nothing here is
chosen by matching on text.
"""

from __future__ import annotations

__all__ = [
    "ArtifactNotFound",
    "AuthenticationFailed",
    "CancelTimeout",
    "ClusterNotFound",
    "ConfigError",
    "ConnectionFailed",
    "DownloadFailed",
    "EmbeddedServiceFailed",
    "ExperimentNotFound",
    "GridError",
    "GridWarning",
    "InvalidArgument",
    "InvalidResponse",
    "LimitExceeded",
    "NameTaken",
    "NotEnded",
    "NotFound",
    "NotLoggedIn",
    "PermissionDenied",
    "RequestTimeout",
    "RunNotFound",
    "RunNotStarted",
    "RunStarted",
    "ServiceError",
    "ServiceTooOld",
    "SourceError",
    "SweepError",
    "TooManyRequests",
    "Unsupported",
    "WaitTimeout",
]


class GridError(Exception):
    """Base of every error that Grid raises."""

    _may_pass = False  # whether the same request may succeed later


class GridWarning(UserWarning):
    """Something was done differently from what was asked, and nothing is wrong."""


class NotLoggedIn(GridError):
    """There is no session in this process yet: call :func:`grid.login`."""

    def __init__(self) -> None:
        super().__init__("not logged in: call grid.login() first")


class AuthenticationFailed(GridError, PermissionError):
    """The service does not accept the key."""


class PermissionDenied(GridError, PermissionError):
    """The viewer may see it, and not change it: it is another user's, or the cluster, which is everybody's."""


class InvalidArgument(GridError, ValueError):
    """An argument has a value that is not allowed."""


class SweepError(InvalidArgument):
    """A sweep in ``script_args`` is wrong; the message quotes the flag."""


class SourceError(InvalidArgument):
    """No snapshot can be made of the script or its source code."""


class ConfigError(InvalidArgument):
    """A configuration file or the credentials file is wrong."""


class NameTaken(InvalidArgument):
    """The user already has a run of that name."""


class Unsupported(InvalidArgument):
    """The cluster cannot do what was asked for."""


class NotFound(GridError, KeyError):
    """Nothing of that name exists."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put the message in quotes.
        return str(self.args[0]) if self.args else ""


class RunNotFound(NotFound):
    """There is no run of that name that the user can read."""


class ExperimentNotFound(NotFound):
    """There is no experiment of that name or id that the user can read."""


class ArtifactNotFound(NotFound):
    """There is no artifact of that path."""


class ClusterNotFound(NotFound):
    """There is no cluster of that name."""


class RunStarted(GridError, AttributeError):
    """A run that was started can no longer be changed."""


class RunNotStarted(GridError):
    """The run has not been started, so there is nothing yet that the call could apply to."""


class NotEnded(GridError):
    """What still waits or runs cannot be deleted: cancel it first."""


class ServiceError(GridError):
    """The service answered, but not with a result."""


class DownloadFailed(ServiceError):
    """Files that the service offers are not kept: a path leads out of its folder, for example, or a content is another.

    Parameters
    ----------
    message
        What is wrong.
    reasons
        What is wrong with each file, if there is more to say than a message should be long.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons or (message,)
        """What is wrong with each of the files, one sentence for each."""


class InvalidResponse(ServiceError):
    """What answered does not speak GraphQL: a proxy's page, another program, a broken connection."""


class LimitExceeded(ServiceError):
    """The request asks for more than one request may."""


class TooManyRequests(ServiceError):
    """Too many wrong keys came from this address: the service answers again after a while."""


class ServiceTooOld(ServiceError):
    """The service does not know a query of this client."""


class ConnectionFailed(GridError, ConnectionError):
    """There was no answer: nothing listens there, or the connection broke."""

    _is_answer = False  # whether the service itself said that it cannot answer now, its disk being full for example


class EmbeddedServiceFailed(ConnectionFailed):
    """The embedded service could not be started."""


class RequestTimeout(GridError, TimeoutError):
    """There was no answer in time."""


class CancelTimeout(RequestTimeout):
    """Processes of a cancelled experiment are still there after the time they were given."""


class WaitTimeout(GridError, TimeoutError):
    """What was waited for has not ended in the time that was given. It goes on."""
