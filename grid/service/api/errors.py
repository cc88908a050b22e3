"""Errors as the API's clients see them: a message for people, a code for programs.

What a fault of the service says stays in the log; which HTTP status an answer has is decided by `operations` and
`graphql_http`.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError

from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from graphql import Node

__all__ = ["ApiError", "coded", "format_error", "internal"]

_log = logging.getLogger(__name__)

_MOST_CHARACTERS = 2_000


class ApiError(GraphQLError):
    """An error that a client is meant to read and act on; resolvers and the context factory raise it.

    Parameters
    ----------
    code
        What programs act on.
    message
        What was asked, what is wrong, what to do.
    extensions
        More for programs, put beside the code.
    nodes
        The places in the document that it is about, where there are any.
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


def coded(error: GraphQLError, code: ErrorCode) -> dict[str, Any]:
    """Format an error about the request itself.

    Parameters
    ----------
    error
        The error.
    code
        The code of an error that carries none.

    Returns
    -------
    dict
        The error as it stands in an answer.
    """
    formatted = _short(error)
    formatted["extensions"] = {"code": code.value, **(error.extensions or {})}
    return formatted


def internal(fault: BaseException) -> dict[str, Any]:
    """Log a fault of the service, and say no more of it than where in the log it stands.

    Parameters
    ----------
    fault
        The exception that nobody expected.

    Returns
    -------
    dict
        The error as it stands in an answer: without path, trace or the fault's own words.
    """
    reference = secrets.token_hex(4)
    _log.error("internal error, reference %s", reference, exc_info=fault)
    return {
        "message": f"internal error, reference {reference}",
        "extensions": {"code": ErrorCode.INTERNAL.value, "reference": reference},
    }


def format_error(error: GraphQLError, debug: bool = False) -> dict[str, Any]:  # noqa: ARG001, FBT001, FBT002
    """Format an error that was met while an operation was executed.

    Parameters
    ----------
    error
        The error, as graphql-core located it.
    debug
        Ariadne passes it; ignored: there is no mode in which clients see the service's insides.

    Returns
    -------
    dict
        The error as it stands in an answer.
    """
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, GraphQLError):
        if "code" in (error.extensions or {}):
            return _short(error)
        if cause.nodes:
            # graphql-core names a place in the document for an argument that does not fit, as a null variable where a
            # value must be. A result that does not fit its type has no place of its own: that is the service's fault.
            return coded(error, ErrorCode.GRAPHQL_VALIDATION_FAILED)
    formatted = internal(cause)
    if error.path:
        formatted["path"] = error.path
    if error.locations:
        formatted["locations"] = [location.formatted for location in error.locations]
    return formatted


def _short(error: GraphQLError) -> dict[str, Any]:
    """Format an error with no more of what was given than people read."""
    formatted: dict[str, Any] = dict(error.formatted)
    if len(error.message) > _MOST_CHARACTERS:
        formatted["message"] = error.message[:_MOST_CHARACTERS] + "…"
    return formatted
