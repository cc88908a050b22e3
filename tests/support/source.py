"""Source code as it is stored by a service, made and sent without the client, and runs of it."""

from __future__ import annotations

import hashlib
import http.client
import io
import itertools
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from grid import Run
from tests.support.requests import ask
from tests.support.services import ServiceProcess

_ANNOUNCE = "mutation($d: String!, $n: Float!) { createSnapshot(input: {digest: $d, sizeBytes: $n}) { uploadPath } }"
_START = "mutation($input: StartRunInput!) { startRun(input: $input) { run { name } warnings } }"

_keys = itertools.count()


@dataclass(frozen=True)
class Link:
    """A symbolic link in source code."""

    target: str


@dataclass(frozen=True)
class Program:
    """A file in source code that may be executed."""

    text: str


def stored(service: ServiceProcess, files: Mapping[str, str | Link | Program]) -> str:
    """Have a service store source code; return its digest."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as members:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            if isinstance(content, Link):
                member.type, member.linkname = tarfile.SYMTYPE, content.target
                members.addfile(member)
                continue
            text = (content.text if isinstance(content, Program) else content).encode()
            member.size, member.mode = len(text), 0o755 if isinstance(content, Program) else 0o644
            members.addfile(member, io.BytesIO(text))
    content = written.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    announced = ask(service.endpoint, _ANNOUNCE, d=digest, n=len(content))
    if (path := announced["data"]["createSnapshot"]["uploadPath"]) is not None:
        parts = urlsplit(service.endpoint.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        connection.request("PUT", path, content)
        assert connection.getresponse().status == 204
        connection.close()
    return digest


def asked(
    service: ServiceProcess, files: Mapping[str, str | Link | Program], script: str = "run.py", **given: Any
) -> dict[str, Any]:
    """Ask a service to start a run of source code; return its answer, errors and all.

    Fields of the input are given by the schema's names; all others are settings.
    """
    others = {name: given.pop(name) for name in ("importPaths", "interpreter") if name in given}
    entrypoint = given.pop("entrypoint", script)
    run = {
        "key": f"key-{next(_keys):016}",
        "snapshot": stored(service, files),
        "script": script,
        "interpreter": sys.executable,
        "settings": {"entrypoint": entrypoint, "cpus": 1, **given},
        **others,
    }
    return ask(service.endpoint, _START, input=run)


def begun(
    service: ServiceProcess, files: Mapping[str, str | Link | Program], script: str = "run.py", **given: Any
) -> tuple[Run, list[str]]:
    """Start a run as `asked` does; return it, with the service's warnings. There must be a session."""
    answer = asked(service, files, script, **given)
    started = answer["data"]["startRun"]
    return Run(started["run"]["name"]), started["warnings"]


def refusal(
    service: ServiceProcess, files: Mapping[str, str | Link | Program], script: str = "run.py", **given: Any
) -> str:
    """Ask for a run as `asked` does, which must be refused; return the message."""
    (error,) = asked(service, files, script, **given)["errors"]
    return str(error["message"])
