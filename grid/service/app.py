"""The ASGI application: GraphQL, uploads, health; and what opens and closes with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import URL
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from grid._version import __version__
from grid.service.accounts import Accounts, User
from grid.service.api_errors import ApiError
from grid.service.catalogue import DEFAULT_PATH, Catalogue
from grid.service.changes import Changes
from grid.service.cluster import LocalCluster, Resources
from grid.service.executors.local import LocalExecutor
from grid.service.graphql_http import make_graphql_app
from grid.service.machine import cpu_count, gpu_count
from grid.service.options import OptionError, Options
from grid.service.resolvers import Context, Service, executable_schema
from grid.service.runs import Runs
from grid.service.scheduler import Scheduler
from grid.service.snapshots import Snapshots
from grid.service.sources import Sources
from grid.service.store import accounts, runs
from grid.service.store.database import Database
from grid.service.workspace import PRIVATE_FILE, Workspace
from grid.wire import API_VERSION, GRAPHQL_PATH, HEALTH_PATH, ErrorCode

_log = logging.getLogger(__name__)

_UPLOAD_STATUS = {ErrorCode.FORBIDDEN: 403, ErrorCode.LIMIT_EXCEEDED: 413}


class Application:
    """A service, ready to be opened: `asgi` answers once `open` has returned."""

    def __init__(self, options: Options, sources: Sources | None = None) -> None:
        self.options = options
        self.sources = sources or Sources()
        self.last_call = time.monotonic()

    async def open(self) -> None:
        """Open the database, go on with what an earlier service left, and start what is queued.

        Raises
        ------
        OptionError
            If the database or the catalogue of instance types cannot be used.
        """
        options = self.options
        try:
            catalogue = Catalogue.read(options.instance_types or DEFAULT_PATH)
        except (OSError, ValueError) as error:
            message = f"the catalogue of instance types cannot be read: {error}"
            raise OptionError(message) from error
        workspace = Workspace(options.home)
        workspace.prepare()
        await asyncio.to_thread(workspace.clear_incoming)
        if not options.database:
            # SQLite gives the files beside it the mode of the first.
            workspace.database.touch(PRIVATE_FILE)
        self.database = Database(options.database or URL.create("sqlite", database=str(workspace.database)))
        secret = await self.database.write(
            lambda connection: accounts.secret(connection, "uploads", self.sources.secret)
        )
        await self.database.write(lambda connection: accounts.add_cluster(connection, LocalCluster.name))
        resources = Resources(options.cpus or cpu_count(), gpu_count() if options.gpus is None else options.gpus)
        cluster = LocalCluster(catalogue, resources, options.home)
        changes = Changes()
        executor = LocalExecutor(workspace, grace_seconds=options.grace_seconds)
        scheduler = Scheduler(self.database, cluster, executor, changes, self.sources)
        snapshots = Snapshots(workspace, self.database, self.sources, secret)
        self.accounts = Accounts(self.database, self.sources)
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
                self.sources,
                max_experiments=options.max_experiments,
                honour_interpreter=options.embedded,
            ),
            changes=changes,
        )
        await scheduler.open()
        self.asgi = self._make_asgi()

    async def close(self) -> None:
        """Start nothing more and let go of everything; what runs goes on."""
        await self.service.scheduler.close()
        await asyncio.to_thread(self.database.close)

    async def add_user(self, name: str, key: str) -> User:
        """Return the user of that name, who is made where there is none, and who may call with that key."""
        return await self.accounts.ensure(name, key)

    async def is_idle(self) -> bool:
        """Whether nobody has called for the time that the options say, and nothing is queued or running."""
        if time.monotonic() - self.last_call < self.options.idle_seconds:
            return False
        return await self.database.read(runs.unfinished) == 0

    def _make_asgi(self) -> ASGIApp:
        graphql = make_graphql_app(executable_schema(), context_value=self._context)
        rest = Starlette(
            routes=[Route(HEALTH_PATH, self._health), Route("/snapshots/{digest}", self._upload, methods=["PUT"])]
        )

        async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
            # Not a Mount of Starlette's: that answers a path without a slash at its end with a redirect.
            app = graphql if scope.get("path") == GRAPHQL_PATH else rest
            await app(scope, receive, send)

        return asgi

    async def _context(self, request: HTTPConnection, _data: Any) -> Context:
        user = await self.accounts.authenticate(request.headers.get("authorization"))
        self.last_call = time.monotonic()
        return Context(self.service, user)

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__, "apiVersion": API_VERSION})

    async def _upload(self, request: Request) -> Response:
        self.last_call = time.monotonic()
        query = request.query_params
        try:
            await self.service.snapshots.receive(
                request.path_params["digest"],
                query.get("size", ""),
                query.get("expires", ""),
                query.get("signature", ""),
                request.stream(),
            )
        except ApiError as error:
            return JSONResponse({"errors": [error.formatted]}, status_code=_UPLOAD_STATUS.get(error.code, 400))
        except OSError as error:
            _log.exception("an upload cannot be kept")
            message = f"the service cannot keep the upload: {error.strerror or 'its disk does not take it'}"
            refusal = ApiError(ErrorCode.UNAVAILABLE, message)
            return JSONResponse({"errors": [refusal.formatted]}, status_code=507)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        return Response(status_code=204)


@contextlib.asynccontextmanager
async def opened(options: Options, sources: Sources | None = None) -> AsyncIterator[Application]:
    """Give an application that is open."""
    application = Application(options, sources)
    await application.open()
    try:
        yield application
    finally:
        await application.close()
