"""The application: the parts of a service, opened and closed together, and what answers at which address."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from grid._version import __version__
from grid.service.api.context import Context, Service
from grid.service.api.errors import ApiError
from grid.service.api.schema import executable_schema
from grid.service.domain.accounts import Accounts, User
from grid.service.domain.catalogue import DEFAULT_PATH, Catalogue
from grid.service.domain.changes import Changes
from grid.service.domain.deletions import Deletions
from grid.service.domain.errors import Unauthenticated
from grid.service.domain.forecast import Forecasts
from grid.service.domain.local_cluster import LocalCluster
from grid.service.domain.logs import Logs
from grid.service.domain.runs import Runs
from grid.service.domain.scheduler import Scheduler
from grid.service.domain.snapshots import Snapshots
from grid.service.executors.local import LocalExecutor
from grid.service.http import bundles, downloads, guards, uploads
from grid.service.http.authorization import claimed_user, credentials
from grid.service.http.bodies import limit_body
from grid.service.http.graphql_http import make_graphql_app
from grid.service.results.artifacts import Artifacts
from grid.service.results.contents import Contents
from grid.service.results.digests import Digests
from grid.service.results.pages import Pages
from grid.service.store import cluster_rows, experiment_rows, queue_rows, secret_rows
from grid.service.store.database import Database
from grid.service.store.pairing import pair
from grid.service.system.addresses import Addresses
from grid.service.system.settings import OptionError, Options
from grid.service.system.workspace import Workspace
from grid.service.system.world import World
from grid.shared.wire import API_VERSION, GRAPHQL_PATH, HEALTH_PATH, ErrorCode, experiment_name

_READ = ("GET", "HEAD")
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Application:
    """A service. Its `asgi` can be served once `open` has returned.

    Parameters
    ----------
    options
        How it is set up.
    world
        What it takes from the world; by default, the real one.
    limits_memory
        Whether this process is where the memory of what it starts can be limited.
    """

    def __init__(self, options: Options, world: World | None = None, *, limits_memory: bool = False) -> None:
        self.options = options
        self.limits_memory = limits_memory
        self.world = world or World()
        self.last_call = time.monotonic()
        self.transfers = 0
        self.failed_logins = guards.FailedLogins()

    async def open(self, *, starting: bool = True) -> None:
        """Open the database, take over the experiments of an earlier service, and start queued ones.

        Parameters
        ----------
        starting
            Whether to start queued experiments.

        Raises
        ------
        OptionError
            If the database, the catalogue of instance types or as many GPUs as the options say cannot be used. Nothing
            stays open then.
        """
        async with contextlib.AsyncExitStack() as parts:
            await self._open(parts, starting=starting)
            self._parts = parts.pop_all()

    async def _open(self, parts: contextlib.AsyncExitStack, *, starting: bool) -> None:
        options = self.options
        try:
            catalogue = Catalogue.read(options.instance_types or DEFAULT_PATH)
        except (OSError, ValueError) as error:
            message = f"the catalogue of instance types cannot be read: {error}"
            raise OptionError(message) from error
        workspace = Workspace(options.home)
        workspace.prepare()
        await asyncio.to_thread(workspace.clear_incoming)
        self.database = Database(options.database or workspace.database)
        parts.push_async_callback(asyncio.to_thread, self.database.close)
        if options.database:
            await pair(self.database, workspace)
        secret = await self.database.write(
            lambda connection: secret_rows.secret(connection, "uploads", self.world.secret)
        )
        machine = await asyncio.to_thread(self.world.machine)
        cluster = LocalCluster.of(machine, options, catalogue, workspace, limits_memory=self.limits_memory)
        await self.database.write(lambda connection: cluster_rows.add(connection, cluster.name))
        changes = Changes()
        signing = await self.database.write(
            lambda connection: secret_rows.secret(connection, "records", self.world.secret)
        )
        executor = LocalExecutor(workspace, signing, grace_seconds=options.grace_seconds)
        pages = Pages(executor.files, workspace)
        parts.push_async_callback(pages.close)
        scheduler = Scheduler(self.database, cluster, executor, changes, self.world, pages.looker)
        addresses = Addresses(secret, self.world)
        snapshots = Snapshots(workspace, self.database, self.world, addresses)
        digests = Digests(executor.files, workspace)
        parts.callback(digests.close)
        artifacts = Artifacts(executor.files, digests, addresses)
        parts.callback(artifacts.close)
        contents = Contents(executor.files, digests)
        parts.callback(contents.close)
        self.accounts = Accounts(self.database, self.world)
        parts.callback(self.accounts.close)
        self.deletions = Deletions(self.database, executor, snapshots)
        parts.push_async_callback(self.deletions.close)
        self.service = Service(
            options=options,
            database=self.database,
            cluster=cluster,
            scheduler=scheduler,
            snapshots=snapshots,
            runs=Runs(
                self.database,
                cluster,
                scheduler,
                snapshots,
                changes,
                self.world,
                self.accounts,
                self.deletions,
                max_experiments=options.max_experiments,
                honour_interpreter=options.embedded,
            ),
            accounts=self.accounts,
            forecasts=Forecasts(cluster, self.world),
            changes=changes,
            logs=Logs(self.database, self.accounts, changes, pages, self.world),
            artifacts=artifacts,
            contents=contents,
            addresses=addresses,
        )
        parts.push_async_callback(scheduler.close)
        await scheduler.open(starting=starting)
        self.deletions.open()
        self.asgi = self._make_asgi()

    async def close(self) -> None:
        """Start no more experiments and release everything; running experiments continue."""
        await self._parts.aclose()

    async def stop_experiments(self) -> None:
        """Start no more experiments, end all running ones, and return when their ends are recorded."""
        await self.service.scheduler.stop_experiments()

    async def running_experiments(self) -> list[str]:
        """Return the names of the experiments that have been started and have no recorded end."""
        return [experiment_name(row.run_name, row.index) for row in await self.database.read(queue_rows.active)]

    async def add_user(self, name: str, key: str | Callable[[], str]) -> User:
        """Return the user of this name, who may call with this key from now on; add the user if there is none."""
        return await self.accounts.ensure(name, key)

    async def is_idle(self) -> bool:
        """Whether there were no calls for the idle time of the options, and nothing is queued or running."""
        if self.transfers or time.monotonic() - self.last_call < self.options.idle_seconds:
            return False
        return not await self.database.read(experiment_rows.is_any_unfinished)

    def _make_asgi(self) -> ASGIApp:
        graphql = make_graphql_app(executable_schema(), context_value=self._context)
        places: list[tuple[re.Pattern[str], tuple[str, ...], ASGIApp]] = [
            (re.compile(re.escape(HEALTH_PATH)), _READ, _health),
            (uploads.PATH, uploads.METHODS, self._transfer(uploads.answer)),
            (downloads.PATH, downloads.METHODS, self._transfer(downloads.answer)),
            (bundles.PATH, bundles.METHODS, limit_body(self._transfer(bundles.answer))),
        ]

        async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"]
            if path == GRAPHQL_PATH:
                await graphql(scope, receive, send)
                return
            for pattern, methods, app in places if scope["type"] == "http" else ():
                if pattern.fullmatch(path):
                    if scope["method"] in methods:
                        await app(scope, receive, send)
                        return
                    allowed = ", ".join(methods)
                    error = ApiError(ErrorCode.BAD_REQUEST, f"this address answers {allowed} only")
                    headers = [(b"allow", allowed.encode())]
                    await guards.refuse(scope, send, HTTPStatus.METHOD_NOT_ALLOWED, error, headers)
                    return
            message = f"there is nothing at this address: GraphQL is at {GRAPHQL_PATH}"
            await guards.refuse(scope, send, HTTPStatus.NOT_FOUND, ApiError(ErrorCode.BAD_REQUEST, message))

        return guards.guarded(asgi, self.options)

    def _transfer(self, answer: Callable[[Service, Request], Awaitable[Response]]) -> ASGIApp:
        async def transfer(scope: Scope, receive: Receive, send: Send) -> None:
            self.transfers += 1  # one may take longer than the idle time
            try:
                response = await answer(self.service, Request(scope, receive))
                await response(scope, receive, send)
            finally:
                self.transfers -= 1
            if response.status_code not in _REFUSED:  # somebody without a signed address keeps no service awake
                self.last_call = time.monotonic()

        return transfer

    async def _context(self, request: HTTPConnection, _data: Any) -> Context:
        authorization = request.headers.get("authorization")
        try:
            user = await self.accounts.authenticate(*credentials(authorization))
        except (ApiError, Unauthenticated):
            address = request.client.host if request.client else ""
            wait = math.ceil(self.failed_logins.note(address, claimed_user(authorization)))
            if wait:
                message = f"too many wrong keys were sent: try again in {wait} s"
                raise ApiError(ErrorCode.TOO_MANY_REQUESTS, message, {"retryAfterSeconds": wait}) from None
            raise
        self.last_call = time.monotonic()
        return Context(self.service, user)


async def _health(scope: Scope, receive: Receive, send: Send) -> None:
    said = {"status": "ok", "version": __version__, "apiVersion": API_VERSION}
    await JSONResponse(said)(scope, receive, send)


@contextlib.asynccontextmanager
async def opened(options: Options, world: World | None = None, *, starting: bool = True) -> AsyncIterator[Application]:
    """Yield an open application, and close it at the end; `starting` is passed to `Application.open`."""
    application = Application(options, world)
    await application.open(starting=starting)
    try:
        yield application
    finally:
        await application.close()
