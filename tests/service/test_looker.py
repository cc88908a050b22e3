"""Tests of the thread that looks at outputs: when it sleeps, whom it tells, and that nothing stops it."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from grid.service.executors.local_files import LocalFiles
from grid.service.executors.protocol import AttemptName, FileState, Written
from grid.service.results import index
from grid.service.results.looker import Looker
from tests.support.outputs import WRITTEN, Attempt
from tests.support.waiting import wait_until

NAME = AttemptName("e", 1)


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """An attempt that has printed nothing."""
    return Attempt(tmp_path / "home")


class Counting(LocalFiles):
    """Files that count how often they are opened, and fail if they are told to."""

    opened = 0
    fails = False

    def open(self, attempt: Written, path: str) -> tuple[Any, FileState] | None:
        """Count, and open."""
        self.opened += 1
        if self.fails:
            raise ValueError("a fault")
        return super().open(attempt, path)


@contextmanager
def looking(attempt: Attempt, *followed: int) -> Iterator[tuple[Looker, Counting, list[tuple[int, AttemptName]]]]:
    """Yield a looker, the files that it looks at, and what it announces."""
    files, told = Counting(attempt.workspace), []
    looker = Looker(files, attempt.workspace, followed.__contains__, told.extend)
    try:
        yield looker, files, told
    finally:
        looker.close()


def test_no_thread_without_attempts(attempt: Attempt) -> None:
    """Where nothing runs there is no thread; where nothing runs any longer it waits for ever."""
    threads = threading.active_count()
    with looking(attempt) as (looker, files, _):
        assert threading.active_count() == threads
        attempt.print(b"one\n")
        looker.begins(WRITTEN, 7, is_new=True)
        looker.ends(NAME)
        wait_until(lambda: looker._sleeps, "sleep")
        assert (files.opened, attempt.entries()[0].lines) == (2, 1)  # once more when the index is made
        looker.catch_up(WRITTEN, has_ended=True).result(60)
        wait_until(lambda: looker._sleeps, "sleep")
    assert threading.active_count() == threads


def test_one_look_for_a_short_attempt(attempt: Attempt) -> None:
    """An attempt that has ended before it was looked at is looked at once, and leaves nothing if it printed nothing."""
    with looking(attempt) as (looker, files, _):
        looker.begins(WRITTEN, 7, is_new=True)
        looker.ends(NAME)
        wait_until(lambda: looker._sleeps, "sleep")
        assert files.opened == 1
    assert not attempt.index.parent.exists()


def test_only_followers_are_told(attempt: Attempt) -> None:
    """Growth is announced where somebody follows the run, and nowhere else."""
    other = Written("other", 1, 2)
    path = attempt.workspace.attempt("other", 1).output
    path.parent.mkdir(parents=True)
    with looking(attempt, 7) as (looker, _, told):
        looker.begins(WRITTEN, 7, is_new=True)
        looker.begins(other, 8, is_new=True)
        path.write_text("one\n")
        attempt.print(b"one\n")
        wait_until(lambda: told, "the announcement")
        looker.catch_up(other, has_ended=False).result(60)
        assert set(told) == {(7, NAME)}
        assert looker.reached(NAME).lines == looker.reached(AttemptName("other", 1)).lines == 1


def test_a_fault(attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with one output, whoever waits is answered, and the thread goes on."""
    attempt.print(b"one\n")
    with looking(attempt) as (looker, files, _), caplog.at_level(logging.ERROR):
        files.fails = True
        assert looker.catch_up(WRITTEN, has_ended=True).result(60).lines == 0
        files.fails = False
        assert looker.catch_up(WRITTEN, has_ended=True).result(60).lines == 1
    assert "the output of e-1 cannot be looked at" in caplog.text


def test_closing(attempt: Attempt) -> None:
    """When the service is stopped it takes a last look, so that what was printed before was seen."""
    with looking(attempt) as (looker, _, _told):
        looker.begins(WRITTEN, 7, is_new=True)
        attempt.print(b"one\n")
    assert [(entry.lines, entry.is_approximate) for entry in attempt.entries()] == [(1, False)]


def test_one_that_nobody_waits_for_any_longer(attempt: Attempt) -> None:
    """Who has lost patience is not answered, and others are."""
    attempt.print(b"one\n")
    with looking(attempt) as (looker, _, _told):
        futures = [looker.catch_up(WRITTEN, has_ended=False) for _ in range(20)]
        for future in futures[::2]:
            future.cancel()
        assert {future.result(60).lines for future in futures[1::2]} == {1}


def test_a_fault_that_passes(attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    """An active attempt that cannot be looked at for a while is looked at again, and that is said once."""
    with looking(attempt, 7) as (looker, files, told), caplog.at_level(logging.ERROR):
        files.fails = True
        looker.begins(WRITTEN, 7, is_new=True)
        assert looker.catch_up(WRITTEN, has_ended=False).result(60).lines == 0
        assert looker.catch_up(WRITTEN, has_ended=False).result(60).lines == 0
        attempt.print(b"one\n")
        files.fails = False
        wait_until(lambda: told, "the announcement")
        assert looker.reached(NAME).lines == 1
        assert [entry.is_approximate for entry in attempt.entries()] == [False]
    assert caplog.text.count("cannot be looked at") == 1


def test_a_fault_in_the_middle(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that were read when something failed are counted at the next look."""
    fingerprint, faults = index.fingerprint, [OSError(errno.EIO, "a fault")]

    def failing(file: BinaryIO, offset: int) -> int:
        if faults:
            raise faults.pop()
        return fingerprint(file, offset)

    attempt.print(b"one\ntwo\n")
    monkeypatch.setattr(index, "fingerprint", failing)
    with looking(attempt, 7) as (looker, _, told):
        looker.begins(WRITTEN, 7, is_new=True)
        wait_until(lambda: told, "the announcement")
        assert looker.reached(NAME).lines == 2
    assert not faults
