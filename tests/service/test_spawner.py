"""Tests of the spawner without a service: what it starts, and what it reports."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from grid.shared.wire import Reason
from tests.support.spawner import attempt_of, ending_of, job_for, spawner


def test_two_supervisors_of_one_attempt(tmp_path: Path) -> None:
    """Of many supervisors that are told to run the same attempt one does, and the others end without a trace."""
    job = job_for(tmp_path, f"echo once >> {tmp_path / 'ledger'}\n")
    with ExitStack() as stack:
        spawners = [stack.enter_context(spawner()) for _ in range(4)]
        for each in spawners:
            each.send(*[job] * 5)
        said = [event for each in spawners for event in each.hear_of_the_end(5)]
    assert (tmp_path / "ledger").read_text() == "once\n"
    assert said == ["started"]
    ending = ending_of(attempt_of(tmp_path))
    assert (ending.reason, ending.exit_code, ending.error) == (Reason.EXIT_CODE, 0, None)


@pytest.mark.parametrize(("word", "reason"), [("cancel", Reason.CANCELLED_BY_USER), ("stop", Reason.SERVICE_STOPPED)])
def test_cancel_or_stop_before_there_was_a_supervisor(tmp_path: Path, word: str, reason: Reason) -> None:
    """A supervisor that finds a cancel or a stop of its attempt starts nothing."""
    attempt = attempt_of(tmp_path)
    attempt.record.mkdir(parents=True)
    (attempt.record / word).touch()
    with spawner() as running:
        running.send(job_for(tmp_path, f"touch {tmp_path / 'ran'}"))
        assert running.hear_of_the_end() == []
    assert not (tmp_path / "ran").exists()
    ending = ending_of(attempt)
    assert (ending.reason, ending.exit_code, ending.signal, ending.started_at) == (reason, None, None, None)


def test_spawner_hears_of_every_end(tmp_path: Path) -> None:
    """However many attempts end at once, the spawner reports each of them."""
    folders = [tmp_path / str(number) for number in range(60)]
    for folder in folders:
        folder.mkdir()
    with spawner() as running:
        running.send(*(job_for(folder, f"echo once > {folder / 'ledger'}\n") for folder in folders))
        assert running.hear_of_the_end(60) == ["started"] * 60
    assert all((folder / "ledger").read_text() == "once\n" for folder in folders)
