"""Serves an application over HTTP until it is told to stop, and says in `$GRID_HOME/service` where it is."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from grid._version import __version__
from grid.service.app import Application, opened
from grid.service.executors.supervisor import boot_id, process_start
from grid.service.options import MAX_BODY_BYTES, OptionError, Options
from grid.service.sources import Sources
from grid.service.workspace import PRIVATE_FILE, Workspace, write_private

_log = logging.getLogger(__name__)

_IDLE_CHECKS = 20
"""How many times within the idle time it is looked whether the service is idle."""


_LOCK_TRIES = 20
_LOCK_SECONDS = 0.01


class HomeInUse(RuntimeError):
    """Another service has this home."""


async def serve(options: Options, sources: Sources | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until the service has been idle for as long as the options say.

    Raises
    ------
    HomeInUse
        If another service has this home.
    OptionError
        If the address is not to be had.
    """
    sources = sources or Sources()
    workspace = Workspace(options.home)
    workspace.prepare()
    with _lock(workspace), _socket(options) as listening:
        async with opened(options, sources) as application:
            key = _api_key(workspace, sources)
            user = await application.add_user(sources.account(), key)
            url = f"http://{options.host}:{listening.getsockname()[1]}"
            record = {
                "url": url,
                "user_id": user.id,
                "username": user.name,
                "api_key": key,
                "pid": os.getpid(),
                "start": process_start(os.getpid()),
                "boot": boot_id(),
                "host": socket.gethostname(),
                "version": __version__,
            }
            server = uvicorn.Server(
                uvicorn.Config(
                    application.asgi,
                    access_log=False,  # addresses of uploads are secrets
                    log_config=None,
                    lifespan="off",
                    server_header=False,
                    ws_max_size=MAX_BODY_BYTES,
                    timeout_graceful_shutdown=5,
                )
            )
            async with _announced(workspace.service / "service.json", record), _idle_watch(application, server):
                _log.info("serving %s at %s", options.home, url)
                await server.serve(sockets=[listening])
            _log.info("stopped")


@contextmanager
def _lock(workspace: Workspace) -> Iterator[None]:
    descriptor = os.open(workspace.service / "service.lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        # A client that looks whether somebody holds the lock holds it itself for a moment.
        for last in (*[False] * _LOCK_TRIES, True):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if last:
                    message = f"another service has {workspace.home}: stop it, or choose another GRID_HOME"
                    raise HomeInUse(message) from None
                time.sleep(_LOCK_SECONDS)
        # What a service that was killed said of itself is not true any more.
        (workspace.service / "service.json").unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _socket(options: Options) -> Iterator[socket.socket]:
    try:
        listening = socket.create_server((options.host, options.port), backlog=512)
    except (OSError, OverflowError) as error:
        message = f"cannot listen on {options.host}:{options.port}: {getattr(error, 'strerror', None) or error}"
        raise OptionError(message) from error
    with listening:
        # What it accepts inherits this. asyncio sees to it only for sockets that it made itself; without it the second
        # part of an answer waits for 40 ms until the first is acknowledged.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listening


def _api_key(workspace: Workspace, sources: Sources) -> str:
    """The key of this home's own user, who is the system account."""
    path = workspace.service / "api-key"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        key = sources.key()
        write_private(path, key.encode())
        return key


@asynccontextmanager
async def _announced(path: Path, record: dict[str, Any]) -> AsyncIterator[None]:
    write_private(path, json.dumps(record, indent=2).encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - of one small file, at the very end


@asynccontextmanager
async def _idle_watch(application: Application, server: uvicorn.Server) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            await asyncio.sleep(application.options.idle_seconds / _IDLE_CHECKS)
            if await application.is_idle():
                _log.info("idle for %g s: stopping", application.options.idle_seconds)
                server.should_exit = True

    task = asyncio.create_task(watch()) if application.options.idle_seconds else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
