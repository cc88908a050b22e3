"""Tests of the temporary folders of attempts: short, known to the records, and gone when nothing needs them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from grid.service.executors import clearing, evidence
from grid.service.executors.protocol import Job
from tests.support.executions import Execution, execution, until
from tests.support.spawner import job_for, spawner

SCRIPT = """import os, socket, tempfile
print(os.environ["TMPDIR"], tempfile.gettempdir())
made = socket.socket(socket.AF_UNIX)
made.bind(os.environ["TMPDIR"] + "/" + "s" * 40)
"""


def job_of(running: Execution, script: str = SCRIPT, **more: object) -> Job:
    """A job of which nobody has said where its temporary files go."""
    job = running.job(script, **more)
    environment = {name: value for name, value in job.environment.items() if name != "TMPDIR"}
    return dataclasses.replace(job, environment=environment)


async def run(running: Execution, job: Job) -> Path:
    """Run a script to its end; return what its TMPDIR was."""
    await running.executor.start(job)
    ending = await running.ending(job)
    assert ending.exit_code == 0, ending.last_lines
    ours, used = running.folder(job).output.read_text().split()
    assert ours == used
    return Path(ours)


def is_there(path: Path) -> bool:
    """Whether there is something of that name, be it a link that leads nowhere."""
    return os.path.lexists(path)


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same folder."""
    return os.path.realpath(one) == os.path.realpath(other)


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return os.listdir(folder)


def of_length(folder: Path, length: int) -> Path:
    """Make a folder below another one, with a path that has so many bytes."""
    missing = length - len(os.fsencode(folder)) - 1
    assert missing > 0
    made = folder / ("é" * (missing // 2) + "x" * (missing % 2))
    assert len(os.fsencode(made)) == length
    made.mkdir()
    return made


@pytest.mark.parametrize("length", [60, 61, 200])
def test_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """A path of up to 60 bytes is used as it is; a link below /tmp leads to a longer one. Both go with the record."""
    short = Path(os.path.realpath("/tmp"), f"grid-test-{os.getpid()}")
    short.mkdir()
    base = tmp_path if length > 100 else short
    own = len("/grid-00000000-00000000")
    monkeypatch.setenv("TMPDIR", str(of_length(base, length - own)))

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = job_of(running)
            named = await run(running, job)
            record = running.folder(job)
            folder = Path(os.readlink(record.tmp))
            assert len(os.fsencode(folder)) == length
            assert len(os.fsencode(named)) <= 60
            assert named.is_symlink() == (length > 60)
            assert is_same(named, folder)
            assert names_in(folder) == ["s" * 40]
            running.executor.forget([job.attempt])
            await until(lambda: not record.record.exists(), "the removal of the record")
            assert not is_there(named)
            assert not is_there(folder)

    try:
        asyncio.run(play())
    finally:
        shutil.rmtree(short)


@pytest.mark.parametrize("written", ["{}/", "/{}//", "{}/."])
def test_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """A TMPDIR that ends with a slash, as on macOS, is the same folder: its link goes as well."""
    long = of_length(tmp_path, len(os.fsencode(tmp_path)) + 61)
    monkeypatch.setenv("TMPDIR", written.format(long))

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = job_of(running)
            named = await run(running, job)
            assert named.is_symlink()
            running.executor.forget([job.attempt])
            await until(lambda: not running.folder(job).record.exists(), "the removal of the record")
            try:
                assert not is_there(named)
            finally:
                named.unlink(missing_ok=True)
        assert names_in(long) == []

    asyncio.run(play())


def test_removed_by_the_next_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a service had no time to remove the next one does, also where only one of the two is left."""
    long = of_length(tmp_path, len(os.fsencode(tmp_path)) + 61)
    monkeypatch.setenv("TMPDIR", str(long))

    async def play() -> None:
        left = []
        async with execution(tmp_path) as running:
            for number in range(1, 4):
                job = job_of(running, number=number)
                named = await run(running, job)
                left.append((job.attempt, running.folder(job), named))
        (_, _, first), (_, _, second), _ = left
        first.unlink()
        shutil.rmtree(os.readlink(second))
        async with execution(tmp_path) as running:
            attempts = await running.executor.others()
            assert sorted(attempts) == sorted(attempt for attempt, _, _ in left)
            running.executor.forget(attempts)
            for _, folder, named in left:
                await until(lambda folder=folder: not folder.record.exists(), "the removal of the record")
                assert not is_there(named)
        assert names_in(long) == []

    asyncio.run(play())


def test_link_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link of that name which leads elsewhere is left alone, as are a folder and a file."""
    monkeypatch.setenv("TMPDIR", str(of_length(tmp_path, len(os.fsencode(tmp_path)) + 61)))

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = job_of(running)
            named = await run(running, job)
            folder, temporary = running.folder(job), Path(os.readlink(named))
            named.unlink()
            for make in (lambda: named.symlink_to(tmp_path), named.mkdir, named.touch):
                make()
                try:
                    assert evidence.temporary_files(folder, job.attempt.experiment_id) == [temporary]
                finally:
                    named.unlink() if named.is_symlink() or named.is_file() else named.rmdir()
            clearing.remove_records(running.workspace, [job.attempt])
            assert not is_there(temporary)

    asyncio.run(play())


@pytest.mark.parametrize("named", ["relative", "gone"])
def test_not_where_nothing_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """A service whose own TMPDIR is relative, or no longer there, gives its attempts folders below /tmp."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    monkeypatch.setenv("TMPDIR", named if named == "relative" else str(tmp_path / named))

    async def play() -> None:
        async with execution(tmp_path) as running:
            job = job_of(running)
            temporary = await run(running, job)
            assert temporary.parent == Path("/tmp")
            assert not temporary.is_symlink()
            running.executor.forget([job.attempt])
            await until(lambda: not running.folder(job).record.exists(), "the removal of the record")

    asyncio.run(play())


def test_home_that_the_script_removes(tmp_path: Path) -> None:
    """Where there is no service any more that would remove them, the supervisor does."""
    home = tmp_path / "home"
    home.mkdir()
    long = of_length(tmp_path, len(os.fsencode(tmp_path)) + 61)
    script = f'readlink "$TMPDIR" > {tmp_path}/led; echo "$TMPDIR" > {tmp_path}/named; rm -r {home}\n'
    with spawner() as running:
        running.send(job_for(home, script, temporary=str(long)))
        assert running.hear_of_the_end() == ["started"]
    named, led = ((tmp_path / name).read_text().strip() for name in ("named", "led"))
    assert Path(led).parent == long
    assert not os.path.lexists(named)
    assert list(long.iterdir()) == []
