"""The spawner: forks a supervisor for each job that the service sends."""

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

TYPE_CHECKING = False  # as in `attempt`
if TYPE_CHECKING:
    from typing import Any


def spawn(commands: int, reports: int) -> None:
    """Fork a supervisor for each job read from ``commands``, one a line, until it is closed; report on ``reports``.

    Parameters
    ----------
    commands, reports
        File descriptors of pipes from and to the service.
    """
    # Signals arrive on a pipe: otherwise one that comes just before the spawner begins to wait would not wake it.
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Nor may a supervisor miss a signal that comes before it waits for one: it is forked with them blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED - {signal.SIGCHLD})
    # Every process below a killed supervisor becomes our child, whatever it has done to its session, its parents or its
    # environment; the orphans below a living supervisor become that supervisor's children.
    become_subreaper()
    supervisors: dict[int, dict[str, Any]] = {}
    killed: list[dict[str, Any]] = []
    # A child need not copy memory that it never writes to, be it to count references or to collect garbage.
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
            for name in _gone(supervisors, killed):
                report(reports, "gone", name)
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
                    # Not closed: the next file to be opened would get its number, which is that of a script's stdin.
                    os.dup2(nothing, commands)
                    _supervise(Supervisor(job, reports, cgroups=cgroups))
                reached("spawner.fork.after")
                supervisors[pid] = {"experiment": job["experiment"], "attempt": job["attempt"]}


def _gone(supervisors: dict[int, dict[str, Any]], killed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the names of supervisors that have ended; of killed ones, once nothing that they left is running."""
    gone: list[dict[str, Any]] = []
    for pid, status in reap()[0].items():
        if (name := supervisors.pop(pid, None)) is not None:
            (gone if status == 0 else killed).append(name)
    # Every process that is killed there wakes us again.
    if killed and not _kill_orphans(supervisors):
        gone += killed
        killed.clear()
    return gone


def _kill_orphans(supervisors: Container[int]) -> bool:
    """Kill the processes that killed supervisors have left; return whether there were any."""
    orphans = [pid for pid in children(os.getpid()) if pid not in supervisors]
    for pid in orphans:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(orphans)


def _supervise(supervisor: Supervisor) -> None:
    """Run a supervisor, and never return: what the spawner was doing is not for the child to finish."""
    code = 1
    try:
        supervisor.run()
        code = 0
    except Exception:  # noqa: BLE001 - whatever it is, the log shows it, and the service sees the supervisor end
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
