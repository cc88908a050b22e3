"""Which file systems are shared with other machines: neither a database nor a lock is safe there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

MOUNTS = "/proc/self/mountinfo"

# As the kernel calls them; those that run in user space have the prefix `fuse.`.
_NETWORK = frozenset(
    "9p afpfs afs beegfs blobfuse blobfuse2 ceph ceph-fuse cifs coda curlftpfs davfs davfs2 fhgfs gcsfuse gfs gfs2 "
    "glusterfs goofys gpfs juicefs lustre ncpfs nfs nfs4 ocfs2 openafs orangefs panfs pvfs2 rclone s3fs smb2 smb3 "
    "smbfs smbnetfs sshfs webdav wekafs".split()
)


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that a path is on; None if it is on this machine.

    Parameters
    ----------
    path
        The path of a folder, which need not exist yet.

    Returns
    -------
    str
        As the system calls it, such as ``nfs4``.
    """
    real = Path(os.path.realpath(path))
    # This makes an automounter mount a folder that is mounted on first access.
    next(folder for folder in (real, *real.parents) if _can_be_entered(folder))
    kind, longest = "", -1
    for point, name in _mounts():
        # What was mounted later hides what was mounted there before.
        if len(point.parts) >= longest and (point == real or point in real.parents):
            kind, longest = name, len(point.parts)
    return kind if kind.removeprefix("fuse.") in _NETWORK else None


def _can_be_entered(folder: Path) -> bool:
    try:
        os.stat(f"{folder}/.")  # noqa: PTH116 - a Path has no dot at its end
    except OSError:  # it does not exist, or we have no access
        return False
    return True


def _mounts() -> list[tuple[Path, str]]:
    if sys.platform == "darwin":
        listing = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False)
        found = re.findall(r"^.* on (/.*) \((\w+)[,)]", listing.stdout, re.MULTILINE)
        return [(Path(point), name) for point, name in found]
    try:
        text = Path(MOUNTS).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # a sandbox without /proc: there is no way to know
        return []
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        mounts.append((Path(point), after.split(" ")[0]))
    return mounts
