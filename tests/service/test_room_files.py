"""Tests of what counts as an artifact: in trees of any shape, that change while they are read, and in which order."""

from __future__ import annotations

import os
import shutil
import socket
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid.service.executors import room_files
from grid.service.executors.local_files import LocalFiles
from grid.service.executors.protocol import OUTPUT, Passed, Written
from grid.service.executors.supervisor.working_copy import Copier
from grid.service.system import removal
from grid.service.system.workspace import AttemptFolder, Workspace
from tests.support.trees import as_somebody, bound

WRITTEN = Written("e", 1, 2)
SNAPSHOT = "d"


class Room:
    """The room of an attempt, made from a snapshot."""

    def __init__(self, home: Path, layout: int = 2, number: int = 1) -> None:
        self.workspace = Workspace(home)
        self.workspace.prepare()
        self.snapshot = self.workspace.snapshot(SNAPSHOT)
        (self.snapshot / "lib" / "deep").mkdir(parents=True)
        for name in ("run.py", "lib/code.py", "lib/deep/more.py"):
            (self.snapshot / name).write_text(name)
        self.written = WRITTEN._replace(layout=layout, number=number)
        self.folder: AttemptFolder = self.workspace.attempt("e", number, layout)
        self.folder.room.parent.mkdir(parents=True, exist_ok=True)
        if layout > 1:
            self.folder.room.mkdir()
        Copier(lambda: None).copy(str(self.snapshot), str(self.folder.work))
        self.folder.output.write_text("printed")
        self.files = LocalFiles(self.workspace)

    @property
    def work(self) -> Path:
        """The working copy."""
        return self.folder.work

    def begin(self) -> None:
        """Let the script be started after all that was done to its files, by more than their times are exact."""
        latest = max(path.lstat().st_ctime_ns for path in self.work.rglob("*"))
        self.written = self.written._replace(started_at=latest // 1000 + 20_000)

    def put(self, *names: str) -> None:
        """Make files, each with its name in it."""
        for name in names:
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def paths(self, after: str | None = None) -> list[str]:
        """The paths that are listed."""
        found = self.files.list(self.written, SNAPSHOT, after)
        return [each.path for each in found if not isinstance(each, Passed)]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A room whose script has changed nothing yet."""
    before = set(os.listdir("/proc/self/fd"))
    yield Room(tmp_path / "home")
    removal.remove(str(tmp_path / "home"))  # which pytest cannot, if it is very deep
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_what_the_script_has_made(room: Room) -> None:
    """New and changed files are listed, with their states; unchanged ones, folders and caches are not."""
    assert room.paths() == []
    room.put("new.txt", "sub/x/new.txt", "lib/new.py", "__pycache__/a.pyc", "lib/deep/__pycache__/b/c.pyc")
    (room.work / "run.py").write_text("other")
    (room.work / "empty").mkdir()
    (room.folder.room / "data").mkdir()
    (room.folder.room / "data" / "y").write_text("yy")
    assert room.paths() == ["../data/y", "lib/new.py", "new.txt", "run.py", "sub/x/new.txt"]
    (first, *_) = room.files.list(room.written, SNAPSHOT)
    status = (room.folder.room / "data" / "y").stat()
    assert (first.size, first.inode, first.modified_at) == (2, status.st_ino, status.st_mtime_ns // 1000)


def test_what_equals_the_snapshot(room: Room) -> None:
    """Contents decide, whatever a script has done to times; what was put there by another name is new."""
    times = (room.work / "run.py").stat()
    (room.work / "run.py").touch()
    assert room.paths() == []
    (room.work / "run.py").write_text("RUN.PY")
    assert room.paths() == ["run.py"]
    os.utime(room.work / "run.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    room.written = room.written._replace(started_at=(room.work / "run.py").stat().st_ctime_ns // 1000 - 1)
    assert room.paths() == ["run.py"]  # it was changed after the script was started
    shutil.copy2(room.snapshot / "run.py", room.work / "copy.py")
    shutil.copy2(room.snapshot / "run.py", room.work / "run.py")
    assert room.paths() == ["copy.py"]
    shutil.rmtree(room.snapshot)
    assert room.paths() == ["copy.py", "lib/code.py", "lib/deep/more.py", "run.py"]


def test_times_decide_where_they_can(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as neither size nor time tells of a change, no content is read."""
    read: list[str] = []
    monkeypatch.setattr(room_files, "are_equal", lambda *where: read.append(where[2]) or False)
    room.begin()
    assert room.paths() == []
    assert read == []
    (room.work / "run.py").touch()
    (room.work / "lib" / "code.py").write_text("longer than before")
    assert room.paths() == ["lib/code.py", "run.py"]
    assert read == ["run.py"]


def test_what_an_earlier_attempt_has_changed(tmp_path: Path) -> None:
    """What an attempt began with may be another one's work, though its size and its time are the snapshot's."""
    room = Room(tmp_path / "home", number=2)
    times = (room.snapshot / "run.py").stat()
    (room.work / "run.py").write_text("RUN.PY")
    os.utime(room.work / "run.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    room.begin()
    assert room.paths() == ["run.py"]


def test_source_copied_over_source(room: Room) -> None:
    """All files of a snapshot have one time: one that was copied over another of its size is changed all the same."""
    for name in ("a.json", "b.json"):
        for folder in (room.snapshot, room.work):
            (folder / name).write_text(name)
            os.utime(folder / name, (315532800, 315532800))
    room.begin()
    assert room.paths() == []
    room.written = room.written._replace(started_at=time.time_ns() // 1000)  # and it copies at once
    shutil.copy2(room.work / "a.json", room.work / "b.json")
    assert room.paths() == ["b.json"]


def test_mounted_over_a_name(room: Room) -> None:
    """A file that something is mounted on is neither listed nor opened, be it on the same disk."""
    room.put("other", "target", "z")
    with bound(room.work / "other", room.work / "target"):
        assert room.paths() == ["other", "z"]
        assert room.files.find(room.written, SNAPSHOT, "target") is None
        assert room.files.open(room.written, "target") is None


def without_rights(folder: Path, _: int) -> None:
    """What may not be read is left out, and cannot be opened; the rest is there."""
    room = Room(folder / "home")
    room.put("closed/x", "a", "y", "z", "listed/y")
    (room.work / "z").chmod(0)
    (room.work / "closed").chmod(0)
    (room.work / "listed").chmod(0o400)
    assert room.paths() == ["a", "y"]
    for path in ("z", "closed/x", "listed/y"):
        assert room.files.find(room.written, SNAPSHOT, path) is None
        assert room.files.open(room.written, path) is None
    assert [state.path for _, state in room.files.open_all(room.written, SNAPSHOT, ["z", "closed/x", "y"])] == ["y"]


def test_without_rights() -> None:
    """A user whom modes stop does not list what it cannot open."""
    as_somebody(without_rights, 0)


def test_bundles_are_of_what_is_listed(room: Room) -> None:
    """Whatever paths are asked for, what is opened together is what is listed."""
    room.put("a", "sub/b", "__pycache__/x", "sub/__pycache__/y")
    (room.folder.room / "c").write_text("c")
    paths = [
        "a",
        "run.py",
        "__pycache__/x",
        "sub/__pycache__/y",
        "sub/b",
        "/a",
        "lib/code.py",
        "../c",
        "../work/a",
        OUTPUT,
    ]
    found = [
        state.path for _, state in room.files.open_all(room.written, SNAPSHOT, [*paths, "../../output", "x" * 20_000])
    ]
    assert found == ["a", "sub/b", "../c"]
    for path in paths:
        assert (room.files.find(room.written, SNAPSHOT, path) is None) == (path not in found)


def test_order_and_places(room: Room) -> None:
    """Paths come by code points, and from each of them on exactly what comes after it."""
    names = [
        "a-b",
        "a/c",
        "a/d/e",
        "a/d-",
        "a0",
        "!x",
        ".hidden",
        ".-x",
        "z",
        "\u00e4/b",
        "\U0001f600",
        "a b/c",
        "\uffff",
    ]
    room.put(*names)
    for name in ("x", "work2", "a"):
        (room.folder.room / name).write_text(name)
    listed = room.paths()
    assert listed == sorted([*names, "../x", "../work2", "../a"])
    for place, path in enumerate(listed):
        assert room.paths(path) == listed[place + 1 :]
        found = room.files.find(room.written, SNAPSHOT, path)
        assert found is not None
        assert found == next(room.files.list(room.written, SNAPSHOT, path[:-1]), None) or found.path == path
    for between in ("", "a", "a/", "a/d/", "\U0010ffff", "../", ".."):
        assert room.paths(between) == [path for path in listed if path > between]


def test_many(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few entries are held at a time, all of them come, in order."""
    names = [f"{outer}/{inner}/{number}" for outer in range(3) for inner in range(4) for number in range(23)]
    room.put(*names, *(f"{number:03}.txt" for number in range(50)))
    expected = room.paths()
    assert len(expected) == len(names) + 50
    monkeypatch.setattr(room_files, "_AT_ONCE", 5)
    monkeypatch.setattr(room_files, "_IN_ALL", 7)
    assert room.paths() == expected == sorted(expected)
    assert room.paths(expected[100]) == expected[101:]


def test_no_way_out(room: Room, tmp_path: Path) -> None:
    """What is no regular file, or is reached through a link, is not there, wherever the link is."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    room.put("real")
    os.mkfifo(room.work / "pipe")
    (room.work / "link").symlink_to("real")
    (room.work / "out").symlink_to(tmp_path / "secret")
    (room.folder.room / "out").symlink_to(tmp_path / "secret")
    with socket.socket(socket.AF_UNIX) as bound:
        where = os.getcwd()
        os.chdir(room.work)
        bound.bind("socket")
        os.chdir(where)
        assert room.paths() == ["real"]
    for path in (
        *(
            "pipe",
            "link",
            "out",
            "out/key",
            "socket",
            "../out/key",
            "",
            "/",
            "../",
            "..",
            ".",
            "./real",
            "real/",
            "//real",
        ),
        *("lib/../real", "../work/real", "../../output", "../../../../secret/key", str(tmp_path / "secret" / "key")),
        *("a\0b", "\udc80", "\\x72eal", "real/x", "run.py", "__pycache__/x"),
    ):
        assert room.files.find(room.written, SNAPSHOT, path) is None, path
        if path not in ("../../output", "run.py"):
            assert room.files.open(room.written, path) is None, path
    assert room.files.read(room.written, OUTPUT, 0, 99) == b"printed"


@pytest.mark.parametrize("which", ["work", "room", "attempt", "experiment"])
def test_folders_replaced_by_links(room: Room, tmp_path: Path, which: str) -> None:
    """A script that puts a link in the place of its own folders shows nothing but that there is nothing."""
    room.put("real")
    folder = {
        "work": room.work,
        "room": room.folder.room,
        "attempt": room.folder.path,
        "experiment": room.folder.path.parent,
    }[which]
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert room.paths() == []
    assert room.files.open(room.written, "real") is None
    assert list(room.files.open_all(room.written, SNAPSHOT, ["real"])) == []


def test_deep(room: Room) -> None:
    """Folders may be nested deeper than any path reaches."""
    where = os.open(room.work, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=where)
        inner = os.open("d", os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = inner
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=where))
    os.close(where)
    room.put("e")
    path = "d/" * 3_000 + "f"
    assert room.paths() == [path, "e"]
    assert room.paths(path) == ["e"]
    found = room.files.open(room.written, path)
    assert found is not None
    found[0].close()


def test_deeper_than_can_be_fetched(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed is what has a path that fits in an address; memory does not grow with the square of the depth."""
    monkeypatch.setattr(room_files, "_LONGEST", 4 << 10)
    deepest = (4 << 10) // 2
    where = os.open(room.work, os.O_RDONLY)
    for depth in range(deepest + 100):
        if depth in (deepest - 1, deepest, deepest + 99):
            os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=where))
        os.mkdir("d", dir_fd=where)
        inner = os.open("d", os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = inner
    os.close(where)
    room.put("e")
    tracemalloc.start()
    try:
        paths = room.paths()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert paths == ["d/" * (deepest - 1) + "f", "e"]
    assert most < 2_000_000  # a path for each folder is 4 MB
    path = "d/" * deepest + "f"
    assert room.files.find(room.written, SNAPSHOT, path) is None


def test_paths_of_other_alphabets(room: Room) -> None:
    """How long a path is in an address is what counts."""
    parts = ["\u00e4" * 100] * 81
    where = os.open(room.work, os.O_RDONLY)
    for part in parts:
        os.mkdir(part, dir_fd=where)
        inner = os.open(part, os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = inner
    room_left = (16 << 10) - 81 * 201
    os.close(os.open("f" * room_left, os.O_CREAT | os.O_WRONLY, dir_fd=where))
    os.close(os.open("f" * (room_left + 1), os.O_CREAT | os.O_WRONLY, dir_fd=where))
    os.close(where)
    assert [path.rpartition("/")[2] for path in room.paths()] == ["f" * room_left]


def test_how_far_it_has_come(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk past much that is no artifact says where it is, and goes on from there as from a file."""
    monkeypatch.setattr(room_files, "_PATIENCE", 3)
    for number in range(10):
        (room.work / "empty" / f"{number}").mkdir(parents=True)
    room.put("empty/5/x", "empty/7/y", "z")
    for name in ("a", "b"):
        (room.folder.room / name / "c" / "d").mkdir(parents=True)
    (room.folder.room / "b" / "x").write_text("x")
    whole = list(room.files.list(room.written, SNAPSHOT))
    listed = [each.path for each in whole]
    assert listed == sorted(listed)
    assert sum(isinstance(each, Passed) for each in whole) == 7
    files = [each.path for each in whole if not isinstance(each, Passed)]
    assert files == ["../b/x", "empty/5/x", "empty/7/y", "z"]
    for each in whole:
        assert room.paths(each.path) == [path for path in files if path > each.path]


def test_names_that_are_not_text(room: Room) -> None:
    """Each name has a spelling of its own, by which it is found."""
    folder = os.fsencode(room.work)
    raw = [b"\xff", b"\\xff", b"\\", b"\xc3\xa4", b"\xc3", b"new\nline", b"\xed\xa0\x80", b"\\x5cxff"]
    for name in raw:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)
    listed = room.paths()
    assert len(set(listed)) == len(raw)
    assert listed == sorted(listed)
    assert "\\xff" in listed
    assert "\\x5cxff" in listed
    found = {}
    for file, state in room.files.open_all(room.written, SNAPSHOT, listed):
        found[state.path] = file.read()
    assert sorted(found.values()) == sorted(raw)
    assert [path.encode() for path in listed]  # which is text


def test_moved_away_meanwhile(room: Room, tmp_path: Path) -> None:
    """A folder that is moved away while the walk is in it costs the rest of it, and nothing else."""
    room.put("a/1", "b/c/1", "b/c/2", "b/d", "e")
    walk = room.files.list(room.written, SNAPSHOT)
    seen = []
    for state in walk:
        seen.append(state.path)
        if state.path == "b/c/1":
            (room.work / "b" / "c").rename(tmp_path / "elsewhere")
    assert seen[0] == "a/1"
    assert seen[-2:] == ["b/d", "e"]
    walk = room.files.list(room.written, SNAPSHOT)
    assert next(walk).path == "a/1"
    shutil.rmtree(room.work)
    assert [state.path for state in walk] == []
    assert room.paths() == []


def test_first_layout(tmp_path: Path) -> None:
    """Attempts that were begun before rooms existed have a working copy, and nothing beside it."""
    room = Room(tmp_path / "home", layout=1)
    room.put("new")
    (room.folder.path / "exit.json").write_text("{}")
    assert room.paths() == ["new"]
    assert room.files.find(room.written, SNAPSHOT, "../new") is None
    assert room.files.open(room.written, "../exit.json") is None
    assert room.files.read(room.written, OUTPUT, 0, 99) == b"printed"
