"""Tests of the headers of archives, as the standard library and `tar` read them."""

from __future__ import annotations

import io
import tarfile

import pytest

from grid.service.executors.protocol import FileState
from grid.service.results import bundles


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "sub/b c",
        "../beside",
        "\u00e4" * 49,
        "\u00e4" * 51,
        "x" * 99,
        "x" * 100,
        "x" * 101,
        "d/" * 8_000 + "f",
        "=\n ",
    ],
)
@pytest.mark.parametrize("size", [0, 1, 512, 8**11 - 1, 8**11, 1 << 60])
def test_headers(path: str, size: int) -> None:
    """Path, size, time and digest come back, however long or large they are."""
    for modified_at in (1_628_614_798_044_624, 0, -1_500_000, (8**11 + 5) * 1_000_000):
        state = FileState(path, size, modified_at, 7, 8)
        for digest in ("0" * 64, None):
            header = bundles._header(state, size, digest)
            assert len(header) % tarfile.BLOCKSIZE == 0
            member = tarfile.TarInfo.frombuf(header[:512], "utf-8", "strict")
            assert member.type == tarfile.XHDTYPE
            with tarfile.open(fileobj=io.BytesIO(header), mode="r:") as archive:
                read = archive.firstmember
            assert read is not None
            assert (read.name, read.size, read.isreg(), read.mode) == (path, size, True, 0o600)
            assert read.mtime == pytest.approx(modified_at / 1e6, abs=1e-6)
            assert read.pax_headers.get("GRID.sha256") == digest
            assert (read.uid, read.gid, read.uname, read.gname, read.linkname) == (0, 0, "", "", "")
