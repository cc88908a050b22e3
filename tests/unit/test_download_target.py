"""The folder that files are downloaded to: nothing is written through links, and what is incomplete is called so."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid.downloads.names import PARTS, Place
from grid.downloads.parts import PartFile
from grid.downloads.target import Target
from grid.errors import DownloadFailed

HERE = Place(("exp0", "ckpt"), "best.pt")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """A target folder that does not exist yet."""
    opened = Target(tmp_path / "some" / "out")
    yield opened
    opened.close()


def test_file_takes_its_place(target: Target) -> None:
    """A file is incomplete in the folder for such, and then in its place; nothing else is left."""
    part = PartFile(target, HERE)
    part.begin('"1-2"')
    part.write(b"hello ")
    part.write(b"world")
    folder = target.folder / "exp0" / "ckpt"
    assert list(folder.iterdir()) == []
    assert {path.name for path in (target.folder / PARTS).iterdir()} == {HERE.part, HERE.note}

    assert part.complete() == folder / "best.pt"

    assert part.sha256 == hashlib.sha256(b"hello world").hexdigest()
    assert [path.name for path in folder.iterdir()] == ["best.pt"]
    assert (folder / "best.pt").read_bytes() == b"hello world"
    assert target.has(HERE, 11)
    assert not target.has(HERE, 12)
    target.close()
    assert [path.name for path in target.folder.iterdir()] == ["exp0"]


def test_incomplete_file_goes_on(target: Target) -> None:
    """What an incomplete file has is kept, with what it is a part of."""
    part = PartFile(target, HERE)
    part.begin('"1-2"')
    part.write(b"hello ")
    part.close()

    part = PartFile(target, HERE)
    assert (part.size, part.read_note()) == (6, '"1-2"')
    while part.read_on():
        pass
    part.write(b"world")
    assert part.sha256 == hashlib.sha256(b"hello world").hexdigest()
    assert part.complete().read_bytes() == b"hello world"


def test_two_downloads_of_one_file(target: Target) -> None:
    """A file that another process is writing is left to it."""
    part = PartFile(target, HERE)
    with pytest.raises(DownloadFailed, match="best.pt is being downloaded by another process"):
        PartFile(target, HERE)
    part.close()
    PartFile(target, HERE).close()
    assert list((target.folder / PARTS).iterdir()) == []


@pytest.mark.parametrize("name", ["exp0", "exp0/ckpt"])
@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
def test_folder_that_is_none(target: Target, tmp_path: Path, name: str, kind: str) -> None:
    """A link, or a file, where a folder should be is not followed and not replaced; the error says which it is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (target.folder / "exp0").mkdir() if "/" in name else None
    place = target.folder / name
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(elsewhere if kind == "link" else tmp_path / "nowhere")

    for attempt in (lambda: PartFile(target, HERE), lambda: target.has(HERE, 1)):
        with pytest.raises(DownloadFailed) as caught:
            attempt()
        assert f"{target.folder}/{name} is a link, or not a folder" in str(caught.value)
        assert str(target.path(HERE)) in str(caught.value)
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_link_in_the_place_of_a_file(target: Target, tmp_path: Path) -> None:
    """A link in the place of the file is replaced, and so is one in that of the incomplete file, or a second name."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = target.folder / "exp0" / "ckpt"
    folder.mkdir(parents=True)
    parts = target.folder / PARTS
    parts.mkdir()
    (folder / "best.pt").symlink_to(precious)
    for make in (os.symlink, os.link):
        make(precious, parts / HERE.part)
        os.symlink(precious, parts / HERE.note)
        assert not target.has(HERE, 4)

        part = PartFile(target, HERE)
        assert part.read_note() == ""
        part.begin('"1-2"')
        part.write(b"theirs")
        path = part.complete()

        assert precious.read_text() == "mine"
        assert path.read_bytes() == b"theirs"
        assert not path.is_symlink()


def test_pipe_in_the_place_of_an_incomplete_file(target: Target) -> None:
    """A pipe there is not waited for."""
    folder = target.folder / "exp0" / "ckpt"
    folder.mkdir(parents=True)
    (target.folder / PARTS).mkdir()
    os.mkfifo(target.folder / PARTS / HERE.part)
    os.mkfifo(folder / "best.pt")

    part = PartFile(target, HERE)
    part.write(b"x")
    assert part.complete().read_bytes() == b"x"


def test_folder_in_the_place_of_a_file(target: Target) -> None:
    """A folder there stays; the error names it."""
    (target.folder / "exp0" / "ckpt" / "best.pt" / "more").mkdir(parents=True)

    with pytest.raises(DownloadFailed, match="ckpt/best.pt is not downloaded: there is a folder of that name"):
        target.has(HERE, 1)


def test_what_the_system_refuses_has_a_name(target: Target) -> None:
    """An error of the system says which file it is about."""
    long = Place(("exp0",), "x" * 300)
    part = PartFile(target, long)
    part.write(b"x")
    with pytest.raises(OSError, match="File name too long.*x{300}"):
        part.complete()
    part.close()
    deep = Place(("exp0", "y" * 300), "x")
    with pytest.raises(OSError, match="File name too long.*y{300}"):
        PartFile(target, deep)


def test_target_may_be_a_link(tmp_path: Path) -> None:
    """The target folder itself is where its user says, links or not."""
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    target = Target(tmp_path / "out")
    part = PartFile(target, HERE)
    part.write(b"x")
    part.complete()
    target.close()

    assert (tmp_path / "real" / "exp0" / "ckpt" / "best.pt").read_bytes() == b"x"


def test_target_tells_whether_case_counts(target: Target) -> None:
    """It finds out by trying, and leaves nothing behind."""
    assert target.is_case_sensitive() == (not (target.folder.parent / "OUT").exists())
    target.close()
    assert list(target.folder.iterdir()) == []


def test_what_takes_the_place_is_what_has_arrived(target: Target) -> None:
    """Whatever somebody puts in the place of what has arrived does not take the place of the file."""
    part = PartFile(target, HERE)
    part.begin('"1-2"')
    part.write(b"theirs")
    other = target.folder / PARTS / "other"
    other.write_bytes(b"evil")
    other.rename(target.folder / PARTS / HERE.part)

    with pytest.raises(DownloadFailed, match="best.pt is not downloaded: somebody has replaced"):
        part.complete()

    part.close()
    assert not target.path(HERE).exists()


@pytest.mark.parametrize("name", ["exp0", PARTS])
def test_folder_that_is_removed_meanwhile(target: Target, name: str) -> None:
    """A folder that somebody removes between two files is made again."""
    assert target.write(HERE, b"1").read_bytes() == b"1"
    shutil.rmtree(target.folder / name)
    assert not target.has(HERE, 2)
    assert target.write(HERE, b"2").read_bytes() == b"2"
    shutil.rmtree(target.folder / name)
    part = PartFile(target, HERE)
    part.write(b"3")
    assert part.complete().read_bytes() == b"3"


def test_link_in_the_place_of_the_folder_for_parts(target: Target, tmp_path: Path) -> None:
    """A link there is not followed."""
    (tmp_path / "elsewhere").mkdir()
    (target.folder / PARTS).symlink_to(tmp_path / "elsewhere")
    for attempt in (lambda: PartFile(target, HERE), lambda: target.write(HERE, b"x"), target.is_case_sensitive):
        with pytest.raises(DownloadFailed, match=f"{PARTS} is a link"):
            attempt()
    assert list((tmp_path / "elsewhere").iterdir()) == []
