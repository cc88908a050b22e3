"""What each argument of a run may be, whatever the others are: one function for each kind of value.

Each takes the name of an argument and a value, and refuses the value with what was given and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from grid.errors import InvalidArgument, SweepError
from grid.shared.wire import (
    MAX_DESCRIPTION,
    MAX_TIMEOUT_SECONDS,
    MEMORY_FORM,
    RUN_NAME,
    memory_bytes,
)
from grid.shared.words import WordsError, split

FRAMEWORKS = ("lightning", "torch", "tensorflow", "julia", "torchelastic")

_MAX_INT = 2**31 - 1  # what a whole number in GraphQL can be
_LONGEST_SHOWN = 80


def shown(value: object) -> str:
    """Return a value as a message quotes it: as Python writes it, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def check_text(name: str, value: object) -> None:
    """Refuse what is not text, or text that no service could accept.

    Raises
    ------
    InvalidArgument
        The message says what was given and what is allowed.
    """
    if not isinstance(value, str):
        msg = f"{name} must be a string, not {shown(value)}"
        raise InvalidArgument(msg)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        msg = f"{name} must be Unicode text, which {shown(value)} is not at character {error.start}"
        raise InvalidArgument(msg) from error
    if "\0" in value:
        msg = f"{name} must not contain a NUL character, as {shown(value)} does"
        raise InvalidArgument(msg)


def check_name(name: str, value: object) -> None:
    """Refuse what no run can be called; empty is allowed."""
    check_text(name, value)
    if value and not RUN_NAME.fullmatch(str(value)):
        form = "lower-case letters, digits and inner '-', starting with a letter and ending in a letter or digit"
        msg = f"{name} must be {form}, not {shown(value)}"
        raise InvalidArgument(msg)


def check_script_args(name: str, value: object) -> None:
    """Refuse what a shell would not split into words alone, with the words of the service, or what is too long."""
    try:
        split_words(name, value)
    except WordsError as error:
        raise SweepError(str(error)) from None


def split_words(name: str, value: object) -> tuple[str, ...]:
    """Return the words of a text as a shell splits them.

    Raises
    ------
    InvalidArgument
        If the value is not text.
    WordsError
        If a shell would do something else with it, or it is too long.
    """
    if isinstance(value, (list, tuple)):
        msg = f"{name} must be one string, not {shown(value)}; shlex.join() makes one from a list of words"
        raise InvalidArgument(msg)
    if not isinstance(value, str):
        check_text(name, value)
    return split(str(value), name).words


def check_description(name: str, value: object) -> None:
    """Refuse more characters than a description may have."""
    if value is None:
        return
    check_text(name, value)
    if len(str(value)) > MAX_DESCRIPTION:
        msg = f"{name} must have at most {MAX_DESCRIPTION} characters, not {len(str(value))}"
        raise InvalidArgument(msg)


def check_instance_type(name: str, value: object) -> None:
    """Refuse an empty name of a type of machine; which types there are, the service knows."""
    check_text(name, value)
    if not value:
        msg = f"{name} must be a type of machine, not empty; get_instance_types() lists them"
        raise InvalidArgument(msg)


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, not {shown(value)}"
        raise InvalidArgument(msg)


def check_number(name: str, value: object, *, least: int = 0) -> None:
    """Refuse what is not a whole number that GraphQL can carry."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MAX_INT:
        msg = f"{name} must be a whole number from {least} to {_MAX_INT}, not {shown(value)}"
        raise InvalidArgument(msg)


def check_memory(name: str, value: object) -> None:
    """Refuse what is no amount of memory; empty is allowed."""
    check_text(name, value)
    if value and not memory_bytes(str(value)):
        msg = f"{name} must be {MEMORY_FORM}, not {shown(value)}"
        raise InvalidArgument(msg)


def check_seed(name: str, value: object) -> None:
    """Refuse what is neither None nor a whole number."""
    if value is not None:
        check_number(name, value)


def check_timeout(name: str, value: object) -> None:
    """Refuse what is neither None nor a number of seconds that a service can wait."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TIMEOUT_SECONDS:
        allowed = f"a number of seconds above 0 and at most {MAX_TIMEOUT_SECONDS}, or None for no limit"
        msg = f"{name} must be {allowed}, not {shown(value)}"
        raise InvalidArgument(msg)


def check_attempt(attempt: object) -> None:
    """Refuse what is neither None nor a number that an attempt could have.

    Raises
    ------
    InvalidArgument
        The message says what was given and what is allowed.
    """
    if attempt is None:
        return
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 1 <= attempt <= _MAX_INT:
        message = f"attempt must be the number of an attempt, from 1, or None for the current one, not {shown(attempt)}"
        raise InvalidArgument(message)


def one_of(allowed: Sequence[str]) -> Callable[[str, object], None]:
    """Return the check that refuses every text but these."""

    def check(name: str, value: object) -> None:
        if isinstance(value, str) and value in allowed:
            return
        import difflib  # noqa: PLC0415 - only for messages

        close = difflib.get_close_matches(str(value).lower(), allowed, n=1)
        msg = f"{name} must be {_choice(map(repr, allowed))}, not {shown(value)}"
        raise InvalidArgument(msg + (f"; did you mean {close[0]!r}?" if close else ""))

    return check


def check_repeats(name: str, value: object) -> None:
    """Refuse what is not a whole number of 1 or more."""
    check_number(name, value, least=1)


def accept(name: str, value: object) -> None:
    """Accept what was already checked when it was read from the configuration file."""


def _choice(allowed: Iterable[str]) -> str:
    *others, last = allowed
    return f"{', '.join(others)} or {last}"
