"""The spawner: forks a supervisor for each job that the service tells it of."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
from collections.abc import Container
from contextlib import suppress

from grid.service.executors.supervisor.attempt import AWAITED, Supervisor, report
from grid.service.executors.supervisor.cgroups import are_usable
from grid.service.executors.supervisor.points import reached
from grid.service.executors.supervisor.process_tree import become_subreaper, children, libc, reap
from grid.shared.processes import boot_id


def spawn(commands: int, reports: int) -> None:
    """Fork a supervisor for each job read from ``commands``, one a line, until its end; tell on ``reports``.

    Parameters
    ----------
    commands, reports
        File descriptors of pipes from and to the service.
    """
    # Signals arrive on a pipe: one that came just before the spawner begins to wait would otherwise wake nobody.
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Nor must a supervisor miss one that comes before it waits for it: it is born with them blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED - {signal.SIGCHLD})
    # Whoever is below a supervisor that is killed becomes our child, whatever it has done to its session, its parents
    # or its environment; the orphans of one that lives are that one's.
    become_subreaper()
    supervisors: dict[int, str] = {}
    killed: list[str] = []
    # What a child never writes to, it need not copy: neither to count references nor to look for garbage.
    boot_id()
    libc()
    cgroups = are_usable()
    gc.disable()
    gc.freeze()
    nothing = os.open(os.devnull, os.O_RDONLY)
    unread = b""
    while True:
        ready, _, _ = select.select([commands, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for folder in _gone(supervisors, killed):
                report(reports, "gone", folder)
        if commands in ready:
            received = os.read(commands, 1 << 16)
            if not received:
                return
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                job = json.loads(line)
                reached("spawner.fork.before")
                pid = os.fork()
                if pid == 0:
                    # Not closed: the next file that is opened would have its number, which is that of a script's input.
                    os.dup2(nothing, commands)
                    _supervise(Supervisor(job, reports, cgroups=cgroups))
                reached("spawner.fork.after")
                supervisors[pid] = job["folder"]


def _gone(supervisors: dict[int, str], killed: list[str]) -> list[str]:
    """Return the folders of supervisors that have ended, and of those that were killed when nothing is left of them."""
    gone: list[str] = []
    for pid, status in reap()[0].items():
        if (folder := supervisors.pop(pid, None)) is not None:
            (gone if status == 0 else killed).append(folder)
    # Everybody who is killed there wakes us again.
    if killed and not _kill_orphans(supervisors):
        gone += killed
        killed.clear()
    return gone


def _kill_orphans(supervisors: Container[int]) -> bool:
    """Kill what supervisors that were killed have left; return whether there was something."""
    orphans = [pid for pid in children(os.getpid()) if pid not in supervisors]
    for pid in orphans:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(orphans)


def _supervise(supervisor: Supervisor) -> None:
    """Run a supervisor, and never come back: what the spawner had begun is not the child's to finish."""
    code = 1
    try:
        supervisor.run()
        code = 0
    except Exception:  # noqa: BLE001 - whatever it is, it is told to the service's log, and the service sees that it is over
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
