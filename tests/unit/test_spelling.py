"""Tests of how names of files are written as text: one spelling for each name, one name for each spelling."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.service.system.spelling import spelled, unspelled

_NAMES = st.lists(
    st.sampled_from([b"\\", b"x", b"5", b"c", b"f", b"\xff", b"\xc3", b"\xa4", b"\xed\xa0\x80", b"a", b"F"]),
    min_size=1,
    max_size=9,
).map(b"".join)


@given(_NAMES, _NAMES)
def test_there_and_back(one: bytes, other: bytes) -> None:
    """A name is found by its spelling, which is text, and no two names have the same."""
    name = os.fsdecode(one)
    text = spelled(name)
    text.encode()
    assert unspelled(text) == name
    assert (one == other) == (text == spelled(os.fsdecode(other)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("\u00e4\U0001f600".encode(), "\u00e4\U0001f600"),
        (b"a\xffb", r"a\xffb"),
        (rb"a\xffb", r"a\x5cxffb"),
        (b"back\\slash\\", "back\\slash\\"),
        (rb"\xFF", r"\xFF"),
    ],
)
def test_spellings(name: bytes, text: str) -> None:
    """Names that are text are written as they are, unless they would read like another."""
    assert spelled(os.fsdecode(name)) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "a\0b", r"\x61", r"\x2f", r"\x00", r"\x2e\x2e", r"\xc3\xa4", "\udcff"]
)
def test_what_is_no_spelling(text: str) -> None:
    """What leads elsewhere, or is another way to write a name, stands for none."""
    assert unspelled(text) is None
