"""The line that says how far a run has come: its words, its width, and how often it is drawn."""

from __future__ import annotations

import io
import os
import pty
from contextlib import suppress

import pytest

from grid.models import Forecast, StatusCount, StatusProgress
from grid.session import waiting
from grid.shared.wire import ExperimentStatus
from grid.watching.display import ProgressShown, _Lines, _Terminal
from grid.watching.line import PLAIN, RICH, cut, progress_line
from tests.support.waiting import wait_until

NAME = "glad-cauchy-8648"


def at(revision: int = 0, forecast: tuple[float, float] | None = None, **counts: int) -> StatusProgress:
    """How far a run has come."""
    groups = tuple(StatusCount(status=ExperimentStatus(word), count=count) for word, count in counts.items())
    left = None if forecast is None else Forecast(low=forecast[0], high=forecast[1])
    return StatusProgress(revision=revision, groups=groups, forecast=left)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (
            at(forecast=(720, 1080), QUEUED=200, RUNNING=60, SUCCEEDED=700, FAILED=40),
            "glad-cauchy-8648 █████░░░ 740/1000 · 60 running · 40 failed · 12–18 min left",
        ),
        (at(QUEUED=3), "glad-cauchy-8648 ░░░░░░░░ 0/3"),
        (at(PENDING=1, RUNNING=1), "glad-cauchy-8648 ░░░░░░░░ 0/2 · 2 running"),
        (at(RUNNING=1, CANCELLED=999), "glad-cauchy-8648 ███████░ 999/1000 · 1 running · 999 cancelled"),
        (at(forecast=(1, 2), SUCCEEDED=2), "glad-cauchy-8648 ████████ 2/2"),
        (at(), "glad-cauchy-8648 ████████ 0/0"),
    ],
)
def test_words(status: StatusProgress, line: str) -> None:
    """It has what there is, in the same order: what is not there, and what is over, is left out."""
    assert progress_line(NAME, status, 0, RICH) == line


@pytest.mark.parametrize(
    ("low", "high", "since", "left"),
    [
        (720, 1080, 0, "12–18 min"),
        (720, 1080, 360, "6–12 min"),
        (20, 40, 0, "20–40 s"),
        (20, 40, 30, "0–10 s"),
        (20, 40, 100, "0 s"),
        (60, 100, 0, "1–1.5 min"),
        (5400, 12600, 0, "1.5–3.5 h"),
        (36000, 36100, 0, "10 h"),
        (86400, 345600, 0, "1–4 days"),
    ],
)
def test_time_left(low: float, high: float, since: float, left: str) -> None:
    """The range has one unit, that of its end, gets shorter as time passes, and is one number where the two agree."""
    assert progress_line(NAME, at(forecast=(low, high), RUNNING=1), since, RICH).endswith(f" · {left} left")


def test_width() -> None:
    """A line that is too long is cut, and says so."""
    line = progress_line(NAME, at(RUNNING=1), 0, RICH)
    assert cut(line, len(line), RICH) == line
    assert cut(line, 20, RICH) == "glad-cauchy-8648 ░░…"
    assert cut(line, 20, PLAIN) == "glad-cauchy-8648 ..."
    assert [len(cut(line, width, letters)) for width in (0, 1, 2) for letters in (RICH, PLAIN)] == [0, 0, 1, 1, 2, 2]


class Output(io.TextIOWrapper):
    """A stream that keeps what was written, in an encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="")

    def text(self) -> str:
        """What was written."""
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


def test_drawn_at_most_ten_times_a_second() -> None:
    """However fast the changes come, drawing is as often as it may be, and the last state is drawn in any case."""
    now, output = 100.0, Output()
    shown = ProgressShown(NAME, _Terminal(output), clock=lambda: now)
    for ended in range(1051):
        shown.show(at(ended, RUNNING=1050 - ended, SUCCEEDED=ended))
        now += 0.001
    drawn = output.text().split("\r")[1:]
    assert len(drawn) in (10, 11)
    assert " 1050/1050" not in drawn[-1]
    shown.end()
    *_, last = output.text().split("\r")
    assert last.endswith("\n")
    assert last.rstrip() == "glad-cauchy-8648 ████████ 1050/1050"


def test_shorter_line_hides_the_one_before() -> None:
    """What was drawn before does not show behind a line that is shorter; each line stays in one row."""
    now, output = 100.0, Output()
    shown = ProgressShown(NAME, _Terminal(output), clock=lambda: now)
    shown.show(at(1, forecast=(5400, 12600), RUNNING=100, FAILED=40, QUEUED=10**40))
    now += 1
    shown.show(at(2, SUCCEEDED=1))
    shown.end()
    first, second = output.text().split("\r")[1:]
    assert len(first) == 79
    assert second == "glad-cauchy-8648 ████████ 1/1".ljust(79) + "\n"


def test_line_lives_by_the_clock() -> None:
    """Shown again without a change, the time that is left has become less."""
    now, output = 100.0, Output()
    shown = ProgressShown(NAME, _Terminal(output), clock=lambda: now)
    status = at(forecast=(30, 50), RUNNING=1)
    shown.show(status)
    now += 10
    shown.show(status)
    assert [line.rstrip()[-12:] for line in output.text().split("\r")[1:]] == ["30–50 s left", "20–40 s left"]


def test_output_that_knows_few_letters() -> None:
    """Where the letters cannot be written, others are."""
    output = Output("ascii")
    shown = ProgressShown(NAME, _Terminal(output))
    shown.show(at(forecast=(30, 50), RUNNING=1, SUCCEEDED=1))
    shown.end()
    assert output.text() == "\rglad-cauchy-8648 ####.... 1/2 | 1 running | 30-50 s left\n"


def test_nothing_to_draw() -> None:
    """Where there was no answer, no line is left."""
    for place in (_Terminal, _Lines):
        output = Output()
        ProgressShown(NAME, place(output)).end()
        assert output.text() == ""


def test_terminal_that_is_closed() -> None:
    """A wait does not end because its terminal has: nothing is drawn any more."""
    now = 100.0
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        shown = ProgressShown(NAME, _Terminal(stream), clock=lambda: now)
        lines = ProgressShown(NAME, _Lines(stream), clock=lambda: now)
        shown.show(at(1, RUNNING=2))
        os.close(ours)
        with pytest.raises(OSError, match="Input/output error"):
            os.write(theirs, b"x")
        for ended in (1, 2):
            now += 60
            for each in (shown, lines):
                each.show(at(1 + ended, RUNNING=2 - ended, SUCCEEDED=ended))
        shown.end()
        lines.end()
        with suppress(OSError):  # what could not be written is still held
            stream.close()


def test_what_is_waited_for_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said while a line is drawn begins below it, and the line is drawn anew after that."""
    monkeypatch.setattr(waiting, "_SECONDS", 0)
    now, output = 100.0, Output()
    monkeypatch.setattr("sys.stderr", output)
    shown = ProgressShown(NAME, _Terminal(output), clock=lambda: now)
    shown.show(at(1, RUNNING=1))
    for _ in range(2):
        with waiting.told("the service"):
            wait_until(lambda: output.text().endswith("service\n"), "what is said")
        if now == 100.0:
            now += 1
            shown.show(at(2, SUCCEEDED=1))
            shown.end()
    lines = output.text().split("\n")
    assert lines[1] == lines[3] == "grid: still waiting for the service"
    assert lines[0] == "\rglad-cauchy-8648 ░░░░░░░░ 0/1 · 1 running"
    assert lines[2] == "\rglad-cauchy-8648 ████████ 1/1"
    assert lines[4:] == [""]
