"""Services that are killed at named points, or that have a bug: how they are started, asked and asked again."""

from __future__ import annotations

import hashlib
import http.client
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from grid.chain.endpoint import Endpoint
from grid.shared.processes import process_start
from tests.faults.ledger import kill_everything
from tests.support.environments import clean_environment
from tests.support.requests import ask, code_of
from tests.support.waiting import wait_until

_T = TypeVar("_T")

CUT = (OSError, http.client.HTTPException, json.JSONDecodeError)
"""The errors of a request whose service died meanwhile."""


class Refused(AssertionError):
    """The service answered with an error."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["errors"])
        self.code: str = code_of(answer)


class Zygote:
    """The process that forks services."""

    def __init__(self, folder: Path) -> None:
        # OpenBLAS would start threads, and a fork must not meet them.
        environment = clean_environment(folder, OPENBLAS_NUM_THREADS="1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, wanted: dict[str, Any]) -> int:
        """Start a service; return its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


class Victim:
    """A service of a home of its own, in `folder`; not started yet.

    Parameters
    ----------
    zygote
        The process that forks it.
    folder
        Where its home will be; must not exist yet.
    template
        The folder of a stopped service, whose content this one begins with.
    options
        Of `python -m grid.service serve`.
    """

    def __init__(self, zygote: Zygote, folder: Path, *options: str, template: Path | None = None) -> None:
        self.folder = folder
        self.home = folder / ".grid"
        self.ledger = folder / "ledger"
        if template is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(template, folder, symlinks=True)
        self._zygote = zygote
        self._options = [*options]
        self.bug = ""
        """One of `bugs.py`, of every service that is started from now on."""
        self._starts = itertools.count()
        self._plans: list[str] = []
        self._hits: list[Path] = []
        self.log = folder / "service.log"
        self.pid = 0

    def start(self, plan: str | None = None, *, then: Sequence[str] = (), **environment: str) -> None:
        """Start it, and wait until it answers, or has died if the plan may make it.

        Parameters
        ----------
        plan
            The failpoints of this start; an empty one counts them. None switches them off.
        then
            The failpoints of the starts after a death.
        environment
            Further variables of the service's environment.
        """
        self._plans = [*then]
        hits = self.folder / f"hits-{len(self._hits)}"
        if plan is not None:
            self._hits.append(hits)
            environment |= {"GRID_FAILPOINTS": plan, "GRID_FAILPOINTS_LOG": str(hits)}
        wanted = {
            "environment": clean_environment(self.folder, **environment),
            "arguments": ["serve", "--home", str(self.home), "--embedded", *self._options],
            "log": str(self.log),
            "bug": self.bug,
            "folder": str(self.folder / f"bug-{next(self._starts)}"),
        }
        self.pid = self._zygote.fork(wanted)
        self._start = process_start(self.pid)
        record = wait_until(lambda: self._record() or (not self.is_alive() and {"dead": True}), "the service")
        if "dead" in record:
            assert plan is not None, f"the service ended by itself:\n{self.log.read_text()}"
            assert _actions(hits), f"the service ended by itself:\n{self.log.read_text()}"
        else:
            self.endpoint = Endpoint(record["url"], record["user_id"], record["api_key"])

    def let_go(self, gate: Path, number: int = 1) -> None:
        """Let that many processes go on that are held at a point."""
        with gate.open("a") as file:
            file.write("." * number)

    def is_alive(self) -> bool:
        """Whether the process is there."""
        return process_start(self.pid) is not None and process_start(self.pid) == self._start

    def kill(self) -> None:
        """End it as a crash would."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not self.is_alive(), "the death of the service")

    def stop(self) -> None:
        """Stop it properly; what runs goes on."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not self.is_alive(), "the end of the service")

    def end_everything(self) -> None:
        """Leave no process of it behind."""
        if self.is_alive():
            self.kill()
        kill_everything(self.home, self.ledger)

    # Failpoints

    def reached(self) -> Counter[str]:
        """How often each point was reached, by any process, under the plan of the last start that had one."""
        return Counter(name for name, _, _ in _lines(self._hits[-1]))

    def wait_for_hits(self, point: str, number: int) -> None:
        """Wait until a point was reached that often."""
        wait_until(lambda: self.reached()[point] >= number, f"hit {number} of {point}")

    def pretend(self, name: str, times: int) -> None:
        """Count that many further hits of a point, under the plan of the last start."""
        with self._hits[-1].open("a") as hits:
            hits.write(f"{name} 0 -\n" * times)

    def fired(self) -> list[str]:
        """The points at which the plans of all starts did something, and what."""
        return [action for hits in self._hits for action in _actions(hits)]

    # Requests

    def ask(self, query: str, **variables: Any) -> Any:
        """Ask once; return what the only field of the answer says."""
        answer = ask(self.endpoint, query, **variables)
        if answer.get("errors"):
            raise Refused(answer)
        (value,) = answer["data"].values()
        return value

    def insist(self, request: Callable[[], _T]) -> _T:
        """Send a request until it is answered, whichever process dies meanwhile and whatever the disk does."""
        while True:
            try:
                if not self.revive_if_dead():
                    return request()
            except Refused as refusal:
                if refusal.code != "UNAVAILABLE":
                    raise
            except CUT:
                wait_until(lambda: not self.is_alive(), f"the death of a service that does not answer: {self.fired()}")

    def revive_if_dead(self) -> bool:
        """Start the service again if it has died, under the next plan; return whether it had."""
        if self.is_alive():
            return False
        plan, *others = [*self._plans, None]
        self.start(plan, then=[each for each in others if each is not None])
        return True

    def start_run(self, script: str, arguments: str, *, key: str = "k" * 16, **settings: Any) -> dict[str, str]:
        """Start a run of a script, insisting; return its id and its name."""
        archive = _archive("run.py", script)
        digest = hashlib.sha256(archive).hexdigest()
        self.insist(lambda: self._upload(digest, archive))
        given = {
            "key": key,
            "snapshot": digest,
            "project": "p",
            "commitSha": "0" * 40,
            "script": "run.py",
            "scriptCommand": f"run.py {arguments}",
            "interpreter": sys.executable,
            "settings": {"entrypoint": "run.py", "scriptArgs": arguments, "cpus": 1, **settings},
        }
        query = "mutation($input: StartRunInput!) { startRun(input: $input) { run { id name } } }"
        run: dict[str, str] = self.insist(lambda: self.ask(query, input=given))["run"]
        return run

    def cancel(self, name: str) -> dict[str, list[str]]:
        """Cancel an experiment, insisting; return which have ended and which have yet to end."""
        query = "mutation($name: String!) { cancelExperiment(name: $name) { ended pending } }"
        answer: dict[str, list[str]] = self.insist(lambda: self.ask(query, name=name))
        return answer

    def retry(self, run_id: str, *, key: str = "r" * 16) -> None:
        """Run what has failed of a run again, insisting."""
        query = "mutation($input: RetryRunInput!) { retryRun(input: $input) { __typename } }"
        self.insist(lambda: self.ask(query, input={"id": run_id, "key": key}))

    def delete(self, run_id: str) -> None:
        """Delete a run, insisting."""
        query = "mutation($id: ID!) { deleteRun(id: $id) { deleted } }"
        self.insist(lambda: self.ask(query, id=run_id))

    def _upload(self, digest: str, archive: bytes) -> None:
        query = "mutation($input: SnapshotInput!) { createSnapshot(input: $input) { uploadPath } }"
        upload = self.ask(query, input={"digest": digest, "sizeBytes": len(archive)})["uploadPath"]
        if upload is not None:
            request = urllib.request.Request(self.endpoint.url + upload, archive, method="PUT")
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    assert answer.status == 204
            except urllib.error.HTTPError as error:
                with error:
                    raise Refused(json.load(error)) from None

    def _record(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, json.JSONDecodeError):
            record = json.loads((self.home / "service" / "service.json").read_text())
            if record["pid"] == self.pid:
                return record
        return {}


def _lines(hits: Path) -> list[list[str]]:
    with suppress(FileNotFoundError):
        return [line.split(" ") for line in hits.read_text().splitlines()]
    return []


def _actions(hits: Path) -> list[str]:
    return [f"{name}:{action}" for name, _, action in _lines(hits) if action != "-"]


def _archive(name: str, text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(text.encode())
        archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@contextmanager
def victim(zygote: Zygote, folder: Path, *options: str, template: Path | None = None) -> Iterator[Victim]:
    """Yield a service that is not started yet, and leave nothing of it behind but its files."""
    service = Victim(zygote, folder, *options, template=template)
    try:
        yield service
    finally:
        service.end_everything()
