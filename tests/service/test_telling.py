"""What is told of logs when something changes between two looks of the service."""

from __future__ import annotations

import asyncio
from pathlib import Path

from grid.service.domain import lifecycle
from grid.service.domain.accounts import Accounts, User
from grid.service.domain.logs import Asked, Logs
from grid.service.executors.protocol import AttemptName, Ending
from grid.service.http.app import Application, opened
from grid.service.system.settings import Options
from grid.shared.wire import ExperimentStatus, Reason
from tests.support.experiments import insert_run


class Late(Accounts):
    """Lets an attempt end when it is asked who may read the run, which is after the run was looked up."""

    def __init__(self, application: Application, attempt: AttemptName) -> None:
        super().__init__(application.database, application.world)
        self._application = application
        self._attempt = attempt

    async def may_read(self, viewer: User, owner_id: str) -> bool:
        ending = Ending(Reason.EXIT_CODE, exit_code=0)
        await self._application.database.write(
            lambda connection: lifecycle.end(connection, self._attempt, ending, at=1)
        )
        return viewer.id == owner_id


def test_end_that_comes_while_it_is_asked_for(tmp_path: Path) -> None:
    """An attempt that ends then is told to end once, and no next one is told of."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1), starting=False) as application:
            (experiment,) = await application.database.write(
                lambda connection: insert_run(connection, ExperimentStatus.RUNNING)
            )
            folder = tmp_path / "home" / "experiments" / experiment / "attempt-1"
            folder.mkdir(parents=True)
            (folder / "output").write_text("one\n")
            accounts = Late(application, AttemptName(experiment, 1))
            service = application.service
            logs = Logs(application.database, accounts, service.changes, service.logs._pages, application.world)
            try:
                pieces, is_over = await logs.pieces(User("u", "u"), Asked("r0", after={experiment: "1:2"}))
            finally:
                accounts.close()
            assert [(piece.attempt, piece.page.count, piece.page.is_end) for piece in pieces] == [(1, 0, True)]
            assert is_over

    asyncio.run(play())
