"""A service as a process of its own, and ending everything that it left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.service.command import shutdown
from grid.session.session import Session
from tests.support.commands import Forked
from tests.support.environments import clean_environment
from tests.support.waiting import wait_until


class ServiceProcess:
    """`python -m grid.service serve`, as a process, for the GRID_HOME below `home`.

    It is forked by a process that has imported the service already; one that is given an environment of its own, or is
    to be fresh, has an interpreter of its own.
    """

    process: Forked | subprocess.Popen[bytes]

    def __init__(
        self, home: Path, *options: str, is_fresh: bool = False, is_embedded: bool = True, **environment: str
    ) -> None:
        self.home = home / ".grid"
        self._is_fresh = is_fresh or bool(environment)
        self._environment = clean_environment(home, **environment)
        self._arguments = ["serve", *(["--embedded"] if is_embedded else []), *options]
        self.log = home / "service.log"
        self.start()

    def start(self, *more: str) -> None:
        """Start it, and wait until it answers; with more options than the first time, which win."""
        self.launch(*more)
        self.wait_until_it_answers()

    def launch(self, *more: str) -> None:
        """Start it, and do not wait."""
        arguments = [*self._arguments, *more]
        if not self._is_fresh:
            self.process = Forked(arguments, self._environment, self.log, self.log)
            return
        command = [sys.executable, "-m", "grid.service", *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, cwd="/")

    def wait_until_it_answers(self) -> None:
        """Wait until it has recorded its address; it must not have ended."""
        wait_until(lambda: self.process.poll() is not None or self._record().get("pid") == self.process.pid, "service")
        assert self.process.poll() is None, self.log.read_text()
        record = self._record()
        self.endpoint = Endpoint(record["url"], record["user_id"], record["api_key"])
        self.username = record["username"]

    def session(self, policy: RetryPolicy | None = None, *, is_embedded: bool = False) -> Session:
        """Log in; the session is not this process's until `grid.session.session.use` makes it so."""
        session = Session(self.endpoint, is_embedded=is_embedded, policy=policy)
        session.interpreter = sys.executable
        return session

    def set_environment(self, **more: str) -> None:
        """Set these variables, too, when it is started the next time."""
        self._environment |= more
        self._is_fresh = True

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it properly; what runs goes on."""
        self.process.terminate()
        self.process.wait(60)

    def _record(self) -> dict[str, str]:
        try:
            return json.loads((self.home / "service" / "service.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def end_everything(home: Path) -> None:
    """End the embedded service of a GRID_HOME and every experiment that is left of it."""
    shutdown.stop(home)
    for attempt in home.glob("records/*"):
        try:
            # Not found by the pattern itself: it is a link that leads nowhere.
            pid, start, *_ = [*os.readlink(attempt / "claim").split(" "), ""]
        except OSError:
            continue
        process = _alive(int(pid), start) if pid.isdigit() else None
        if process is not None:
            tree = [*process.children(recursive=True), process]
            for each in tree:
                each.send_signal(signal.SIGKILL)
            psutil.wait_procs(tree, 10)
        with suppress(OSError):  # if it had one, and has not removed it itself
            Path(os.readlink(attempt / "cgroup")).rmdir()


def _alive(pid: int, start: str) -> psutil.Process | None:
    from grid.shared.processes import process_start

    try:
        return psutil.Process(pid) if process_start(pid) == start else None
    except psutil.NoSuchProcess:
        return None


@contextmanager
def service_process(
    home: Path, *options: str, is_fresh: bool = False, is_embedded: bool = True, **environment: str
) -> Iterator[ServiceProcess]:
    """Yield a running service, and leave nothing of it behind."""
    service = ServiceProcess(home, *options, is_fresh=is_fresh, is_embedded=is_embedded, **environment)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()
        end_everything(service.home)


def free_port() -> int:
    """Return a port that nothing listens on now: for a service that is to be found again where it was."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def login_environment(service: ServiceProcess) -> dict[str, str]:
    """The environment in which `login()` finds a service."""
    endpoint = service.endpoint
    return {"GRID_URL": endpoint.url, "GRID_USER_ID": endpoint.user_id, "GRID_API_KEY": endpoint.api_key}
