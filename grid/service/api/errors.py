"""Errors as the API's clients see them: a message for people, a code for programs.

The domain and the store raise errors of their own, which know nothing of codes: a table here gives each its code. The
details of an internal fault stay in the log. `operations` and `graphql_http` decide the HTTP status of an answer.
"""

from __future__ import annotations

import errno
import logging
import secrets
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from graphql import GraphQLError

from grid.service.domain import errors
from grid.service.domain.sweeps import SweepError
from grid.service.results.pages import StillReading
from grid.service.store.faults import DatabaseUnavailable
from grid.service.system.addresses import AddressExpired, AddressRefused
from grid.service.system.repeats import Repeats
from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping

    from graphql import Node

__all__ = ["TABLE", "ApiError", "coded", "format_error", "internal", "translated"]

_log = logging.getLogger(__name__)

_MAX_CHARACTERS = 2_000

_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
"""What a system says where no further file can be opened, which passes."""

_repeats = Repeats(10)
_references: dict[Hashable, str] = {}
"""The reference under which a fault of each kind was logged last. A kind is a way through the code: they are few."""


class ApiError(GraphQLError):
    """An error that clients read and act on: about the request, or translated from an error of the domain or the store.

    Parameters
    ----------
    code
        The code that programs act on.
    message
        What was asked, what is wrong, what to do.
    extensions
        More values for programs, beside the code.
    nodes
        The places in the document that it is about, if any.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        extensions: Mapping[str, Any] | None = None,
        *,
        nodes: Collection[Node] | None = None,
    ) -> None:
        super().__init__(message, nodes=nodes, extensions={**(extensions or {}), "code": code.value})
        self.code = code


class _Row(NamedTuple):
    """What a client gets, besides the message, for an error of the domain or the store."""

    code: ErrorCode
    extensions: tuple[str, ...] = ()
    """The attributes of the error that programs get as well, each under its own name."""


TABLE: Mapping[type[BaseException], _Row] = {
    errors.Unauthenticated: _Row(ErrorCode.UNAUTHENTICATED),
    errors.NotOwner: _Row(ErrorCode.FORBIDDEN),
    errors.PauseRefused: _Row(ErrorCode.FORBIDDEN),
    errors.InvalidValue: _Row(ErrorCode.INVALID_ARGUMENT),
    errors.InvalidDigest: _Row(ErrorCode.INVALID_ARGUMENT),
    errors.InvalidSize: _Row(ErrorCode.INVALID_ARGUMENT),
    errors.SnapshotTooLarge: _Row(ErrorCode.LIMIT_EXCEEDED),
    errors.InstanceTypeMissing: _Row(ErrorCode.INVALID_ARGUMENT),
    errors.ClusterMissing: _Row(ErrorCode.CLUSTER_NOT_FOUND),
    errors.RunMissing: _Row(ErrorCode.RUN_NOT_FOUND),
    errors.ExperimentMissing: _Row(ErrorCode.EXPERIMENT_NOT_FOUND),
    errors.AttemptMissing: _Row(ErrorCode.INVALID_ARGUMENT),
    errors.NameTaken: _Row(ErrorCode.NAME_TAKEN),
    errors.TooManyExperiments: _Row(ErrorCode.LIMIT_EXCEEDED),
    SweepError: _Row(ErrorCode.INVALID_SWEEP, ("flag",)),
    errors.NotEnded: _Row(ErrorCode.NOT_ENDED),
    errors.RunNotEnded: _Row(ErrorCode.NOT_ENDED),
    errors.ExperimentNotEnded: _Row(ErrorCode.NOT_ENDED),
    errors.Unsupported: _Row(ErrorCode.UNSUPPORTED),
    errors.ArgumentUnsupported: _Row(ErrorCode.UNSUPPORTED),
    errors.TooFewGpus: _Row(ErrorCode.UNSUPPORTED),
    errors.RunnerMissing: _Row(ErrorCode.UNSUPPORTED),
    errors.LauncherMissing: _Row(ErrorCode.UNSUPPORTED),
    errors.DataMissing: _Row(ErrorCode.UNSUPPORTED),
    errors.TooLittleSpace: _Row(ErrorCode.UNSUPPORTED),
    AddressRefused: _Row(ErrorCode.FORBIDDEN),
    AddressExpired: _Row(ErrorCode.FORBIDDEN),
    errors.SnapshotRefused: _Row(ErrorCode.INVALID_SNAPSHOT),
    errors.SnapshotMissing: _Row(ErrorCode.INVALID_SNAPSHOT),
    errors.OtherArchive: _Row(ErrorCode.INVALID_SNAPSHOT),
    errors.NotAnArchive: _Row(ErrorCode.INVALID_SNAPSHOT),
    errors.MemberRefused: _Row(ErrorCode.INVALID_SNAPSHOT),
    errors.LinkLeadsOut: _Row(ErrorCode.INVALID_SNAPSHOT),
    errors.AccountError: _Row(ErrorCode.INVALID_ARGUMENT),
    StillReading: _Row(ErrorCode.UNAVAILABLE),
    DatabaseUnavailable: _Row(ErrorCode.UNAVAILABLE),
}
"""The row of every error that the domain or the store raises for clients to read."""


def translated(error: BaseException) -> ApiError | None:
    """Translate an error of the domain or of the store into the one that clients get.

    Parameters
    ----------
    error
        The error that was raised.

    Returns
    -------
    ApiError or None
        The error itself if it already is one; None if the table has no row for it, which makes it an internal fault,
        unless it is that no file can be opened now.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, OSError) and error.errno in _NO_DESCRIPTOR:
        if _repeats.note(_NO_DESCRIPTOR) is not None:
            _log.error("too many files are open to answer a request", exc_info=error)
        return ApiError(ErrorCode.UNAVAILABLE, "the service has too many files open; try again later")
    row = TABLE.get(type(error))
    if row is None:
        return None
    return ApiError(row.code, str(error), {name: getattr(error, name) for name in row.extensions})


def coded(error: GraphQLError, code: ErrorCode) -> dict[str, Any]:
    """Format an error about the request itself.

    Parameters
    ----------
    error
        The error.
    code
        The code to use if the error does not carry one.

    Returns
    -------
    dict
        The error as it appears in an answer.
    """
    formatted = _short(error)
    formatted["extensions"] = {"code": code.value, **(error.extensions or {})}
    return formatted


def internal(fault: BaseException) -> dict[str, Any]:
    """Log an internal fault, and give the client nothing but a reference to its place in the log.

    The first ten of a kind within a minute are logged. Those after them have the reference of the tenth: one broken
    table would otherwise let anybody fill the disk.

    Parameters
    ----------
    fault
        The unexpected exception.

    Returns
    -------
    dict
        The error as it appears in an answer: without path, trace or the message of the fault.
    """
    kind = (type(fault), *((frame.f_code, line) for frame, line in traceback.walk_tb(fault.__traceback__)))
    left_out = _repeats.note(kind)
    reference = _references.get(kind) if left_out is None else None
    if reference is None:
        reference = _references[kind] = secrets.token_hex(4)
        more = f" ({left_out:,} more of this kind since the one before)" if left_out else ""
        _log.error("internal error, reference %s%s", reference, more, exc_info=fault)
    return {
        "message": f"internal error, reference {reference}",
        "extensions": {"code": ErrorCode.INTERNAL.value, "reference": reference},
    }


def format_error(error: GraphQLError, debug: bool = False) -> dict[str, Any]:  # noqa: ARG001, FBT001, FBT002
    """Format an error that occurred while an operation was executed.

    Parameters
    ----------
    error
        The error, as graphql-core located it.
    debug
        Passed by Ariadne and ignored: in no mode do clients see the internals of the service.

    Returns
    -------
    dict
        The error as it appears in an answer.
    """
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, GraphQLError):
        if "code" in (error.extensions or {}):
            return _short(error)
        if cause.nodes:
            # graphql-core gives a place in the document to an argument that does not fit, such as a null variable for a
            # required value. A result that does not fit its type has no place of its own: that is the service's fault.
            return coded(error, ErrorCode.GRAPHQL_VALIDATION_FAILED)
    refusal = translated(cause)
    if refusal is not None:
        return {**_short(error), "message": _short(refusal)["message"], "extensions": refusal.extensions}
    formatted = internal(cause)
    if error.path:
        formatted["path"] = error.path
    if error.locations:
        formatted["locations"] = [location.formatted for location in error.locations]
    return formatted


def _short(error: GraphQLError) -> dict[str, Any]:
    """Format an error, its message cut to a length that people can read."""
    formatted: dict[str, Any] = dict(error.formatted)
    if len(error.message) > _MAX_CHARACTERS:
        formatted["message"] = error.message[:_MAX_CHARACTERS] + "…"
    return formatted
