"""Tests of unpacking an archive from an untrusted client: what is refused, and that nothing is written elsewhere."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.service.domain.errors import NotAnArchive, SnapshotRefused
from grid.service.domain.unpacking import unpack


def file(name: str, content: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file."""
    return member(name, tarfile.REGTYPE, size=len(content), **fields), content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link."""
    return member(name, tarfile.SYMTYPE, linkname=target), b""


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    """A folder."""
    return member(name, tarfile.DIRTYPE), b""


def other(name: str, kind: bytes, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Something that has no place in a snapshot."""
    return member(name, kind, **fields), b""


def member(name: str, kind: bytes, **fields: Any) -> tarfile.TarInfo:
    """The header of a member."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def archive_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Write an archive, whatever its members are."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


class Place:
    """A folder to unpack into, with something beside it that must stay as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outside = path / "outside"
        (self.outside / "inner").mkdir(parents=True)
        (self.outside / "kept").write_text("kept")
        self.tree = path / "incoming" / "tree"
        self.tree.parent.mkdir()
        self.archive = path / "archive.tar"

    def unpack(self, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
        """Unpack an archive of these members."""
        unpack(archive_of(self.archive, list(members)), self.tree)
        return self.tree

    def check_outside(self) -> None:
        """Require that nothing is written, made or removed beside the tree."""
        beside = {str(path.relative_to(self.path)) for path in self.path.rglob("*") if self.tree not in path.parents}
        assert beside == {"archive.tar", "incoming", "incoming/tree", "outside", "outside/inner", "outside/kept"}
        assert (self.outside / "kept").read_text() == "kept"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place of the test's own."""
    return Place(tmp_path / "place")


def test_what_a_snapshot_may_hold(place: Place) -> None:
    """Files with content, time and executable bit, folders, and links within the tree come out as they went in."""
    tree = place.unpack(
        folder("folder"),
        folder("folder"),
        file("folder/script.sh", b"echo", mode=0o755, mtime=1_000_000_000.5),
        file("./deep/er/file.py", b"pass", mode=0o4644),
        file("ünïcode \n name", b""),
        link("folder/up", "../deep/er"),
        link("dangling", "nowhere"),
        link("loop", "loop"),
    )
    found = {str(path.relative_to(tree)) for path in tree.rglob("*")}
    assert found == {
        "folder", "folder/script.sh", "folder/up", "deep", "deep/er", "deep/er/file.py", "ünïcode \n name", "dangling",
        "loop",
    }  # fmt: skip
    script = (tree / "folder/script.sh").stat()
    assert (script.st_size, script.st_mtime) == (4, 1_000_000_000.5)
    assert [stat.S_IMODE((tree / name).stat().st_mode) for name in ("folder/script.sh", "deep/er/file.py", "deep")] == [
        0o700, 0o600, 0o700,
    ]  # fmt: skip
    assert (tree / "folder/up/file.py").read_text() == "pass"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([file("/etc/passwd")], "outside the folder"),
        ([file("../outside/kept")], "outside the folder"),
        ([file("a/../../outside/kept")], "outside the folder"),
        ([folder("..")], "outside the folder"),
        ([link("../outside/link", "kept")], "outside the folder"),
        ([link("out", "/etc")], "leads out of it"),
        ([link("out", "../../outside")], "leads out of it"),
        ([folder("a"), link("a/b", ".."), link("c", "a/b/../../outside")], "leads out of it"),
        ([link("one", "two"), link("two", "three"), link("three", "../../outside")], "leads out of it"),
        ([link("out", "../../outside"), file("out/written")], "through a link"),
        ([link("out", "../../outside"), file("out/new/written")], "through a link"),
        ([link("out", "../../outside"), folder("out/made")], "through a link"),
        ([link("out", "../../outside"), folder("out")], "through a link"),
        ([folder("in"), link("within", "in"), file("within/written")], "through a link"),
        ([file("a"), file("a/b")], "through a link or a file"),
        ([file("a"), folder("a")], "through a link or a file"),
        ([file("a"), file("a")], "appears twice"),
        ([file("a"), link("a", "b")], "appears twice"),
        ([link("a", "../../outside/kept"), file("a")], "appears twice"),
        ([folder("a"), file("a")], "appears twice"),
        ([file(".")], "appears twice"),
        ([file("a"), other("b", tarfile.LNKTYPE, linkname="a")], "neither a regular file"),
        ([other("b", tarfile.LNKTYPE, linkname="/etc/passwd")], "neither a regular file"),
        ([other("null", tarfile.CHRTYPE, devmajor=1, devminor=3)], "neither a regular file"),
        ([other("disk", tarfile.BLKTYPE, devmajor=8)], "neither a regular file"),
        ([other("pipe", tarfile.FIFOTYPE)], "neither a regular file"),
        (
            [file("sparse", b"", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"})],
            "neither a regular file",
        ),
        ([file("n" * 300)], "cannot be written here"),
        ([link("empty", "")], "cannot be written here"),
        ([file("/".join("d" * 201))], "folders deep"),
        ([file("a", pax_headers={"mtime": "1e400"})], "not an uncompressed tar archive"),
        ([other("null", tarfile.SYMTYPE, pax_headers={"linkpath": "a\0b"})], "not an uncompressed tar archive"),
    ],
)
def test_what_is_refused(place: Place, members: list[tuple[tarfile.TarInfo, bytes]], why: str) -> None:
    """What could write elsewhere, or is not a plain file, is refused by name, and nothing is written elsewhere."""
    with pytest.raises(SnapshotRefused, match=why):
        place.unpack(*members)
    place.check_outside()


@pytest.mark.parametrize("content", [b"x", b"PK\3\4" + bytes(600), b"\x1f\x8b" + bytes(600), bytes(range(256)) * 4])
def test_what_is_not_an_archive(place: Place, content: bytes) -> None:
    """A zip, a compressed archive, noise: each is refused."""
    place.archive.write_bytes(content)
    with pytest.raises(NotAnArchive, match="not an uncompressed tar archive"):
        unpack(place.archive, place.tree)


def test_archive_that_is_cut_off(place: Place) -> None:
    """An archive that ends within a file is refused."""
    whole = archive_of(place.archive, [file("a", bytes(10_000))]).read_bytes()
    place.archive.write_bytes(whole[:5_000])
    with pytest.raises(NotAnArchive, match="not an uncompressed tar archive"):
        unpack(place.archive, place.tree)


NAMES = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "", "/", "tree", "outside"]), min_size=1, max_size=4).map(
    "/".join
)
TARGETS = NAMES | st.sampled_from(["../../outside", "/", "../tree/a", "a\0", "x" * 5_000])
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
MEMBERS = st.builds(
    lambda name, kind, target: (member(name, kind, linkname=target if kind in (b"1", b"2") else ""), b""),
    NAMES,
    KINDS,
    TARGETS,
)


def in_a_place(check: Callable[[Place], None]) -> None:
    """Check something in a new place, and remove it: hypothesis gives a test one folder for all its examples."""
    path = Path(tempfile.mkdtemp())
    try:
        check(Place(path / "place"))
    finally:
        shutil.rmtree(path)


def leads_nowhere(path: Path) -> bool:
    """Whether a link leads to itself in the end: for such links `realpath` returns arbitrary paths."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


@settings(max_examples=200, deadline=None)
@given(st.lists(MEMBERS, max_size=7))
def test_any_archive_is_unpacked_inside_or_refused(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Whatever the members are, nothing is written beside the tree, and no link in an accepted tree leads out."""

    def check(place: Place) -> None:
        try:
            place.unpack(*members)
        except SnapshotRefused as error:
            assert str(error).startswith("the snapshot ")
        else:
            root = os.path.realpath(place.tree)
            for path in place.tree.rglob("*"):
                assert leads_nowhere(path) or f"{os.path.realpath(path)}/".startswith(f"{root}/")
        place.check_outside()

    in_a_place(check)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_are_unpacked_inside_or_refused(data: st.DataObject) -> None:
    """An archive with altered bytes is another archive, or not an archive: it is accepted or refused, never a crash."""

    def check(place: Place) -> None:
        whole = bytearray(archive_of(place.archive, [file("a/b", b"text"), link("l", "a"), folder("d")]).read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, 2_600))] = data.draw(st.integers(0, 255))
        place.archive.write_bytes(whole)
        try:
            unpack(place.archive, place.tree)
        except SnapshotRefused as error:
            assert str(error).startswith("the snapshot ")
        place.check_outside()

    in_a_place(check)
