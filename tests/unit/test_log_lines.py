"""Tests of what a line of output is, and what is shown of it."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.service.results import lines
from grid.service.results.lines import MAX_LINE
from tests.support.shown import shown_lines

PARTS = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b"\t", b"\0", b"\b", b"\x0b", b"\x85", b"\x9b", b" ", b"a", b"0123456789"),
        *(
            b"\x1b[",
            b"\x1b[31m",
            b"\x1b[0K",
            b"\x1b]0;a title\x07",
            b"\x1b]8;;x\x1b\\",
            b"\x1b",
            b"\x1b(B",
            b"\\",
            b"\x07",
        ),
        *(
            "é".encode(),
            "漢".encode(),
            "🙂".encode(),
            "\x9b".encode(),
            b"\xc3",
            b"\xe6\xbc",
            b"\xf0\x9f",
            b"\xff",
            b"m",
        ),
    ]
)
CONTENTS = st.lists(PARTS | st.binary(max_size=3), max_size=60).map(b"".join)
# Most outputs have no carriage return, or nothing but text and line feeds: they are read in a quicker way.
CONTENTS |= CONTENTS.map(lambda content: content.replace(b"\r", b""))
CONTENTS |= CONTENTS.map(lambda content: bytes(each for each in content if each >= 32 or each == 10))


class Slow(io.BytesIO):
    """A file whose every read returns as much as it likes."""

    def __init__(self, content: bytes, seed: int) -> None:
        super().__init__(content)
        self._random = random.Random(seed)

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(
            self._random.randint(1, 9) if size is None or size < 0 else min(size, self._random.randint(1, 9))
        )


def all_of(content: bytes, skip: int = 0, first: int = 10**9) -> list[str]:
    """What is shown of an output, as it is read."""
    pieces = list(lines.read(io.BytesIO(content), 0, len(content), skip, first, 10**9))
    assert [text.count("\n") for text, _ in pieces] == [count for _, count in pieces]
    return "".join(text for text, _ in pieces).split("\n")[:-1]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"10 %\r50 %\r100 %\n", ["100 %"]),
        (b"10 %\r50 %\r100 %\r\n", ["100 %"]),
        (b"10 %\r50 %\r", ["50 %"]),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain\x1b[2K\n", ["red plain"]),
        (b"\x1b]8;;http://example.com\x1b\\link\x1b]8;;\x1b\\\n", ["link"]),
        (b"a\0b\x07c\td\n", ["abc\td"]),
        (b"\xff\xfe\n", ["\ufffd\ufffd"]),
        ("caf\u00e9 \u6f22 \U0001f642\n".encode(), ["caf\u00e9 \u6f22 \U0001f642"]),
        ("a\u2028b\u2029c\x85d\n".encode(), ["a\u2028b\u2029cd"]),
        ("one\nc\x85d\nthree\n".encode(), ["one", "cd", "three"]),
        (b"one\n\x1b[1mtwo\x1b[0m\nthree\n", ["one", "two", "three"]),
    ],
)
def test_shown(content: bytes, shown: list[str]) -> None:
    """The last state of a line, without colours and other control sequences; what is no text is replaced."""
    assert all_of(content) == shown
    assert shown_lines(content, MAX_LINE) == shown


def test_long_lines() -> None:
    """A line above 64 KiB is cut with a mark that says how much is missing; no character is cut in two."""
    assert all_of(b"x" * MAX_LINE + b"\n") == ["x" * MAX_LINE]
    assert all_of(b"x" * (MAX_LINE + 1_000) + b"\nnext") == ["x" * MAX_LINE + " … [1,000 more bytes]", "next"]
    assert all_of(b"x" + "é".encode() * MAX_LINE) == ["x" + "é" * (MAX_LINE // 2 - 1) + " … [65,538 more bytes]"]
    assert all_of(b"x" * (MAX_LINE + 5) + b"\rshort\n") == ["short"]
    assert all_of(b"one\n" + b"x" * (MAX_LINE + 5) + b"\nthree\n")[1:] == [
        "x" * MAX_LINE + " … [5 more bytes]",
        "three",
    ]


def test_memory() -> None:
    """A line of 100 MB takes no more memory than one of 64 KiB."""

    class Endless(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            Endless.largest = max(self.largest, size)
            return b"x" * size

    ((text, count),) = lines.read(Endless(), 0, 100_000_000, 0, 10, 10**9)
    assert count == 1
    assert text == f"{'x' * MAX_LINE} … [99,934,464 more bytes]\n"
    assert 0 < Endless.largest <= 1024 * 1024


@given(CONTENTS, st.integers(1, 30), st.integers(), st.integers(1, 7))
def test_any_output_in_any_pieces(content: bytes, longest: int, seed: int, at_once: int) -> None:
    """However it is read, and in pages of whatever size, an output has the lines that it has as a whole."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lines, "MAX_LINE", longest)
        expected = shown_lines(content, longest)
        assert all_of(content) == expected
        told: list[str] = []
        while True:
            pieces = lines.read(Slow(content, seed), 0, len(content), len(told), at_once, 10**9)
            page = "".join(text for text, _ in pieces).split("\n")[:-1]
            assert len(page) <= at_once
            if not page:
                break
            told += page
        assert told == expected


@given(CONTENTS, st.integers(0, 100))
def test_places(content: bytes, skip: int) -> None:
    """Reading may begin with any line, and end after any."""
    expected = shown_lines(content, MAX_LINE)
    assert all_of(content, skip) == expected[skip:]
    assert all_of(content, skip, 2) == expected[skip : skip + 2]
