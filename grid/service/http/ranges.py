"""Which part of a file a request is answered with, and whether at all: conditions and ranges, as RFC 9110 has them."""

from __future__ import annotations

import re
from enum import Enum, auto

from starlette.datastructures import Headers

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.IGNORECASE)
_TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LONGEST = 18
"""Digits of a place in a file; those that have more are behind the end of every file."""


class Verdict(Enum):
    """What becomes of a request."""

    WHOLE = auto()
    PART = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()
    """What the client requires of the file is not so."""
    UNSATISFIABLE = auto()
    """The part that is asked for lies behind the end."""


def judge(method: str, headers: Headers, etag: str, size: int) -> tuple[Verdict, range]:
    """Return what to answer with, and which bytes of the file.

    Parameters
    ----------
    method
        The request's: ranges are for GET alone.
    headers
        Its headers.
    etag
        What tells the content of the file, a strong one.
    size
        How many bytes it has.
    """
    whole = range(size)
    required = headers.getlist("if-match")
    if required and not _has(required, etag, is_strong=True):
        return Verdict.FAILED, whole
    known = headers.getlist("if-none-match")
    if known and _has(known, etag, is_strong=False):
        return Verdict.NOT_MODIFIED, whole
    ranges, conditions = headers.getlist("range"), headers.getlist("if-range")
    # A date is no condition that we can check: as with another tag, the whole file is sent.
    if method != "GET" or len(ranges) != 1 or (conditions and conditions != [etag]):
        return Verdict.WHOLE, whole
    return _part(ranges[0], size)


def _part(text: str, size: int) -> tuple[Verdict, range]:
    found = _RANGE.fullmatch(text)
    first, last, suffix = found.groups() if found else ("", "", None)
    if suffix is not None:
        part = range(size - min(_number(suffix), size), size)
        # Which part of an empty file it is could not be said.
        verdict = Verdict.UNSATISFIABLE if not _number(suffix) else Verdict.PART if size else Verdict.WHOLE
        return verdict, part
    start, stop = _number(first), _number(last) + 1 if last else size
    if not first or (last and stop <= start):
        # Another unit, several ranges, or none that is well formed: all of these may be ignored.
        return Verdict.WHOLE, range(size)
    return (Verdict.PART if start < size else Verdict.UNSATISFIABLE), range(start, min(stop, size))


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _LONGEST else 10**_LONGEST


def _has(lists: list[str], etag: str, *, is_strong: bool) -> bool:
    """Return whether a list of tags has this one, or stands for any."""
    text = ",".join(lists)
    if text.strip() == "*":
        return True
    tags = (match[0] for match in _TAG.finditer(text))
    return etag in tags if is_strong else etag in {tag.removeprefix("W/") for tag in tags}
