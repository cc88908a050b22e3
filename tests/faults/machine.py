"""What happens to a machine: its power fails, and after a reboot other processes have the old pids."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from grid.shared.processes import boot_id, process_start
from tests.faults.ledger import kill_everything
from tests.faults.victims import Victim

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


def power_off(service: Victim, *, another_boot: bool) -> None:
    """Let every process of a home die at once; on request, let its claims name another boot afterwards."""
    service.kill()
    kill_everything(service.home, service.ledger)
    if another_boot:
        for link, (pid, start, _) in _claims(service).items():
            _relink(link, pid, start, OTHER_BOOT)


@contextmanager
def bystander(service: Victim) -> Iterator[subprocess.Popen]:
    """A process that, as it were, has the pid of every supervisor that is gone.

    It is not the one that a claim means: that one was started at another time, or at the same time in another boot.
    """
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            for link, (_, start, boot) in _claims(service).items():
                _relink(link, process.pid, start if boot == boot_id() else process_start(process.pid), boot)
            yield process
        finally:
            process.kill()


def _claims(service: Victim) -> dict[str, list[str]]:
    # Not found by the pattern itself: they are links that lead nowhere.
    links = [record / "claim" for record in service.home.glob("records/*")]
    return {str(link): os.readlink(link).split(" ") for link in links if link.is_symlink()}


def _relink(link: str, *words: object) -> None:
    os.unlink(link)
    os.symlink(" ".join(map(str, words)), link)
