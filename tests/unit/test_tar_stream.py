"""Reading a tar archive while it arrives: what services send, in pieces of any size, and what nobody should send."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.chain.receiving import BrokenAnswer
from grid.downloads.tar_stream import TarStream
from grid.errors import DownloadFailed


class Files:
    """What has come out of an archive."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.records: dict[str, Mapping[str, str]] = {}
        self.whole: list[str] = []
        self._path = ""

    def begin(self, path: str, size: int, records: Mapping[str, str]) -> Files:
        self._path = path
        self.content[path] = b""
        self.records[path] = records
        return self

    def take(self, piece: bytes) -> None:
        self.content[self._path] += piece

    def end(self) -> None:
        self.whole.append(self._path)


def archive(
    files: Mapping[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda _: None, **options: object
) -> bytes:
    """Return an archive of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            member.pax_headers = {"GRID.sha256": "00", "path": path}
            change(member)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def read(text: bytes, size: int) -> tuple[Files, TarStream]:
    """Read an archive in pieces of one size."""
    files = Files()
    stream = TarStream(files.begin)
    for start in range(0, len(text), size):
        stream.take(text[start : start + size])
    return files, stream


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300),
        st.binary(max_size=1_100),
        max_size=5,
    ),
    st.integers(1, 3_000),
)
def test_archive_in_pieces(files: dict[str, bytes], size: int) -> None:
    """What was put in comes out, whatever its paths and contents, however it is cut into pieces."""
    found, stream = read(archive(files), size)

    assert found.content == files
    assert found.whole == list(files)
    assert all(records["GRID.sha256"] == "00" for records in found.records.values())
    assert stream.is_complete


@pytest.mark.parametrize("length", range(0, 4_096, 500))
def test_archive_that_breaks_off(length: int) -> None:
    """An archive that ends anywhere is not complete, and its whole members are told from the last one."""
    text = archive({"a": b"x" * 700, "b": b"y" * 700})
    found, stream = read(text[:length], 512)

    assert not stream.is_complete
    for path in found.whole:
        assert len(found.content[path]) == 700


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S", b"V"]
)
def test_member_that_is_no_regular_file(kind: bytes) -> None:
    """Links, folders, pipes, devices and what else an archive can hold are refused by name."""

    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, "/etc/passwd"

    with pytest.raises(DownloadFailed, match="'odd'.*not a regular file"):
        read(archive({"odd": b""}, change), 512)


def block(path: bytes, size: bytes, kind: bytes) -> bytes:
    """Return a header with a right checksum, whatever else is in it."""
    text = bytearray(512)
    text[: len(path)] = path
    text[124 : 124 + len(size)] = size
    text[156:157] = kind
    text[257:265] = b"ustar\x0000"
    text[148:156] = b"        "
    text[148:156] = b"%06o\0 " % sum(text)
    return bytes(text)


@pytest.mark.parametrize(
    "text",
    [
        b"x" * 512,
        b"<!doctype html>" + b" " * 600,
        block(b"head", b"77777777777\0", b"x"),  # a header of 8 GiB, which must not be kept in memory
        block(b"head", b"\x80\0\0\0\0\xff\xff\xff\xff\xff\xff\xff", b"x"),
        block(b"a", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"0"),  # a size below zero
        block(b"head", b"00000000000\0", b"x"),
        block(b"head", b"00000000010\0", b"x") + b"3 a=b\n".ljust(512, b"\0"),
        block(b"head", b"00000000010\0", b"x") + b"0 a=b\n\0\0".ljust(512, b"\0"),
        block(b"head", b"00000000006\0", b"x") + b"6 ab\n\n".ljust(512, b"\0"),
        block(b"head", b"00000000006\0", b"x") + b"6 a=\xff\n".ljust(512, b"\0"),
        block(b"head", b"00000000013\0", b"x") + b"11 size=-1\n".ljust(512, b"\0") + block(b"a", b"0\0", b"0"),
        (block(b"head", b"00000000006\0", b"x") + b"6 a=b\n".ljust(512, b"\0")) * 2,
    ],
)
def test_archive_that_is_broken(text: bytes) -> None:
    """What is not such an archive is an answer that was spoiled; it costs no memory."""
    with pytest.raises(BrokenAnswer):
        read(text, 100)
