"""A process that has put itself on record, and the machine that it runs on.

Used by client and service, and so without anything beyond the standard library.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grid.shared.processes import boot_id, process_start


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that is on record in a home.

    The record is the target of a symbolic link, which is made in one step with its content, even if the disk is full.
    """

    pid: int
    start: str
    boot: str
    machine: str
    host: str

    @classmethod
    def of(cls, pid: int) -> Holder:
        """Return the holder for a process of this machine."""
        return cls(pid, _start(pid), _boot(), machine_id(), host_name())

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Return the process that is on record there; None if there is no record, or it cannot be read."""
        try:
            return cls.parsed(str(path.readlink()))
        except OSError:
            return None

    @classmethod
    def parsed(cls, text: str | None) -> Holder | None:
        """Return the process of which a record says this; None if that cannot be read."""
        try:
            pid, *words = (text or "").split(" ")
            start, boot, machine, host = ("" if word == "-" else word for word in words)
            return cls(int(pid), start, boot, machine, host)
        except ValueError:
            return None

    def __str__(self) -> str:
        words = (str(self.pid), self.start, self.boot, self.machine, self.host)
        return " ".join(re.sub(r"\s", "_", word) or "-" for word in words)

    def write(self, path: Path) -> None:
        """Write the record, in place of any that is there."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(str(self))
        temporary.replace(path)

    def is_elsewhere(self) -> bool:
        """Return whether it is a process of another machine.

        The boot decides, and after another boot the machine's id: a laptop may change its name, and a container has a
        name of its own. The name counts if there are no ids.
        """
        if self.boot and self.boot == _boot():
            return False
        if self.machine and machine_id():
            return self.machine != machine_id()
        return self.host != host_name()

    def is_alive(self) -> bool:
        """Return whether this very process is alive on this machine, and not another one that was given its pid."""
        return bool(self.start) and self.boot == _boot() and _start(self.pid) == self.start


@functools.cache
def machine_id() -> str:
    """Return which machine this is, whatever it is called; empty if the system does not say, as in many containers."""
    if sys.platform == "darwin":
        return _mac_id()
    return _content("/etc/machine-id") or _content("/var/lib/dbus/machine-id")


def host_name() -> str:
    """Return what this machine is called."""
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
    except OSError:  # it does not exist, or we have no access
        return ""


def _start(pid: int) -> str:
    with suppress(FileNotFoundError):  # a sandbox without /proc: no process is known there
        return process_start(pid) or ""
    return ""


def _boot() -> str:
    with suppress(OSError):
        return boot_id()
    return ""
