"""What a line of output is: where it ends, and what a terminal would show of it in the end.

A line ends at a line feed. What is shown of it is the text after its last carriage return (one that stands at its end
counts as part of the end), without control sequences.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

MAX_LINE = 64 * 1024
"""How many bytes of a line are kept."""

_READ = 128 * 1024
_MOST_READ = 64 * 1024 * 1024
"""How many bytes are read at most for lines, however little is shown of them: but at least one line."""

_STRING = 2_048
"""How long a title or a link may be: what goes on for longer was no control sequence, but bytes that are no text."""
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?"  # colours, moves, erasures
    rf"|\x1b[\]PX^_][^\x07\x1b\n]{{0,{_STRING}}}(?:\x07|\x1b\\)?"  # titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a line feed does not occur in a line, and a tab is text
_CONTROLS = bytes(each for each in (*range(32), 127) if each not in b"\t\n")


class UnfinishedLine:
    """A line as far as it has come; it takes no more memory than a line may have."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._kept = bytearray()
        self._left_out = 0
        self._is_at_return = False

    def add(self, piece: bytes) -> None:
        """Go on with bytes among which there is no line feed."""
        text = piece.rstrip(b"\r")
        if text:
            place = text.rfind(b"\r")
            if place >= 0 or self._is_at_return:
                self._kept.clear()
                self._left_out = 0
            fitting = text[place + 1 : place + 1 + MAX_LINE - len(self._kept)]
            self._kept += fitting
            self._left_out += len(text) - place - 1 - len(fitting)
            self._is_at_return = False
        self._is_at_return |= len(text) < len(piece)

    def finish(self) -> str:
        """Return what is shown of it, and begin the next one."""
        shown = _shown(bytes(self._kept), self._left_out)
        self._begin()
        return shown


def shown(content: bytes) -> str:
    """Return what is shown of whole lines, each of them ended by a line feed."""
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
    is_short = len(content) <= MAX_LINE or max(map(len, content.split(b"\n"))) <= MAX_LINE
    if b"\r" in content or not is_short:
        return "".join(f"{_shown_whole(line)}\n" for line in content[:-1].split(b"\n"))
    text = content.decode("utf-8", "replace")
    has_controls = len(content.translate(None, _CONTROLS)) < len(content)
    # These lines need nothing more: most outputs have no others.
    return text if not has_controls and b"\xc2" not in content else _without_controls(text)


def read(  # noqa: PLR0913, PLR0917 - all that says which lines
    output: BinaryIO, start: int, end: int, skip: int, first: int, most: int
) -> Iterator[tuple[str, int]]:
    """Yield lines of an output, in pieces: what is shown of them, each ended by a line feed, and how many they are.

    Parameters
    ----------
    output
        The output.
    start, end
        Between which offsets; an unfinished line before the end counts as a line.
    skip
        How many lines to leave out first.
    first
        How many lines at most.
    most
        How many characters are enough.
    """
    line, is_open, taken = UnfinishedLine(), False, 0
    output.seek(start)
    while start < end and (content := output.read(min(_READ, end - start))):
        start += len(content)
        is_open = not content.endswith(b"\n")
        if skip:
            count = content.count(b"\n")
            content = content[_end_of(content, skip) :] if count >= skip else b""
            skip -= min(count, skip)
            if skip:
                continue
        taken += len(content)
        head, feed, rest = content.partition(b"\n")
        line.add(head)
        if not feed:
            continue
        text, count = f"{line.finish()}\n", 1
        whole = rest[: rest.rfind(b"\n") + 1]
        line.add(rest[len(whole) :])
        if more := min(whole.count(b"\n"), first - 1):
            text += shown(whole[: _end_of(whole, more)])
            count += more
        yield text, count
        first -= count
        most -= len(text)
        if first <= 0 or most <= 0 or taken >= _MOST_READ:
            return
    if is_open and not skip:
        yield f"{line.finish()}\n", 1


def _end_of(content: bytes, line: int) -> int:
    return next(ends_of(content, line, line))


def ends_of(content: bytes, every: int, first: int) -> Iterator[int]:
    """Yield where some of the lines end: the one at the place `first`, counted from 1, and every so many after it."""
    left = first
    for match in re.finditer(b"\n", content):
        left -= 1
        if not left:
            yield match.end()
            left = every


def _shown_whole(line: bytes) -> str:
    text = line.rstrip(b"\r")
    text = text[text.rfind(b"\r") + 1 :]
    return _shown(text[:MAX_LINE], max(len(text) - MAX_LINE, 0))


def _shown(content: bytes, left_out: int) -> str:
    if not left_out:
        return _without_controls(content.decode("utf-8", "replace"))
    # A character is not cut in two.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = _without_controls(decoder.decode(content))
    return f"{text} … [{left_out + len(decoder.getstate()[0]):,} more bytes]"


def _without_controls(text: str) -> str:
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    return _CONTROL.sub("", text)
