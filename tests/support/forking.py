"""A process that has imported the service and forks one of its commands whenever it is told to.

Run as a module. Each line of its input is JSON: a command to start, answered with the pid of its process, or the pid of
one that was started, answered with its exit code, null while it runs. What is forked runs the `main` of a module, the
service's own unless another one is named, in a process of its own; only the imports, most of a second, are spared.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

import alembic.command
import alembic.config  # noqa: F401 - as the service does when it makes its database
import numpy as np  # noqa: F401 - as the service does when it draws
import sqlalchemy.dialects.sqlite  # noqa: F401 - as the service does when it opens its database

from grid.service.command import main as commands  # noqa: F401 - what is mostly run
from grid.service.command import server, shutdown  # noqa: F401 - as `serve` and `stop` do
from grid.service.domain import accounts  # noqa: F401 - as `users` and `teams` do


def main() -> None:
    """Fork commands until the end of the input."""
    codes: dict[int, int] = {}
    for line in sys.stdin:
        wanted = json.loads(line)
        if isinstance(wanted, int):
            answer = _code(wanted, codes)
        else:
            answer = os.fork()
            if answer == 0:
                _run(wanted)
            codes.pop(answer, None)  # of an earlier one, if its pid is given out again
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _code(pid: int, codes: dict[int, int]) -> int | None:
    if pid not in codes:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended == pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
    return codes.get(pid)


def _run(wanted: dict[str, Any]) -> None:
    code: Any = 1
    try:
        os.environ.clear()
        os.environ.update(wanted["environment"])
        os.chdir("/")
        written = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        sources = [os.open(os.devnull, os.O_RDONLY)]
        sources += [os.open(wanted[each], written, 0o600) for each in ("stdout", "stderr")]
        for descriptor, source in enumerate(sources):
            os.dup2(source, descriptor)
            os.close(source)
        code = import_module(wanted["module"]).main(wanted["arguments"])
    except SystemExit as error:  # the parser has printed what is wrong
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    main()
