"""What the failure of a request means: the service's error codes, answers that are not GraphQL, and messages for both.

What the exceptions of gql and aiohttp mean is known to :mod:`grid.chain.transport`, which sends.
"""

from __future__ import annotations

import re
import time
from typing import Any

import orjson

from grid import errors
from grid.chain.endpoint import Endpoint
from grid.shared.wire import ErrorCode

__all__ = ["CODES", "Answer", "FailedTry", "Failures"]

CODES: dict[ErrorCode, type[errors.GridError]] = {
    ErrorCode.UNAUTHENTICATED: errors.AuthenticationFailed,
    ErrorCode.FORBIDDEN: errors.PermissionDenied,
    ErrorCode.BAD_REQUEST: errors.ServiceError,
    ErrorCode.GRAPHQL_PARSE_FAILED: errors.ServiceTooOld,
    ErrorCode.GRAPHQL_VALIDATION_FAILED: errors.ServiceTooOld,
    ErrorCode.LIMIT_EXCEEDED: errors.LimitExceeded,
    ErrorCode.INVALID_ARGUMENT: errors.InvalidArgument,
    ErrorCode.INVALID_SWEEP: errors.SweepError,
    ErrorCode.UNSUPPORTED: errors.Unsupported,
    ErrorCode.RUN_NOT_FOUND: errors.RunNotFound,
    ErrorCode.EXPERIMENT_NOT_FOUND: errors.ExperimentNotFound,
    ErrorCode.ARTIFACT_NOT_FOUND: errors.ArtifactNotFound,
    ErrorCode.CLUSTER_NOT_FOUND: errors.ClusterNotFound,
    ErrorCode.NAME_TAKEN: errors.NameTaken,
    ErrorCode.NOT_ENDED: errors.NotEnded,
    ErrorCode.INVALID_SNAPSHOT: errors.SourceError,
    ErrorCode.TOO_MANY_REQUESTS: errors.TooManyRequests,
    ErrorCode.UNAVAILABLE: errors.ConnectionFailed,
    ErrorCode.INTERNAL: errors.ServiceError,
}
_ADVICE: dict[type[errors.GridError], str] = {
    errors.ConnectionFailed: "Check that the service is running and that the URL is right.",
    errors.RequestTimeout: "Try again later, or set GRID_HTTP_TIMEOUT to more seconds for each try.",
    errors.InvalidResponse: "Check the URL: it must be the address of a Grid service.",
    errors.ServiceTooOld: "Update the service, or use an older version of grid-runs with it.",
    errors.AuthenticationFailed: "Check GRID_USER_ID and GRID_API_KEY, or what login() was given.",
}
_ADVICE_ON_THE_WAY = "A Grid service has answered there before: look for something in between, such as a proxy."
_PASSING_STATUS = frozenset({429, 502, 503, 504})
_REFUSED_STATUS = frozenset({401, 403})

_EXCERPT = 200  # characters of a body that is not an answer
_MESSAGE = 2_000  # characters of a message of the service


class FailedTry(Exception):
    """One try has failed: with which error, why, whether another may succeed, and whether the service said so."""

    def __init__(
        self, kind: type[errors.GridError], reason: str, *, again: bool = False, is_answer: bool = False
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.again = again
        self.is_answer = is_answer


class Answer:
    """What came back."""

    status = 0
    content_type = ""
    body = b""

    @property
    def is_broken(self) -> bool:
        """Whether it claims success and JSON, but is not JSON."""
        if not 200 <= self.status < 300 or "json" not in self.content_type:  # noqa: PLR2004
            return False
        try:
            orjson.loads(self.body)
        except ValueError:
            return True
        return False

    def errors(self) -> Any:
        """Return what stands under ``errors`` in the body; ``None`` if there is nothing."""
        try:
            return orjson.loads(self.body)["errors"]
        except (ValueError, TypeError, KeyError, IndexError):
            return None


class Failures:
    """Explains failures of requests to one service to its user, without revealing secrets.

    Parameters
    ----------
    endpoint
        The service and the user.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._has_answered = False

    def unpack(self, result: Any, faults: Any, answer: Answer) -> dict[str, Any]:
        """Return the ``data`` of an answer, or raise the `FailedTry` that it amounts to."""
        failure = self.refusal(faults, answer)
        if failure is not None:
            raise failure
        if not isinstance(result, dict) or faults or answer.status >= 400:  # noqa: PLR2004
            raise self.stranger(answer)
        self._has_answered = True
        return result

    def refusal(self, faults: Any, answer: Answer) -> FailedTry | None:
        """Return what the errors of the service mean; ``None`` if they are not errors as GraphQL defines them."""
        if not isinstance(faults, list) or not faults or not isinstance(faults[0], dict):
            return None
        message, extensions = faults[0].get("message"), faults[0].get("extensions")
        if not isinstance(message, str):
            return None
        code = extensions.get("code") if isinstance(extensions, dict) else None
        kind = CODES[ErrorCode(code)] if code in set(ErrorCode) else None
        self._has_answered |= kind is not None  # only a Grid service knows these codes
        if kind is errors.AuthenticationFailed or (kind is None and answer.status in _REFUSED_STATUS):
            return self.denial(message)
        if kind is errors.ServiceTooOld:
            message = f"the service does not know this query: {message}"
        elif kind is errors.ServiceError or kind is None:
            message = f"the service failed: {message}"
        # After too many wrong keys another try would only add one more.
        passing = answer.status in _PASSING_STATUS and kind is not errors.TooManyRequests
        kind = kind or (errors.ConnectionFailed if passing else errors.ServiceError)
        return FailedTry(kind, message, again=passing or code == ErrorCode.UNAVAILABLE, is_answer=True)

    def denial(self, reason: str) -> FailedTry:
        """Return the failure of a key that is not accepted."""
        return FailedTry(
            errors.AuthenticationFailed, f"the key of user id {self._endpoint.user_id!r} is not accepted: {reason}"
        )

    def stranger(self, answer: Answer) -> FailedTry:
        """Return what an answer that is not GraphQL means.

        A broken answer may be intact the next time, whatever sent it. An intact one comes from another program: if no
        Grid service has ever answered, the address is wrong, and another try would end the same way. If one has, the
        other program stands in between, and may be gone the next time.
        """
        body = self._clean(answer.body.decode(errors="replace"), _EXCERPT)
        reason = f"HTTP {answer.status}, {answer.content_type or 'no content type'}: {body!r}"
        if answer.status in _REFUSED_STATUS:
            return self.denial(reason)
        if answer.status in _PASSING_STATUS:
            return FailedTry(errors.ConnectionFailed, reason, again=True)
        if answer.is_broken:
            return FailedTry(errors.InvalidResponse, f"the answer is broken: {reason}", again=True)
        return FailedTry(errors.InvalidResponse, f"the answer is not GraphQL: {reason}", again=self._has_answered)

    def last_word(self, name: str, failure: FailedTry, tries: int, begun: float) -> errors.GridError:
        """Return the exception for the user: the last failure of a request that began at that monotonic time."""
        message = self._clean(failure.reason, _MESSAGE)
        if failure.again:
            count = "1 try" if tries == 1 else f"{tries} tries"
            message = f"{message} ({count} over {time.monotonic() - begun:.1f} s)"
        if failure.again or failure.kind in _ADVICE or failure.kind is errors.ServiceError:
            message = f"{name} at {self._endpoint.url}: {message}"
        advice = _ADVICE.get(failure.kind)
        if failure.kind is errors.InvalidResponse and self._has_answered:
            advice = _ADVICE_ON_THE_WAY
        error = failure.kind(". ".join(filter(None, [message.rstrip("."), advice])))
        error._may_pass = failure.again  # noqa: SLF001 - not for users
        if isinstance(error, errors.ConnectionFailed):
            error._is_answer = failure.is_answer  # noqa: SLF001 - not for users
        return error

    def _clean(self, text: str, limit: int) -> str:
        """Leave out what must not reach a terminal or a log: secrets, control characters, and excessive length."""
        for secret in (self._endpoint.authorization.partition(" ")[2], self._endpoint.api_key):
            text = text.replace(secret, "***") if secret else text
        text = re.sub(r"//[^/\s@]+@", "//***@", text)
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        return text if len(text) <= limit else text[:limit] + "…"
