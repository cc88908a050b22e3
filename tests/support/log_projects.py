"""The scripts below `tests/acceptance/projects`, and what their logs must say, known here without any of the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PROJECTS = Path(__file__).parents[1] / "acceptance" / "projects"

_LINE = re.compile(r"(~?)\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})\] (.*)", re.DOTALL)
LONGEST = 64 * 1024
"""Bytes of a line that are kept."""


def messages(lines: Iterable[str]) -> list[str]:
    """Take the time off lines, which each must have."""
    found = [_LINE.fullmatch(line) for line in lines]
    assert None not in found
    return [match[3] for match in found if match]


@dataclass(frozen=True)
class Project:
    """A script, and the lines of its log.

    Attributes
    ----------
    script
        The name of its file.
    early
        The whole lines that it has printed when it waits.
    late
        Those that it prints after that.
    arguments
        What it is given, beside the file that it waits for.
    """

    script: str
    early: Callable[[], list[str]]
    late: Callable[[], list[str]]
    arguments: str = ""

    @property
    def text(self) -> str:
        """The script itself."""
        return (PROJECTS / self.script).read_text(encoding="utf-8")

    def all(self) -> list[str]:
        """All lines of its log."""
        return [*self.early(), *self.late()]


def _epoch(number: int) -> list[str]:
    return [f"epoch {number} 100%|{'█' * 8}| 8/8", f"loss\t{1 / number:.3f}"]


def _million(count: int, first: int, last: int) -> list[str]:
    return [f"step {number} of {count}: loss {1 / number:.6f}" for number in range(first, last + 1)]


PROGRESS = Project(
    "progress.py",
    lambda: ["training resnet", "see the docs", *_epoch(1)],
    lambda: [*_epoch(2), *_epoch(3), "done       ", "saved model.pt"],
)
NO_TEXT = Project(
    "no_text.py",
    lambda: ["gr\ufffd\ufffde", "nothing here", bytes(range(128, 256)).decode("utf-8", "replace"), "gr\ufffd\ufffde"],
    lambda: ["half of ü", "emoji 🎉, \u2028,  and  end no line", "\ufffd"],
)


def million_lines(count: int) -> Project:
    """The project that prints very many lines."""
    half = count // 2
    return Project(
        "million_lines.py",
        lambda: _million(count, 1, half),
        lambda: _million(count, half + 1, count),
        f"--lines {count}",
    )


def one_line(megabytes: int) -> Project:
    """The project that prints a very long line."""
    size = megabytes * 1_000_000
    start = ("0123456789" * (LONGEST // 10 + 1))[:LONGEST]
    return Project(
        "one_line.py",
        lambda: ["before"],
        lambda: [f"{start} … [{size - LONGEST:,} more bytes]", "after"],
        f"--megabytes {megabytes}",
    )
