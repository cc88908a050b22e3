"""Tests of attempts that go on with the files of the previous one."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import stat
from pathlib import Path

from grid.service.executors.protocol import AttemptName, EarlierAttempt
from grid.service.executors.supervisor.working_copy import Copier
from grid.service.system.workspace import LAYOUT
from grid.shared.wire import Reason
from tests.support.executions import Execution, execution, until


async def _run(running: Execution, script: str, attempt: int, **more: object) -> Path:
    """Run an attempt to its end; return its working copy."""
    job = running.job(script, attempt=attempt, **more)
    await running.executor.start(job)
    await running.ending(job)
    return running.folder(job).work


def described(folder: Path) -> dict[str, tuple[object, ...]]:
    """What is in a folder: mode, content and time of each thing in it, by its path."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (stat.filemode(status.st_mode), content, status.st_mtime_ns)
    return found


def test_next_attempt_has_the_files(tmp_path: Path) -> None:
    """What an attempt has made or changed is copied to the next, over the snapshot's files, and stays where it was."""

    async def play() -> None:
        script = 'cat state 2>/dev/null; printf x >> state; echo "# $$" >> run; mkdir -p a/b; ln -sf b a/link; exit 3\n'
        async with execution(tmp_path) as running:
            first = await _run(running, script, 1)
            before = described(first)
            second = await _run(running, script, 2, resume=EarlierAttempt(1, 2))
            third = await _run(running, script, 3)
            assert described(first) == before
        assert (second / "state").read_text() == "xx"
        assert (second.parent.parent / "output").read_text() == "x"
        assert (second / "a" / "link").readlink() == Path("b")
        assert (third / "state").read_text() == "x"  # which was not told to resume
        assert (second / "run").read_text().count("\n# ") == 2

    asyncio.run(play())


def test_lost_attempt_is_gone_on_with(tmp_path: Path) -> None:
    """The files of an attempt that was lost with its supervisor are there, those of the snapshot and its own."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            script = "test -e made && exec cat made; echo made > made; touch ready; exec sleep 1000"
            job = running.job(script)
            await running.executor.start(job)
            await until((running.folder(job).work / "ready").exists, "the script")
            os.kill(int(os.readlink(running.folder(job).claim).split(" ")[0]), signal.SIGKILL)
            assert (await running.ending(job)).reason is Reason.LOST
            work = await _run(running, script, 2, resume=EarlierAttempt(1, 2))
            assert (work.parent.parent / "output").read_text() == "made\n"

    asyncio.run(play())


def test_attempt_whose_room_is_gone(tmp_path: Path) -> None:
    """An attempt that has nothing left to go on with begins with the snapshot."""

    async def play() -> None:
        async with execution(tmp_path) as running:
            assert list((await _run(running, "exit 1", 2, resume=EarlierAttempt(1, 2))).iterdir()) == []

    asyncio.run(play())


def test_whatever_was_left(tmp_path: Path) -> None:
    """Modes and times are kept, files replace folders and the other way round, and links are not followed."""
    snapshot, earlier, work, outside = (tmp_path / name for name in ("snapshot", "earlier", "work", "outside"))
    for folder in (snapshot, earlier, outside):
        folder.mkdir()
    (outside / "secret").write_text("secret")
    for name in ("file", "to-folder", "to-link", "same"):
        (snapshot / name).write_text("old")
    for name in ("folder-to-file", "folder-to-link", "folder"):
        (snapshot / name / "inner").mkdir(parents=True)
        (snapshot / name / "inner" / "file").write_text("old")
    (snapshot / "link-to-folder").symlink_to(outside)
    (earlier / "file").write_text("new")
    (earlier / "file").chmod(0o640)
    os.utime(earlier / "file", ns=(1, 2_000_000_000))
    (earlier / "program").write_text("new")
    (earlier / "program").chmod(0o555)
    (earlier / "to-folder").mkdir()
    (earlier / "to-folder" / "file").write_text("new")
    (earlier / "to-link").symlink_to(outside / "secret")
    (earlier / "folder-to-file").write_text("new")
    (earlier / "folder-to-link").symlink_to(outside)
    (earlier / "link-to-folder").mkdir()
    (earlier / "link-to-folder" / "secret").write_text("new")
    (earlier / "closed").mkdir()
    (earlier / "closed" / "file").write_text("new")
    os.utime(earlier / "closed", ns=(1, 3_000_000_000))
    (earlier / "closed").chmod(0o500)
    os.mkfifo(earlier / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(earlier)  # a socket's path must be short
        listening.bind("socket")
        os.chdir(here)
    expected = {name: each for name, each in described(earlier).items() if name not in ("pipe", "socket")}
    try:
        copier = Copier(lambda: None)
        copier.copy(str(snapshot), str(work))
        copier.overlay(str(earlier), str(work))
        found = described(work)
    finally:
        for folder in (earlier, work):
            (folder / "closed").chmod(0o700)
    assert {name: found[name] for name in expected} == expected
    assert found.keys() - expected.keys() == {"folder", "folder/inner", "folder/inner/file", "same"}
    assert (outside / "secret").read_text() == "secret"


def test_working_folder_that_is_no_longer_one(tmp_path: Path) -> None:
    """An attempt does not start behind a link that the one before has put in the place of its working folder."""
    outside = tmp_path / "outside"
    outside.mkdir()

    async def play() -> None:
        async with execution(tmp_path) as running:
            script = f"pwd; cd ..; rm -r sub; ln -s {outside} sub; exit 3\n"
            job = running.job(script, attempt=1, folder="sub", command=("/bin/sh", "../run"))
            (running.workspace.snapshot(job.snapshot) / "sub").mkdir()
            (running.workspace.snapshot(job.snapshot) / "sub" / "x").touch()
            await running.executor.start(job)
            assert (await running.ending(job)).exit_code == 3
            assert running.folder(job).output.read_text() == f"{running.folder(job).work}/sub\n"
            again = dataclasses.replace(
                job, attempt=AttemptName(job.attempt.experiment_id, 2), resume=EarlierAttempt(1, LAYOUT)
            )
            await running.executor.start(again)
            ending = await running.ending(again)
            assert (ending.reason, ending.error) == (Reason.START_FAILED, "Not a directory: sub")

    asyncio.run(play())
