"""Serves an application over HTTP until it is told to stop, and announces its address in `$GRID_HOME/service`.

SIGTERM and SIGINT stop it, and running experiments continue unless the options say otherwise; SIGUSR1 also ends them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import uvicorn

from grid._version import __version__
from grid.service.command.home_lock import HeldHome, taken
from grid.service.command.shutdown import end_experiments
from grid.service.executors.supervisor import cgroups
from grid.service.http.app import Application
from grid.service.http.connection import HttpProtocol
from grid.service.http.guards import is_loopback
from grid.service.http.logs import limit_logs
from grid.service.http.websocket import WebSocketProtocol
from grid.service.store import experiment_rows
from grid.service.store.faults import DatabaseUnavailable, StatementFailed
from grid.service.system import gpus
from grid.service.system.settings import MAX_BODY_BYTES, OptionError, Options, TryLater
from grid.service.system.workspace import Workspace, write_private
from grid.service.system.world import World
from grid.shared import homes

_log = logging.getLogger(__name__)

_IDLE_CHECKS = 20
"""How many times within the idle time the service checks whether it is idle."""
_MAX_IDLE_CHECK_SECONDS = 5.0
"""How often, at least, it does that."""
_WATCH_SECONDS = 1.0
"""How often the service checks whether its home is still there, and whole."""


async def serve(options: Options, world: World | None = None) -> None:
    """Serve until a signal says to stop, or until the service has been idle for as long as the options say.

    Raises
    ------
    HomeRefused
        If the home cannot be used, or another service uses it.
    OptionError
        If the address or the database cannot be used.
    NotKept
        If the keeper that started it has been told to end.
    ExperimentsLeft
        If experiments were to end with it and some have not.
    """
    world = world or World()
    workspace = Workspace(options.home)
    with taken(workspace, kept_by=options.kept_by) as held, _socket(options) as listening:
        limit_logs()
        # Before the first of its processes is started: they belong where this one is.
        application = Application(options, world, limits_memory=cgroups.can_limit_memory())
        with _errors_explained(application):
            await application.open()
        # What there is by now, code above all, stays to the end. The garbage collector would look through it each time
        # that it looks through everything, and nothing else runs meanwhile: some 60 ms in place of 10.
        gc.collect()
        gc.freeze()
        try:
            async with _announced(application, held, workspace, listening) as url:
                orders = _Orders(with_experiments=options.stop_experiments)
                orders.listen()
                _log.info("serving %s at %s", options.home, url)
                if not is_loopback(options.host):
                    _log.warning("%s speaks plain HTTP: keys can be read in transit, see docs/security.md", url)
                await _serve_until_stopped(application, listening, held, orders)
        finally:
            await application.close()
        _log.info("stopped")


async def _serve_until_stopped(
    application: Application, listening: socket.socket, held: HeldHome, orders: _Orders
) -> None:
    while True:
        server = _Server(
            uvicorn.Config(
                application.asgi,
                http=HttpProtocol,
                ws=WebSocketProtocol,
                ws_per_message_deflate=False,  # some bytes of a client's would become a thousand times as many
                access_log=False,  # addresses of uploads are secrets
                log_config=None,
                log_level=logging.WARNING,  # below that it reports every WebSocket, with its address
                lifespan="off",
                server_header=False,
                ws_max_size=MAX_BODY_BYTES,
                timeout_graceful_shutdown=5,
            )
        )
        # uvicorn closes its duplicate. Ours stays open, so that clients that call meanwhile wait and are not refused.
        serving = asyncio.create_task(server.serve(sockets=[listening.dup()]))
        watching = asyncio.create_task(_watch(application, held))
        asked = asyncio.create_task(orders.asked.wait())
        await asyncio.wait({serving, watching, asked}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if orders.experiments_too:
                # It still serves: clients that wait for these experiments see how they end.
                await end_experiments(application, orders.insisted)
        finally:
            server.end()
            for task in (watching, asked):
                task.cancel()
            await asyncio.gather(watching, asked, return_exceptions=True)
            await serving
        if orders.asked.is_set():
            if orders.experiments_too:  # asked for while the last answers were sent; or already done
                await end_experiments(application, orders.insisted)
            return
        # A run may have been started between the check for idleness and the end of the last answer.
        if held.is_lost() or not await _has_work(application):
            return
        _log.info("there is work again: continuing to serve")


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling: it raises signals again at its end, which must be a regular end.

    Nor does it wake up ten times a second, which is nearly all that a service costs that has nothing to do.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Have it answer what it was asked, and return."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Wait until it is to end; meanwhile keep the time that answers have in their heads."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ending.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Orders:
    """What signals have asked for so far."""

    def __init__(self, *, with_experiments: bool) -> None:
        self._with_experiments = with_experiments
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self.experiments_too = False

    def listen(self) -> None:
        """Handle signals from now on, until the process ends."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._stop_experiments)

    def _stop(self) -> None:
        if self.asked.is_set():
            self.insisted.set()
        self.experiments_too = self.experiments_too or self._with_experiments
        self.asked.set()

    def _stop_experiments(self) -> None:
        self.experiments_too = True
        self.asked.set()


@contextmanager
def _socket(options: Options) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listening = socket.create_server((options.host, options.port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        message = f"cannot listen on {options.host}:{options.port}: {getattr(error, 'strerror', None) or error}"
        raise OptionError(message) from error
    with listening:
        # Accepted connections inherit this option. asyncio sets it only on sockets that it made itself; without it the
        # second part of an answer waits for 40 ms until the first is acknowledged.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listening


@contextmanager
def _errors_explained(application: Application) -> Iterator[None]:
    """Explain to the operator what keeps a service from starting."""
    try:
        yield
    except OSError as error:
        raise homes.explained(error, application.options.home) from error
    except DatabaseUnavailable as error:
        message = f"the database {application.database.name} cannot be used: it {error.fault.words}"
        raise (TryLater if error.fault.passes else OptionError)(message) from error


def _api_key(workspace: Workspace, world: World) -> str:
    """Return the key of this home's own user, the system account; make one if there is none."""
    path = workspace.service / homes.KEY
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        key = world.key()
        write_private(path, key.encode())
        return key


@asynccontextmanager
async def _announced(
    application: Application, held: HeldHome, workspace: Workspace, listening: socket.socket
) -> AsyncIterator[str]:
    """Let clients find the service, and yield its address."""
    host, world = application.options.host, application.world
    with ExitStack() as stack:
        with _errors_explained(application):
            _api_key(workspace, world)  # made if there is none
            # Read within a transaction, because `users rotate` replaces it within one: so the old key cannot come back.
            user = await application.add_user(world.account(), lambda: _api_key(workspace, world))
            url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
            record = {
                "url": url,
                "user_id": user.id,
                "username": user.name,
                "api_key": _api_key(workspace, world),
                "database": application.options.database,
                "version": __version__,
                # Which GPUs it was given: whoever finds it may have been given others.
                gpus.VISIBLE.lower(): os.environ.get(gpus.VISIBLE),
            }
            stack.enter_context(held.announced(record))
        yield url


async def _watch(application: Application, held: HeldHome) -> None:
    """Return when the service has been idle for long enough, or its home has been removed."""
    idle = application.options.idle_seconds
    pause = min(idle / _IDLE_CHECKS, _MAX_IDLE_CHECK_SECONDS) if idle else _MAX_IDLE_CHECK_SECONDS
    check_at = time.monotonic() + pause
    complaint = ""
    while True:
        await asyncio.sleep(min(pause, _WATCH_SECONDS))
        if held.is_lost():
            _log.warning("%s, or the lock in it, has been removed: stopping", application.options.home)
            return
        try:
            if made := held.renew():
                _log.warning("made again what was removed of %s: %s", application.options.home, ", ".join(made))
            complaint = ""
        except (OSError, homes.HomeRefused) as error:
            if complaint != str(error):  # said once, not every second
                complaint = str(error)
                _log.error("cannot make again what was removed of %s: %s", application.options.home, error)
        if time.monotonic() < check_at:
            continue
        check_at = time.monotonic() + pause
        try:
            if idle and await application.is_idle():
                _log.info("idle for %g s: stopping", idle)
                return
        except (DatabaseUnavailable, StatementFailed):
            _log.exception("cannot tell whether there is work to do; will check again")


async def _has_work(application: Application) -> bool:
    try:
        return await application.database.read(experiment_rows.is_any_unfinished)
    except (DatabaseUnavailable, StatementFailed):
        _log.exception("cannot tell whether there is work to do")
        return True
