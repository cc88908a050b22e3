"""A process that has imported the service and forks one whenever it is told to: starting one takes a tenth then.

Run as a module; each line of its input is a service to start, each line of its output the pid of one. What it forks is
the service's own `main`, in a process of its own, with a bug of `bugs.py` if one is asked for.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import alembic.command
import alembic.config  # noqa: F401 - as the service does when it makes its database
import numpy as np  # noqa: F401 - as the service does when it draws

from grid.service.command import main as commands
from grid.service.system import failpoints
from tests.faults import bugs


def main() -> None:
    """Fork services until the end of the input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that have ended are reaped by the kernel
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _serve(wanted)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _serve(wanted: dict) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        os.chdir("/")
        log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(source, descriptor)
        failpoints.arm()
        if wanted["bug"]:
            bugs.apply(wanted["bug"], Path(wanted["folder"]))
        code = commands.main(wanted["arguments"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
