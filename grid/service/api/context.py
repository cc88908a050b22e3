"""What resolvers are given: the service behind them, the user who asks, and the owner of the runs they ask for."""

from __future__ import annotations

from dataclasses import dataclass

from graphql import GraphQLResolveInfo

from grid.service.domain.accounts import Accounts, User
from grid.service.domain.changes import Changes
from grid.service.domain.cluster import Cluster
from grid.service.domain.forecast import Forecasts
from grid.service.domain.logs import Logs
from grid.service.domain.runs import Runs
from grid.service.domain.scheduler import Scheduler
from grid.service.domain.snapshots import Snapshots
from grid.service.results.artifacts import Artifacts
from grid.service.results.contents import Contents
from grid.service.store.database import Database
from grid.service.system.addresses import Addresses
from grid.service.system.settings import Options

Info = GraphQLResolveInfo
"""Its `context` is a `Context`."""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of an open application that resolvers call: the domain, and the database for plain reads."""

    options: Options
    database: Database
    cluster: Cluster
    scheduler: Scheduler
    snapshots: Snapshots
    runs: Runs
    accounts: Accounts
    forecasts: Forecasts
    changes: Changes
    logs: Logs
    artifacts: Artifacts
    contents: Contents
    addresses: Addresses


@dataclass(frozen=True, slots=True)
class Context:
    """The user who makes a request, and the service that answers it. Each operation has its own."""

    service: Service
    user: User


async def readable_owner(info: Info, owner: str | None) -> User | None:
    """Return the owner of the runs asked for, the viewer if no owner is named; None if the viewer may not read them."""
    user: User | None = await info.context.service.accounts.readable(info.context.user, owner)
    return user
