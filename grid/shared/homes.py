"""Whether a ``GRID_HOME`` may be used by a service of this machine, and which process has it.

Read by the client and by the service, so that both judge alike, and so with nothing but the standard library. A file
lock is not asked alone: on many network file systems it says nothing of the other machines.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LOCK = "service.lock"
"""Held by a service for as long as it lives."""
OWNER = "owner"
"""Which process has the lock."""
RECORD = "service.json"
"""Where the service listens."""
KEEPER = "keeper"
"""Which process starts the embedded service again; where it is removed, nobody does."""
SERVED = "served"
"""There once the service that was started last has served."""
START_LOCK = "start.lock"
"""Held by whoever starts the embedded service, and by whoever sees to it that there is none."""

MOUNTS = "/proc/self/mountinfo"

_ELSEWHERE = "choose another folder, one that you can write to: GRID_HOME=/folder/on/this/machine"
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_OF_FILES = _NO_SPACE | {
    errno.EACCES,
    errno.EEXIST,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOLCK,
    errno.ENOTDIR,
    errno.ENOTSUP,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}

# As the kernel calls them; those that run in user space have `fuse.` before them.
_NETWORK = frozenset(
    "9p afpfs afs beegfs blobfuse blobfuse2 ceph ceph-fuse cifs coda curlftpfs davfs davfs2 fhgfs gcsfuse gfs gfs2 "
    "glusterfs goofys gpfs juicefs lustre ncpfs nfs nfs4 ocfs2 openafs orangefs panfs pvfs2 rclone s3fs smb2 smb3 "
    "smbfs smbnetfs sshfs webdav wekafs".split()
)


class HomeRefused(RuntimeError):
    """A home cannot be used here; the message says why, and what to do."""


class NoSpace(HomeRefused):
    """Its disk is full, so that the next try may succeed."""


def prepare(home: Path) -> Path:
    """Make a home and its folder ``service``, readable by their user only; return the latter.

    Parameters
    ----------
    home
        The folder of everything that is kept on this machine.

    Raises
    ------
    HomeRefused
        If it is no folder, or not this user's, or cannot be written; if it is on a network file system; or if a service
        of another machine has it.
    """
    system = network_file_system(home)
    if system is not None:
        message = (
            f"GRID_HOME {home} is on a network file system ({system}), where a database and the locks that a service "
            f"needs are not safe; {_ELSEWHERE}"
        )
        raise HomeRefused(message)
    service = home / "service"
    try:
        if home.exists() and not home.is_dir():
            message = f"GRID_HOME {home} is a file and has to be a folder; {_ELSEWHERE}"
            raise HomeRefused(message)
        service.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = home.stat().st_uid
        if owner != os.geteuid():
            message = f"GRID_HOME {home} belongs to the user {_user(owner)}, and you are {_user(os.geteuid())}; "
            raise HomeRefused(message + _ELSEWHERE)
        home.chmod(0o700)
    except OSError as error:
        raise explained(error, home) from error
    refuse_elsewhere(home)
    return service


def refuse_elsewhere(home: Path) -> None:
    """Refuse a home that a service of another machine has, as far as anybody can know.

    Raises
    ------
    HomeRefused
        If so.
    """
    path = home / "service" / OWNER
    holder = Holder.read(path)
    if holder is not None and holder.is_elsewhere():
        message = (
            f"GRID_HOME {home} is in use by a service of another machine: host {holder.host}, process {holder.pid}. "
            f"Stop it there (python -m grid.service stop). If that machine is gone for good, remove {path}. "
            f"Or {_ELSEWHERE}"
        )
        raise HomeRefused(message)


def explained(error: OSError, home: Path) -> HomeRefused:
    """Say in words for its user what an error of the operating system means for a home.

    Parameters
    ----------
    error
        What was raised. One that is not about a file is raised again.
    home
        The home.

    Returns
    -------
    HomeRefused
        To be raised.
    """
    if error.errno not in _OF_FILES:
        raise error
    path = error.filename or home
    if error.errno in _NO_SPACE:
        return NoSpace(f"cannot write {path}: there is no space left on its disk; make room there, or {_ELSEWHERE}")
    return HomeRefused(f"cannot use {path}: {error.strerror}; {_ELSEWHERE}")


# Processes


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has written itself down in a home.

    It is the target of a symbolic link: made in one step with all that it says, and even where the disk is full.
    """

    pid: int
    start: str
    boot: str
    machine: str
    host: str

    @classmethod
    def of(cls, pid: int) -> Holder:
        """A process of this machine."""
        return cls(pid, process_start(pid) or "", boot_id(), machine_id(), host_name())

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Return who is written down there; None where nobody is, or not in a way that anybody can read."""
        try:
            pid, *words = str(path.readlink()).split(" ")
            start, boot, machine, host = ("" if word == "-" else word for word in words)
            return cls(int(pid), start, boot, machine, host)
        except (OSError, ValueError):
            return None

    def __str__(self) -> str:
        words = (str(self.pid), self.start, self.boot, self.machine, self.host)
        return " ".join(re.sub(r"\s", "_", word) or "-" for word in words)

    def write(self, path: Path) -> None:
        """Write it down, in the place of whoever stands there."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(str(self))
        temporary.replace(path)

    def is_elsewhere(self) -> bool:
        """Whether it is a process of another machine.

        The boot decides, and after another boot the machine's id: a laptop may change its name, and a container has a
        name of its own. The name counts where there are no ids.
        """
        if self.boot and self.boot == boot_id():
            return False
        if self.machine and machine_id():
            return self.machine != machine_id()
        return self.host != host_name()

    def is_alive(self) -> bool:
        """Whether it is a process that lives on this machine, and no other one that was given its pid."""
        return bool(self.start) and self.boot == boot_id() and process_start(self.pid) == self.start


# As in the supervisor, which imports nothing: a test holds them equal.


def process_start(pid: int) -> str | None:
    """When a process started, in a form that is only good for comparing, or None where there is none such alive."""
    if not Path("/proc/self").is_dir():
        listing = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return "-".join(listing.stdout.split()) or None
    try:
        # The command, in parentheses, may hold anything: what follows the last one is what can be split.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


@functools.cache
def boot_id() -> str:
    """Which boot of the machine this is; empty where the system does not say."""
    return _content("/proc/sys/kernel/random/boot_id")


@functools.cache
def machine_id() -> str:
    """Which machine this is, whatever it is called; empty where the system does not say, as in many containers."""
    if sys.platform == "darwin":
        return _mac_id()
    return _content("/etc/machine-id") or _content("/var/lib/dbus/machine-id")


def host_name() -> str:
    """What this machine is called."""
    return re.sub(r"\s", "_", socket.gethostname())


def _mac_id() -> str:
    listing = subprocess.run(
        ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"], capture_output=True, text=True, check=False
    )
    found = re.search(r'"IOPlatformUUID" = "([0-9A-Fa-f-]+)"', listing.stdout)
    return found[1] if found else ""


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # it is not there, or not for us: then it says nothing
        return ""


def _user(number: int) -> str:
    import pwd  # noqa: PLC0415 - not everywhere

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


# File systems


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that a path is on; None where it is on this machine.

    Parameters
    ----------
    path
        Of a folder that need not be there yet.

    Returns
    -------
    str
        As the system calls it, such as ``nfs4``.
    """
    real = Path(os.path.realpath(path))
    # A folder that is mounted when somebody looks into it is mounted by this.
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
    except OSError:  # it is not there, or not for us
        return False
    return True


def _mounts() -> list[tuple[Path, str]]:
    if sys.platform == "darwin":
        listing = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False)
        found = re.findall(r"^.* on (/.*) \((\w+)[,)]", listing.stdout, re.MULTILINE)
        return [(Path(point), name) for point, name in found]
    try:
        text = Path(MOUNTS).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # a sandbox without /proc: nobody can say
        return []
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        mounts.append((Path(point), after.split(" ")[0]))
    return mounts
