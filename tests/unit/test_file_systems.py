"""Which file system a path is on, as the system's table of mounts has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid.shared import file_systems
from grid.shared.file_systems import network_file_system

MOUNTS = """\
22 1 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:40 / {folder}/net rw,relatime shared:2 master:3 - nfs4 server:/export rw,vers=4.2
31 30 254:1 / {folder}/net/scratch rw,relatime - xfs /dev/vdb rw
32 27 0:41 / {folder}/with\\040space rw - cifs //server/share rw
33 27 0:42 / {folder}/mine rw,nosuid - fuse.sshfs me@server: rw,user_id=0
34 27 8:17 / {folder}/stick rw - fuseblk /dev/sdb1 rw
35 27 0:43 / {folder}/hidden rw - nfs server:/old rw
36 27 0:44 / {folder}/hidden rw - tmpfs tmpfs rw
37 27 0:45 / {folder}/auto rw - autofs systemd-1 rw,fd=44
38 27 0:46 / {folder}/plan rw - 9p host rw
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's table of mounts, replaced by the one above."""
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS.format(folder=tmp_path))
    monkeypatch.setattr(file_systems, "MOUNTS", str(file))
    return file


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", None),
        ("net", "nfs4"),
        ("net/ada/.grid", "nfs4"),
        ("network", None),
        ("net/scratch/.grid", None),
        ("with space/.grid", "cifs"),
        ("mine/.grid", "fuse.sshfs"),
        ("stick/.grid", None),
        ("hidden/.grid", None),
        ("auto/.grid", None),
        ("plan/.grid", "9p"),
        ("link/.grid", "nfs4"),
        ("net/../.grid", None),
    ],
)
def test_file_system_of_a_path(tmp_path: Path, mounts: Path, path: str, expected: str | None) -> None:
    """The nearest mount decides, and of two at the same place the later one does; links are followed."""
    (tmp_path / "link").symlink_to(tmp_path / "net")
    assert network_file_system(tmp_path / path) == expected


def test_file_system_that_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system does not say what is mounted, the folder is taken for a local one."""
    monkeypatch.setattr(file_systems, "MOUNTS", str(tmp_path / "missing"))
    assert network_file_system(tmp_path) is None
