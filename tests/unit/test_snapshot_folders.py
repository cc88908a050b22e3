"""Snapshots of folders as they are, and what holds for every archive."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from grid.errors import SourceError
from grid.source.archive import pack
from grid.source.ignore import walk
from grid.source.snapshot import snapshot
from tests.support.source_trees import git, members, paths, write
from tests.support.trees import make_deep, nothing_left

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


def test_a_folder_is_packed_as_it_is(folder, monkeypatch, tmp_path):
    """Everything in the script's folder is packed, empty folders too; the commit is the digest."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    write(folder, lib__a_dot_py="a")
    (folder / "empty").mkdir()
    with snapshot(str(folder / "train.py"), localdir=True) as taken:
        assert list(members(taken.archive)) == ["empty", "lib", "lib/a.py", "train.py"]
        assert (taken.script, taken.project, taken.commit_sha) == ("train.py", "folder", taken.digest)


def test_a_folder_behind_a_link(folder, tmp_path):
    """It does not matter by which path the script's folder was reached."""
    os.symlink("train.py", folder / "again.py")
    os.symlink(folder, tmp_path / "way")
    with snapshot(str(tmp_path / "way" / "again.py"), localdir=True) as taken:
        assert (list(members(taken.archive)), taken.script) == (["again.py", "train.py"], "again.py")


def test_a_folder_needs_no_git(folder, monkeypatch):
    """A machine without git can send a folder."""
    monkeypatch.setenv("PATH", "")
    assert paths(folder / "train.py", localdir=True) == ["train.py"]


def test_the_same_tree_gives_the_same_bytes(folder, tmp_path):
    """Neither place, times, owners nor the order of creation change the archive; content and the x bit do."""
    write(folder, b="b", a="a", **{"größe": "x", "n" * 120: "x"})
    (folder / "a").chmod(0o600)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in sorted(os.listdir(folder), reverse=True):
        shutil.copyfile(folder / name, copy / name)
        os.utime(copy / name, (1, 1))
    with (
        snapshot(str(folder / "train.py"), localdir=True) as first,
        snapshot(str(copy / "train.py"), localdir=True) as second,
    ):
        assert first.archive.read_bytes() == second.archive.read_bytes()
        for member in members(first.archive).values():
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (315532800, 0, 0, "", "")
            assert member.mode == 0o644
    (copy / "a").chmod(0o711)
    with snapshot(str(copy / "train.py"), localdir=True) as third:
        assert third.digest != first.digest
        assert members(third.archive)["a"].mode == 0o755


def test_a_commit_and_a_copy_of_it_are_the_same_archive(repository):
    """Both ways of packing make the same archive, so the same code is stored once."""
    shutil.move(repository / "code" / "train.py", repository / "train.py")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "moved")
    os.rmdir(repository / "code")
    train = str(repository / "train.py")
    with snapshot(train, localdir=True) as first, snapshot(train, localdir=False) as second:
        assert first.digest == second.digest


def test_gridignore_excludes_and_gitignore_stands_in_for_it(folder):
    """`.gitignore` counts only where there is no `.gridignore`, and `.git` is never part of it."""
    write(folder, _dot_gitignore="*.bin\n", a_dot_bin="x", b_dot_log="x", _dot_git__config="x", sub___dot_git="x")
    assert paths(folder / "train.py", localdir=True) == [".gitignore", "b.log", "sub", "train.py"]
    write(folder, _dot_gridignore="# logs\n*.log\n")
    assert paths(folder / "train.py", localdir=True) == [".gitignore", ".gridignore", "a.bin", "sub", "train.py"]


def test_an_excluded_folder_is_not_descended_into(folder):
    """What an excluded folder holds does not matter, not even a link out of the tree."""
    write(folder, _dot_gridignore=".venv/\n!.venv/keep\n", _dot_venv__keep="x")
    os.symlink("/", folder / ".venv" / "out")
    assert paths(folder / "train.py", localdir=True) == [".gridignore", "train.py"]


def test_an_excluded_entrypoint_is_refused(folder):
    """A script that would not be part of the snapshot cannot be run."""
    write(folder, _dot_gridignore="*.py\n")
    with pytest.raises(SourceError, match=r"'train\.py' is excluded by \.gridignore.*`!train\.py`"):
        snapshot(str(folder / "train.py"), localdir=True)


def test_sockets_and_fifos_are_left_out_with_a_warning(folder, monkeypatch):
    """What cannot be packed is left out, and the user is told."""
    monkeypatch.chdir(folder)
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with snapshot("train.py", localdir=True) as taken:
            assert list(members(taken.archive)) == ["train.py"]
            assert taken.warnings == ("left out, because only files, folders and links can be sent: fifo, socket",)


def test_more_than_two_gibibytes_are_refused_with_the_largest_paths(folder, tmp_path):
    """Nothing is written, and the message says what to exclude and where."""
    write(folder, data__deep__big_dot_bin="", data__small="", half="")
    os.truncate(folder / "data" / "deep" / "big.bin", 3 * 1024**3)
    os.truncate(folder / "data" / "small", 2048)
    os.truncate(folder / "half", 512 * 1024**2)
    with pytest.raises(SourceError) as refusal:
        snapshot(str(folder / "train.py"), localdir=True)
    message = str(refusal.value)
    assert "3.5 GiB" in message
    assert "at most 2.0 GiB" in message
    assert "data/deep/big.bin (3.0 GiB), half (512 MiB)" in message.replace("data (3.0 GiB), ", "")
    assert "data/deep (" not in message
    assert ".gridignore" in message
    assert list((tmp_path / "tmp").iterdir()) == []


@contextmanager
def _without_privileges(*folders: Path) -> Iterator[None]:
    """Be a user who cannot read everything: root becomes another user meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    for folder in folders:
        os.chown(folder, nobody, -1)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_cannot_be_read_is_named(monkeypatch):
    """An unreadable file or folder stops the snapshot, with its path, and no archive is left."""
    # Not in tmp_path, which only its owner can enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as place, tempfile.TemporaryDirectory(dir="/tmp") as archives:
        monkeypatch.setattr(tempfile, "tempdir", archives)
        root = Path(place)
        write(root, train_dot_py="print(1)\n")
        snapshot(str(root / "train.py"), localdir=True).archive.unlink()  # loads what it needs while that can be read
        (root / "secret").write_text("x")
        (root / "secret").chmod(0)
        user = (root, Path(archives))
        with _without_privileges(*user), pytest.raises(SourceError, match=r"cannot read /.*/secret: Permission denied"):
            snapshot(str(root / "train.py"), localdir=True)
        (root / "secret").unlink()
        (root / "folder").mkdir(mode=0)
        with _without_privileges(*user), pytest.raises(SourceError, match=r"cannot read /.*/folder: Permission denied"):
            snapshot(str(root / "train.py"), localdir=True)
        assert os.listdir(archives) == []


def test_thousands_of_nested_folders(folder):
    """What lies too deep to be sent is named by its outermost folders; excluded, it is in nobody's way."""
    with nothing_left(folder):
        make_deep(folder / "made", name="deep")
        with pytest.raises(SourceError, match=r"folder/made/deep/deep/… lies more than 200 folders deep.*exclude it"):
            snapshot(str(folder / "train.py"), localdir=True)
        write(folder, _dot_gridignore="made/\n")
        assert paths(folder / "train.py", localdir=True) == [".gridignore", "train.py"]


def test_paths_that_are_too_long(folder):
    """A path that is longer than the system takes is named as far as it can be read."""
    with nothing_left(folder):
        make_deep(folder / "made", depth=30, name="n" * 200)
        with pytest.raises(SourceError, match=r"cannot read /.*/made/n+.*…: File name too long; move it elsewhere"):
            snapshot(str(folder / "train.py"), localdir=True)


def test_what_vanishes_or_changes_its_kind_meanwhile(folder):
    """A file that was removed since the walk is left out; one that is a pipe or a link by now is refused at once."""
    write(folder, gone="x", kept="x")
    tree = walk(folder)
    (folder / "gone").unlink()
    archive, *_ = pack(folder, tree)
    try:
        assert list(members(archive)) == ["kept", "train.py"]
    finally:
        archive.unlink()
    for change in (lambda: os.mkfifo(folder / "kept"), lambda: os.symlink("/etc/hostname", folder / "kept")):
        (folder / "kept").unlink()
        change()
        with pytest.raises(SourceError, match=r"cannot read /.*/kept: "):
            pack(folder, tree)


def test_folders_that_vanish_while_it_walks(folder):
    """A folder in which another program makes and removes things is packed as it is found."""
    ended = threading.Event()

    def change():
        while not ended.is_set():
            for number in range(50):
                write(folder / "busy", **{f"{number}__file": "x"})
            shutil.rmtree(folder / "busy")

    script = threading.Thread(target=change)
    script.start()
    try:
        for _ in range(20):
            assert "train.py" in paths(folder / "train.py", localdir=True)
    finally:
        ended.set()
        script.join()


def test_an_archive_that_cannot_be_written_is_not_blamed_on_the_source(folder, monkeypatch, tmp_path):
    """A temporary folder that does not exist is named, with the way to choose another."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match=r"cannot write a snapshot into .*nowhere.*TMPDIR"):
        snapshot(str(folder / "train.py"), localdir=True)


@pytest.mark.parametrize("localdir", [True, False])
def test_a_missing_entrypoint_is_refused(folder, localdir):
    """A path that is not a file is named."""
    with pytest.raises(SourceError, match=r"nowhere\.py' is not a file"):
        snapshot(str(folder / "nowhere.py"), localdir=localdir)


def test_importing_it_loads_nothing_costly():
    """The modules that pack, parse YAML, or run processes are loaded by the first use."""
    code = (
        "import sys, grid.source.snapshot, grid.definition.run_definition; "
        "print({'yaml', 'tarfile', 'subprocess', 'difflib', 'asyncio', 'gql'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "set()\n"
