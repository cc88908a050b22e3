"""Test that the service conforms to GraphQL over HTTP, by the reference audit (the npm package `graphql-http`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from ariadne import make_executable_schema

from grid.service.api.errors import ApiError
from grid.service.http.graphql_http import make_graphql_app
from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIT = Path(__file__).parent / "audit"
SCHEMA = Path(__file__).parents[2] / "schema.graphql"
KEY = "Basic audit"


async def context(request: Any, _params: dict[str, Any]) -> None:
    """Accept only the key of the audit."""
    if request.headers.get("authorization") != KEY:
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the key is not known")


@contextmanager
def serving() -> Iterator[str]:
    """Serve the real schema on a free port of this machine."""
    app = make_graphql_app(make_executable_schema(SCHEMA.read_text(encoding="utf-8")), context_value=context)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    try:
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}/graphql"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Return the folder of the audit, with its dependencies installed."""
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed: the audit of GraphQL over HTTP runs on Node")
    if (AUDIT / "node_modules" / "graphql-http").is_dir():
        return AUDIT
    copy = tmp_path / "audit"
    shutil.copytree(AUDIT, copy)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    outcome = subprocess.run(install, cwd=copy, capture_output=True, text=True, timeout=180, check=False)
    if outcome.returncode:
        reason = f"the audit's packages cannot be installed:\n{outcome.stderr}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return copy


def test_every_audit_passes(audit: Path) -> None:
    """Every MUST, SHOULD and MAY of the reference audit is met."""
    with serving() as url:
        command = ["node", str(audit / "audit.mjs"), url]
        environment = {**os.environ, "GRID_AUDIT_AUTHORIZATION": KEY}
        outcome = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 0, outcome.stderr
    results = json.loads(outcome.stdout)
    words = {result["name"].split()[0] for result in results}
    assert {"MUST", "SHOULD"} <= words
    failed = [f"{result['id']} {result['name']}: {result['reason']}" for result in results if result["status"] != "ok"]
    assert failed == []
