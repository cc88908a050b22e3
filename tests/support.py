"""What several tests need: a service process, a project in git, and waiting for a condition with a deadline."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from grid.endpoint import Endpoint, RetryPolicy
from grid.session import Session

_T = TypeVar("_T")

TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}


def wait_until(condition: Callable[[], _T], what: str, seconds: float = 30.0) -> _T:
    """Return what the condition gives as soon as that is true; fail when the deadline has passed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.01)


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a new user whose GRID_HOME is `home`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRID_")}
    return {**inherited, "HOME": str(home), "GRID_HOME": str(home / ".grid"), **more}


class ServiceProcess:
    """`python -m grid.service serve`, as a process, for the GRID_HOME below `home`."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        self.home = home / ".grid"
        self._environment = clean_environment(home, **environment)
        self._command = [sys.executable, "-m", "grid.service", "serve", "--embedded", *options]
        self.log = home / "service.log"
        self.start()

    def start(self, *more: str) -> None:
        """Start it, and wait until it answers; with more options than the first time, which win."""
        self.launch(*more)
        self.wait_until_it_answers()

    def launch(self, *more: str) -> None:
        """Start it, and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, *more], env=self._environment, stdout=log, stderr=log, cwd="/"
            )

    def wait_until_it_answers(self) -> None:
        """Wait until it has said where it is; it must not have ended."""
        wait_until(lambda: self.process.poll() is not None or self._record().get("pid") == self.process.pid, "service")
        assert self.process.poll() is None, self.log.read_text()
        record = self._record()
        self.endpoint = Endpoint(record["url"], record["user_id"], record["api_key"])
        self.username = record["username"]

    def session(self, policy: RetryPolicy | None = None, *, is_embedded: bool = False) -> Session:
        """Log in; not the session of this process until `grid.session.use` makes it so."""
        session = Session(self.endpoint, is_embedded=is_embedded, policy=policy)
        session.interpreter = sys.executable
        return session

    def set_environment(self, **more: str) -> None:
        """Let it find these variables, too, when it is started the next time."""
        self._environment |= more

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in good order; what runs goes on."""
        self.process.terminate()
        self.process.wait(30)

    def _record(self) -> dict[str, str]:
        try:
            return json.loads((self.home / "service" / "service.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def end_everything(home: Path) -> None:
    """End the embedded service of a GRID_HOME and every experiment that is left of it."""
    subprocess.run([sys.executable, "-m", "grid.service", "stop", "--home", str(home)], check=True, capture_output=True)
    for attempt in home.glob("experiments/*/attempt-*"):
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
        with suppress(OSError):  # where it had one, and has not removed it itself
            Path(os.readlink(attempt / "cgroup")).rmdir()


def _alive(pid: int, start: str) -> psutil.Process | None:
    from grid.service.executors.supervisor import process_start

    try:
        return psutil.Process(pid) if process_start(pid) == start else None
    except psutil.NoSuchProcess:
        return None


@contextmanager
def service_process(home: Path, *options: str, **environment: str) -> Iterator[ServiceProcess]:
    """Give a service that is running, and leave nothing of it behind."""
    service = ServiceProcess(home, *options, **environment)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()
        end_everything(service.home)


def make_project(folder: Path, script: str, name: str = "run.py", origin: str = "") -> Path:
    """Make a git repository with one committed script; return the script's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(script)
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    if origin:
        subprocess.run(["git", "remote", "add", "origin", origin], cwd=folder, check=True)
    return folder / name


def wait_for_run(run, seconds: float = 60.0) -> dict[str, list[str]]:
    """Wait until every experiment of a run has ended; return its status."""

    def ended():
        status = run.status()
        return status if status.keys() <= TERMINAL else None

    return wait_until(ended, f"the end of {run.name}", seconds)


@contextmanager
def requests(session: Session) -> Iterator[list[int]]:
    """Give a list that holds, afterwards, how many requests the session sent meanwhile."""
    sent: list[int] = []
    before = session.transport.requests_sent
    yield sent
    sent.append(session.transport.requests_sent - before)


def login_environment(service: ServiceProcess) -> dict[str, str]:
    """The environment in which `login()` finds a service."""
    endpoint = service.endpoint
    return {"GRID_URL": endpoint.url, "GRID_USER_ID": endpoint.user_id, "GRID_API_KEY": endpoint.api_key}


def ask(endpoint: Endpoint | str, query: str, authorization: str | None = None, **variables: Any) -> dict[str, Any]:
    """Send a GraphQL request without any of the client's own code; return the answer, errors and all.

    An endpoint brings its key along; an address does not, and `authorization` is sent as it is.
    """
    if isinstance(endpoint, Endpoint):
        endpoint, authorization = endpoint.graphql_url, endpoint.authorization
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(endpoint, body, {"Content-Type": "application/json"})
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def code_of(answer: dict[str, Any]) -> str:
    """The code of the only error of an answer."""
    (error,) = answer["errors"]
    return error["extensions"]["code"]


def is_alive(pid: int) -> bool:
    """Whether there is a process of that pid that does anything yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Stranger:
    """Something that listens on a port and is no Grid service: it notes what it is sent, and has one answer."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.received: list[bytes] = []
        self._lines: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Hang up."""
        self._listening.close()
        for line in self._lines:
            line.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._listening.accept()
                self._lines.append(line)  # where there is no answer it stays open
                self.received.append(line.recv(1 << 16))
                if self._answer is not None:
                    line.sendall(self._answer)
                    line.shutdown(socket.SHUT_WR)


def http_answer(body: bytes, content_type: str, status: str = "200 OK") -> bytes:
    """Write an HTTP answer that closes its connection."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
