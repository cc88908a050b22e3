"""An attempt's output as a file of the test's own, with all that the service makes of it, and no service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grid.service.executors.local_files import LocalFiles
from grid.service.executors.protocol import Written
from grid.service.results.index import Entry, Index
from grid.service.results.output import Output
from grid.service.results.pages import Begin, Page, Pages
from grid.service.system.workspace import Workspace

WRITTEN = Written("e", 1, 2)


class Attempt:
    """An attempt of a script that the test plays."""

    def __init__(self, home: Path) -> None:
        self.workspace = Workspace(home)
        self.workspace.prepare()
        self.files = LocalFiles(self.workspace)
        self.path = self.workspace.attempt("e", 1).output
        self.path.parent.mkdir(parents=True)
        self.index = self.workspace.log_index("e", 1)

    def print(self, content: bytes, at: int | None = None) -> None:
        """Append to the output, at a time in seconds."""
        with self.path.open("ab") as file:
            file.write(content)
        if at is not None:
            os.utime(self.path, (at, at))

    def output(self, *, is_new: bool = True) -> Output:
        """The output as a looker has it: of an attempt that begins now, or of an earlier service's."""
        return Output(self.files, WRITTEN, self.index, is_new=is_new)

    def entries(self) -> list[Entry]:
        """What is in the index, without the fingerprints."""
        if not self.index.exists():
            return []
        with Index(self.index) as found:
            return [entry._replace(fingerprint=0) for entry in found]

    def read(self, begin: Begin | None = None, *, has_ended: bool = True, **options: Any) -> Page:
        """Read a page, as a service without this attempt would."""
        return self.with_pages(lambda pages: pages.read(WRITTEN, begin or Begin(), has_ended=has_ended, **options))

    @staticmethod
    async def _with(made: Pages, use: Callable[[Pages], Any]) -> Any:
        try:
            return await use(made)
        finally:
            await made.close()

    def with_pages(self, use: Callable[[Pages], Any]) -> Any:
        """Have something done with pages."""

        async def main() -> Any:
            return await self._with(Pages(self.files, self.workspace), use)

        return asyncio.run(main())


def look(output: Output, now: float = 0.0, *, has_ended: bool = False) -> None:
    """Look until everything is read."""
    output.look(now, has_ended=has_ended)
    while not output.is_through:
        output.look(now, has_ended=has_ended)
