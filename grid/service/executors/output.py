"""The last lines of what a script has written, which show why it failed: the whole traceback, if there is one."""

from __future__ import annotations

import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

_READ_BYTES = 1024 * 1024
_TRACEBACK_BYTES = 256 * 1024
"""A traceback of 1,000 calls, Python's limit, has some 150 KiB."""
_HEAD_BYTES = 64 * 1024
"""How much of the beginning is kept, besides the end, of a traceback that is longer than that."""
_KEPT_BYTES = 16 * 1024
"""How much is kept of lines that are not a traceback."""
_LINES = 30
_FOLLOWING_LINES = 100
"""How many lines may follow a traceback: long messages, and what other processes write at the end. If more follow, it
is not what ended the script."""
_FINAL_CHARACTERS = 500
_COLUMNS = 500
"""How much is kept of a line that was written over: no terminal is wider."""

_HEADER = re.compile(
    r"(?P<prefix>(?:[^\s|│+].{0,79}?)?)Traceback \(most recent call last\):"  # prefix: [rank0]: or (train pid=7)
    r"|(?P<group>  \+ Exception Group Traceback \(most recent call last\):)"
    r"|╭─+ Traceback \(most recent call last\) ─+╮"
)
_SYNTAX_HEADER = re.compile(r'  File ".*", line \d+')  # code that cannot be compiled has made no call
_SYNTAX_ERROR = re.compile(r"(?:Syntax|Indentation|Tab)Error(?::|$)")
_FRAME = re.compile(r"[\s│╰]|$")
_EXCEPTION = re.compile(r"[^\W\d][\w.<>]*(?::|$)")
_MOST_BETWEEN = 10
"""How many lines of other processes may stand between the calls of a traceback and its exception."""
_CONTINUED = re.compile(r"[\s|│╰]|$")
"""A line that continues the one before it, as in long messages."""
_LINKS = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_ASIDE = ("Exception ignored ", "Exception in thread ")
"""How Python's reports on destroyed objects and on threads begin: they did not end the script if something else did."""

_ESCAPE = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, moves, erasures
    r"|\x1b[\]PX^_][^\x07\x1b\n]{0,256}(?:\x07|\x1b\\)?"  # OSC and other strings: titles, links
    r"|\x1b[ -/]{0,8}[0-~]?"
)
_ERASE = re.compile(r"\x1b\[[0-2]?K")
_REWRITTEN = re.compile(rf"[\r\b]|{_ERASE.pattern}")
_STEP = re.compile(rf"\r|\x08|{_ERASE.pattern}|[^\r\x08\x1b]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def last_lines(output: Path) -> tuple[str, str | None]:
    """Return the last lines of what a script has written, and the line that names its exception.

    Parameters
    ----------
    output
        The file. One that does not exist or cannot be read has no lines.

    Returns
    -------
    tuple of str and str or None
        The last traceback with everything after it, at most 256 KiB; without one the last 30 lines, at most 16 KiB;
        both as a terminal would show them. Then the first line of that traceback's exception; None if there is no
        traceback.
    """
    try:
        content, is_cut = _tail(output)
    except FileNotFoundError:
        return "", None
    except OSError as error:
        _log.warning("the output %s cannot be read: %s", output, error.strerror)
        return "", None
    lines = [_shown(line) for line in content.decode("utf-8", "replace").split("\n")]
    if is_cut and len(lines) > 1:
        del lines[0]  # only its end was read
    while lines and not lines[-1]:
        del lines[-1]
    traceback = _last_traceback(lines)
    if traceback is None:
        return _cut("\n".join(lines[-_LINES:]), _KEPT_BYTES, 0), None
    text = _cut("\n".join(lines[traceback.first :]), _TRACEBACK_BYTES, _HEAD_BYTES)
    return text, traceback.exception[:_FINAL_CHARACTERS]


def _tail(output: Path) -> tuple[bytes, bool]:
    # The script may have put anything in its place: do not follow a link, and do not block on a pipe.
    descriptor = os.open(output, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b"", False
        start = max(status.st_size - _READ_BYTES, 0)
        return os.pread(descriptor, _READ_BYTES, start), start > 0
    finally:
        os.close(descriptor)


def _cut(text: str, most: int, head: int) -> str:
    """Cut a text that is longer than `most` bytes to its first `head` bytes and its last ones."""
    content = text.encode()
    if len(content) <= most:
        return text
    mark = f"[… more than {len(content) - most:,} bytes left out …]\n"
    mark = f"\n{mark}" if head else mark
    tail = most - head - len(mark.encode())
    return content[:head].decode("utf-8", "ignore") + mark + content[-tail:].decode("utf-8", "ignore")


# A line as a terminal shows it


def _shown(line: str) -> str:
    line = line.rstrip("\r")
    if _REWRITTEN.search(line):
        line = _rewritten(_ESCAPE.sub(_erasure, line))
    elif "\x1b" in line:
        line = _ESCAPE.sub("", line)
    return _CONTROL.sub("", line).rstrip()


def _erasure(match: re.Match[str]) -> str:
    """Keep an escape sequence only if it erases."""
    return match[0] if _ERASE.fullmatch(match[0]) else ""


def _rewritten(line: str) -> str:
    """Overwrite characters as a terminal does: progress bars are made that way."""
    screen: list[str] = []
    column = 0
    for step in _STEP.findall(line):
        if step == "\r":
            column = 0
        elif step == "\b":
            column = max(column - 1, 0)
        elif step.startswith("\x1b"):
            if step == "\x1b[2K":
                screen.clear()
            elif step == "\x1b[1K":
                screen[:column] = " " * min(column, len(screen))
            else:
                del screen[column:]
        elif text := step[: max(_COLUMNS - column, 0)]:
            screen.extend(" " * (column - len(screen)))
            screen[column : column + len(text)] = text
            column += len(text)
    return "".join(screen)


# Tracebacks


@dataclass(frozen=True, slots=True)
class _Traceback:
    """The lines where a traceback begins and where its exception is named, and the text of the latter."""

    first: int
    last: int
    exception: str


def _last_traceback(lines: list[str]) -> _Traceback | None:
    """Return the last traceback, beginning with the first of the tracebacks that led to it."""
    found: list[_Traceback] = []
    earliest = _earliest_end(lines)
    index = 0
    while index < len(lines):
        if (traceback := _traceback_at(lines, index)) is not None:
            found.append(traceback)
            index = traceback.last
        index += 1
    at_end = [place for place, each in enumerate(found) if each.last >= earliest]
    mattering = [place for place in at_end if not _is_aside(lines, found[place].first)]
    if not at_end:
        return None
    place = (mattering or at_end)[-1]
    last = found[place]
    while place > 0 and _is_linked(lines, found[place - 1], found[place]):
        place -= 1
    first = found[place].first
    if first > 1 and lines[first - 1] == '"""':
        first -= 2  # another process's traceback, quoted by this one's exception
    return _Traceback(first, last.last, last.exception)


def _traceback_at(lines: list[str], index: int) -> _Traceback | None:
    """Return the traceback that begins at a line, if one does."""
    header = _HEADER.fullmatch(lines[index])
    if header is not None:
        prefix = "  | " if header["group"] else header["prefix"] or ""
        if index + 1 < len(lines) and not lines[index + 1].startswith(prefix):
            prefix = ""  # it stands only before the first line, as loggers write it
        wanted, between, most = _EXCEPTION, _MOST_BETWEEN, len(lines)
    elif _SYNTAX_HEADER.fullmatch(lines[index]):
        prefix, wanted, between, most = "", _SYNTAX_ERROR, 1, 8
    else:
        return None
    for at in range(index + 1, min(index + most, len(lines))):
        line = lines[at]
        if not line.startswith(prefix.rstrip()):
            return None
        line = line[len(prefix) :]
        if wanted.match(line):
            return _Traceback(index, at, line)
        if not _FRAME.match(line):
            between -= 1
            if between == 0:
                return None
    return None


def _earliest_end(lines: list[str]) -> int:
    """Return the first line at which a traceback may end and still be what ended the script."""
    left = _FOLLOWING_LINES
    for index in reversed(range(len(lines))):
        left -= not _CONTINUED.match(lines[index])
        if left < 0:
            return index
    return 0


def _is_aside(lines: list[str], first: int) -> bool:
    return first > 0 and lines[first - 1].startswith(_ASIDE)


def _is_linked(lines: list[str], earlier: _Traceback, later: _Traceback) -> bool:
    """Return whether the later of two tracebacks says that it followed from the earlier one."""
    for line in reversed(lines[earlier.last + 1 : later.first]):
        if line:
            return line.endswith(_LINKS)
    return False
