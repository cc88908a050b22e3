"""Who may pause the cluster, which is everybody's, and who may resume it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grid.service.domain.accounts import Accounts, User
from grid.service.domain.errors import PauseRefused
from grid.service.store import cluster_rows, experiment_rows
from grid.service.store.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection


async def set_paused(database: Database, accounts: Accounts, user: User, cluster: str, *, paused: bool) -> None:
    """Pause a cluster or resume it, for a user; do nothing if that is done already.

    The operator may do both. A user may pause while an experiment of theirs is starting or running, and resume what
    they have paused themselves, or, while an experiment of theirs is running, what another user has. What the operator
    has paused only the operator resumes.

    Raises
    ------
    PauseRefused
        If the user may not.
    """

    def write(connection: Connection) -> None:
        state = cluster_rows.state(connection, cluster)
        is_own = state.paused and state.paused_by == user.id
        if is_own == paused and state.paused == paused:
            return  # they have done it before; the answer may have been lost
        if user.id != accounts.operator_id and not is_own:
            if state.paused and not paused and state.paused_by == accounts.operator_id:
                raise PauseRefused(cluster, "the operator has paused it")
            if not experiment_rows.has_active(connection, user.id):
                raise PauseRefused(cluster, "no experiment of yours is running")
            if state.paused and paused:
                return  # it remains that of whoever has paused it first
        cluster_rows.set_paused(connection, cluster, paused=paused, by=user.id)

    await database.write(write)
