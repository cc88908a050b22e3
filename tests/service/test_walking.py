"""Tests of working copies of whatever a script has made: deep, closed, mounted, with strange names, changing."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from grid.service.executors.supervisor.working_copy import Copier, remove_unchanged
from grid.service.system.removal import remove
from grid.service.system.walking import Place
from tests.support.trees import DEEP, STRANGE, as_somebody, bound, innermost_of, make_deep, nothing_left


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Leave nothing that pytest cannot remove."""
    with nothing_left(tmp_path):
        yield


def copier() -> Copier:
    """One that nothing ends."""
    return Copier(lambda: None)


def names_in(folder: Path) -> list[str]:
    """What is in a folder and below, by relative paths, in order."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_deep_folders(tmp_path: Path) -> None:
    """Thousands of nested folders are copied, laid over others, and removed where they equal the snapshot."""
    snapshot, work, earlier, again = (tmp_path / name for name in ("snapshot", "work", "earlier", "again"))
    make_deep(snapshot)
    make_deep(earlier)
    copier().copy(str(snapshot), str(work))
    assert innermost_of(work) == ["innermost"]
    again.mkdir()
    for folder in (work, again):
        copier().overlay(str(earlier), str(folder))
        assert innermost_of(folder) == ["innermost"]
    with closing(Place(str(work))) as place:
        for _ in range(DEEP):
            place.down("folder")
        os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=place.folder))
    for folder in (work, again):
        remove_unchanged(str(snapshot), str(folder))
    assert innermost_of(work) == ["made"]
    assert list(work.iterdir()) == [work / "folder"]
    assert list(again.iterdir()) == []


def test_strange_names(tmp_path: Path) -> None:
    """Names that are not UTF-8 are kept; sockets and pipes are left out; what links lead to is not touched."""
    snapshot, work, earlier, outside = (tmp_path / name for name in ("snapshot", "work", "earlier", "outside"))
    outside.mkdir()
    (outside / "kept").touch()
    for folder in (snapshot, earlier):
        inner = folder / os.fsdecode(STRANGE)
        inner.mkdir(parents=True)
        (inner / os.fsdecode(STRANGE + b"-file")).write_text("same")
        (inner / "link").symlink_to(os.fsdecode(STRANGE))
    (earlier / "linked").symlink_to(outside)
    os.mkfifo(earlier / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(earlier)  # a socket's path must be short
        listening.bind("socket")
        os.chdir(here)
    copier().copy(str(snapshot), str(work))
    copier().overlay(str(earlier), str(work))
    assert names_in(work) == [*names_in(snapshot), "linked"] or names_in(work) == ["linked", *names_in(snapshot)]
    # A script may have put a link in the place of a folder, and a pipe in that of a file.
    (snapshot / "linked").mkdir()
    (snapshot / "linked" / "kept").touch()
    (snapshot / "piped").touch()
    os.mkfifo(work / "piped")
    remove_unchanged(str(snapshot), str(work))
    assert names_in(work) == ["linked", "piped"]
    assert names_in(outside) == ["kept"]


def leave_closed(folder: Path, mode: int) -> None:
    """What the test below does, as another user."""
    snapshot, earlier, work = folder / "snapshot", folder / "earlier", folder / "work"
    for each in (snapshot, earlier):
        for inner in ("b/c", "b/empty", "d"):
            (each / "a" / inner).mkdir(parents=True)
        for file in ("a/b/file", "a/b/c/file", "a/d/file", "file"):
            (each / file).write_text("same")
    closed = ("a/b/c/file", "a/b/c", "a/b/empty", "a/b", "a")
    for name in closed:
        (earlier / name).chmod(mode)
    copier().copy(str(snapshot), str(work))
    copier().overlay(str(earlier), str(work))
    for each in (earlier, work):
        found = []
        for name in reversed(closed):
            found.append(stat.S_IMODE((each / name).lstat().st_mode))
            (each / name).chmod(0o700)
        assert found == [mode] * 5
    assert names_in(work) == names_in(earlier) == names_in(snapshot)
    (work / "a" / "b").chmod(mode)
    remove_unchanged(str(snapshot), str(work))
    (work / "a" / "b").chmod(0o700)
    assert names_in(work)[:2] == ["a", "a/b"]
    assert "file" not in names_in(work)
    assert "a/d" not in names_in(work)


@pytest.mark.parametrize("mode", [0, 0o500, 0o300, 0o600])
def test_closed_folders(mode: int) -> None:
    """What a script has closed for itself is carried over with its modes and stays as it was."""
    as_somebody(leave_closed, mode)


def test_what_is_mounted(tmp_path: Path) -> None:
    """What is mounted in a working copy is neither carried over nor reduced to what differs from the snapshot."""
    snapshot, earlier, work, outside = (tmp_path / name for name in ("snapshot", "earlier", "work", "outside"))
    for folder in (snapshot / "data", outside / "data", earlier / "data"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("same")
    (earlier / "other").touch()
    with bound(outside / "data", earlier / "data"):
        remove_unchanged(str(snapshot), str(earlier))
        assert names_in(outside) == ["data", "data/file"]
        work.mkdir()
        copier().overlay(str(earlier), str(work))
        assert names_in(work) == ["data", "other"]
    assert names_in(outside) == ["data", "data/file"]


def test_while_it_changes(tmp_path: Path) -> None:
    """Files and folders that vanish, and folders that are moved, while they are carried over or compared."""
    snapshot, earlier, outside = tmp_path / "snapshot", tmp_path / "earlier", tmp_path / "outside"
    outside.mkdir()
    for number in range(100):
        (snapshot / f"{number}" / "inner").mkdir(parents=True)
        (snapshot / f"{number}" / "inner" / "file").write_text("same")
        (outside / f"{number}" / "inner").mkdir(parents=True)
        (outside / f"{number}" / "inner" / "file").write_text("same")
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            for number in range(100):
                with suppress(OSError):
                    if number % 3 == 0:
                        shutil.rmtree(earlier / f"{number}")
                    else:
                        (earlier / f"{number}").rename(tmp_path / "moved")
                        (earlier / f"{number}").symlink_to(outside / f"{number}")
                with suppress(OSError):
                    (earlier / f"{number}").unlink()
                    (tmp_path / "moved").rename(earlier / f"{number}")

    for turn in range(5):
        shutil.copytree(snapshot, earlier)
        ended.clear()
        script = threading.Thread(target=change)
        script.start()
        try:
            for number in range(5):
                work = tmp_path / f"work-{turn}-{number}"
                work.mkdir()
                with suppress(OSError):  # said, if a folder was moved while it was read
                    copier().overlay(str(earlier), str(work))
                remove_unchanged(str(snapshot), str(earlier))
        finally:
            ended.set()
            script.join()
        remove(str(earlier))
        remove(str(tmp_path / "moved"))
        assert len(names_in(outside)) == 300
