"""Tests of the local executor alone: what it tells its listener, however often it is told the same."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from grid.service.executors import evidence
from grid.service.executors.evidence import State
from grid.shared.wire import Reason
from tests.support.executions import Execution, execution, until
from tests.support.processes import is_alive

HOLD = "echo ran >> {ledger}; until test -e {release}; do sleep 0.01; done; exit 3"


def hold(folder: Path) -> str:
    """A script that notes that it runs, and ends with 3 when there is a file."""
    return HOLD.format(ledger=folder / "ledger", release=folder / "release")


def test_told_again_and_again(tmp_path: Path) -> None:
    """An attempt that is started, adopted, cancelled and stopped many times runs once, and is reported once."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(hold(tmp_path))
            for _ in range(3):
                await running.executor.start(job)
                await running.executor.adopt(job, was_running=False, handed_over_at=None)
            await until(lambda: running.told.started, "the script")
            await running.executor.adopt(job, was_running=True, handed_over_at=None)
            for _ in range(3):
                await running.executor.cancel(job.attempt)
                await running.executor.stop(job.attempt)
            assert (await running.ending(job)).reason is Reason.CANCELLED_BY_USER
            await running.executor.cancel(job.attempt)
        assert [attempt for attempt, _ in running.told.started] == [job.attempt]
        assert len(running.told.ended) == 1

    asyncio.run(play())
    assert (tmp_path / "ledger").read_text() == "ran\n"


def test_asked_after_the_end(tmp_path: Path) -> None:
    """If an attempt that has ended is requested again, its end is reported again; it does not run again."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(hold(tmp_path))
            (tmp_path / "release").touch()
            await running.executor.start(job)
            first = await running.ending(job)
            await running.executor.start(job)
            await until(lambda: len(running.told.ended) == 2, "the second answer")
            assert running.told.ended[1] == (job.attempt, first)
        async with execution(tmp_path) as running:
            await running.executor.adopt(job, was_running=False, handed_over_at=None)
            assert await running.ending(job) == first

    asyncio.run(play())
    assert (tmp_path / "ledger").read_text() == "ran\n"


def test_adopted_before_its_script_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of an attempt that another service has begun is reported when it happens."""
    gate, reached = tmp_path / "gate", tmp_path / "reached"
    monkeypatch.setenv("GRID_FAILPOINTS", f"supervisor.script.before:1:wait={gate}")
    monkeypatch.setenv("GRID_FAILPOINTS_LOG", str(reached))

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(hold(tmp_path), number=1)
            await running.executor.start(job)
            await until(lambda: reached.exists() and "script.before" in reached.read_text(), "its supervisor")
        async with execution(tmp_path) as running:
            await running.executor.adopt(job, was_running=False, handed_over_at=None)
            assert running.told.started == []
            gate.write_bytes(b"x")
            await until(lambda: running.told.started, "the script")
            (tmp_path / "release").touch()
            assert (await running.ending(job)).exit_code == 3
        assert len(running.told.started) == 1

    asyncio.run(play())


def test_recorded_as_running_and_no_claim(tmp_path: Path) -> None:
    """An attempt recorded as running is never started again, even if its folder no longer shows that it ran."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(hold(tmp_path))
            await running.executor.adopt(job, was_running=True, handed_over_at=None)
            assert (await running.ending(job)).reason is Reason.LOST
            other = running.job(hold(tmp_path), number=2)
            (tmp_path / "release").touch()
            await running.executor.adopt(other, was_running=False, handed_over_at=None)
            assert (await running.ending(other)).exit_code == 3

    asyncio.run(play())
    assert (tmp_path / "ledger").read_text() == "ran\n"


def test_handed_over_before_the_machine_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that may have run before this boot is not started again; one whose turn came since the boot is."""
    monkeypatch.setattr(evidence, "boot_time", lambda: 100.0)

    async def play() -> None:
        async with execution(tmp_path) as running:
            before = running.job(hold(tmp_path), number=1)
            await running.executor.adopt(before, was_running=False, handed_over_at=99_999_999)
            assert (await running.ending(before)).reason is Reason.LOST
            since = running.job(hold(tmp_path), number=2)
            (tmp_path / "release").touch()
            await running.executor.adopt(since, was_running=False, handed_over_at=100_000_000)
            assert (await running.ending(since)).exit_code == 3

    asyncio.run(play())
    assert (tmp_path / "ledger").read_text() == "ran\n"


async def _hidden(running: Execution, job: object) -> None:
    """Make an attempt's folder unreadable, for the superuser too."""
    folder = running.folder(job).record
    folder.rename(folder.with_name("hidden"))
    folder.symlink_to("x" * 300)  # which no system looks up


def test_not_known_is_not_dead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While it is unknown whether an attempt runs it is watched, not started again, not lost; the log says so once."""
    caplog.set_level(logging.WARNING)

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(hold(tmp_path))
            await running.executor.start(job)
            await until(lambda: running.told.started, "the script")
        async with execution(tmp_path) as running:
            await _hidden(running, job)
            assert evidence.state_of(running.folder(job)) is State.UNKNOWN
            await running.executor.adopt(job, was_running=False, handed_over_at=None)
            await until(lambda: caplog.messages, "a warning")
            await asyncio.sleep(0.5)  # longer than it takes to check again
            assert running.told.ended == []
            folder = running.folder(job).record
            folder.unlink()
            folder.with_name("hidden").rename(folder)
            (tmp_path / "release").touch()
            assert (await running.ending(job)).exit_code == 3

    asyncio.run(play())
    assert (tmp_path / "ledger").read_text() == "ran\n"
    assert len([message for message in caplog.messages if "cannot tell whether" in message]) == 1


@pytest.mark.parametrize("kind", ["link", "file", "folder"])
def test_claim_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """If a claim is empty the other facts decide: an end, or a boot since then; otherwise it stays unknown."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(hold(tmp_path))
            folder = running.folder(job)
            folder.make_record()
            if kind == "link":
                folder.claim.symlink_to("nonsense")
            elif kind == "file":
                folder.claim.touch()
            else:
                folder.claim.mkdir()
            assert evidence.state_of(folder) is State.UNKNOWN
            await running.executor.adopt(job, was_running=False, handed_over_at=None)
            folder.exit.write_text('{"torn": ')
            assert evidence.state_of(folder) is State.DEAD
            assert (await running.ending(job)).reason is Reason.LOST
            folder.exit.unlink()
            monkeypatch.setattr(evidence, "boot_time", lambda: time.time() + 60)
            assert evidence.state_of(folder) is State.DEAD

    asyncio.run(play())
    assert not (tmp_path / "ledger").exists()


def test_spawner_that_dies(tmp_path: Path) -> None:
    """What a spawner had not begun when it died the next one begins; what ran goes on, and its end is reported."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            first = running.job(hold(tmp_path), number=1)
            await running.executor.start(first)
            await until(lambda: running.told.started, "the script")
            spawner = running.executor._spawners[-1]._transport.get_pid()
            os.kill(spawner, signal.SIGSTOP)
            second = running.job(hold(tmp_path), number=2)
            await running.executor.start(second)
            os.kill(spawner, signal.SIGKILL)
            await until(lambda: len(running.told.started) == 2, "the second script")
            (tmp_path / "release").touch()
            assert [(await running.ending(job)).exit_code for job in (first, second)] == [3, 3]
        assert sorted(attempt for attempt, _ in running.told.started) == sorted((first.attempt, second.attempt))

    asyncio.run(play())
    assert (tmp_path / "ledger").read_text() == "ran\nran\n"


def test_word_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cancel or stop that cannot be written yet is written as soon as possible, and acted upon."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job("trap '' TERM; touch deaf; while :; do sleep 0.01; done")
            spawner = running.executor._spawners[-1]._transport.get_pid()
            os.kill(spawner, signal.SIGSTOP)
            folder = running.folder(job)
            folder.record.touch()  # a file, where a folder is to be made
            await running.executor.start(job)
            await running.executor.cancel(job.attempt)
            folder.record.unlink()
            await until(folder.cancel.exists, "the word")
            os.kill(spawner, signal.SIGCONT)
            ending = await running.ending(job)
            assert (ending.reason, ending.started_at) == (Reason.CANCELLED_BY_USER, None)

    asyncio.run(play())
    assert any("trying again" in message for message in caplog.messages)


@pytest.mark.parametrize("leader", [True, False])
def test_another_process_has_the_pid(tmp_path: Path, leader: bool) -> None:
    """A process that has the pid of a dead supervisor, or of its session, is not ours and is left alone."""

    async def play() -> None:
        command = "exec sleep 1000" if leader else "sleep 1000 & echo $!"
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", command), start_new_session=True, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        bystander = process.pid if leader else int(await process.stdout.readline())
        try:
            if not leader:
                # It leaves its session to the other, which keeps the pipe open.
                await until(lambda: not is_alive(process.pid), "the leader")
            async with execution(tmp_path) as running:
                job = running.job(hold(tmp_path))
                running.folder(job).make_record()
                boot = evidence.boot_id()
                running.folder(job).claim.symlink_to(f"{process.pid} 1 {boot}")
                await running.executor.adopt(job, was_running=True, handed_over_at=None)
                assert (await running.ending(job)).reason is Reason.LOST
            assert is_alive(bystander)
        finally:
            os.kill(bystander, signal.SIGKILL)
            await process.wait()
            process._transport.close()

    asyncio.run(play())


def test_boot_that_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that could not be adopted, because the machine did not say when it was started, is adopted later."""
    answers = iter([OSError(errno.EMFILE, "too many open files")])

    def boot_time() -> float:
        for error in answers:
            raise error
        return 100.0

    monkeypatch.setattr(evidence, "boot_time", boot_time)

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = running.job(hold(tmp_path))
            with pytest.raises(OSError, match="too many"):
                await running.executor.adopt(job, was_running=False, handed_over_at=1)
            await running.executor.adopt(job, was_running=False, handed_over_at=1)
            assert (await running.ending(job)).reason is Reason.LOST

    asyncio.run(play())
    assert not (tmp_path / "ledger").exists()
